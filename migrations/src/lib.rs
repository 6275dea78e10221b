//! One migrator per service, for SQLite and PostgreSQL.
