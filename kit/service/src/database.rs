//! The database of one service: SQLite with one writer and a pool of readers,
//! or a PostgreSQL pool. Callers see no difference.

use std::time::Duration;

pub use sea_orm::DbErr;
use sea_orm::sqlx;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaDatabase, DatabaseConnection,
    DatabaseTransaction, RuntimeErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const READERS: u32 = 4;
/// PostgreSQL waits this long for a lock.
const LOCK_TIMEOUT: &str = "5s";
const IDLE_TRANSACTION_TIMEOUT: &str = "30s";

/// What a PostgreSQL pool may hold.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    pub connections: u32,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { connections: 10 }
    }
}

/// A service's database.
#[derive(Debug, Clone)]
pub struct Database {
    read: DatabaseConnection,
    write: DatabaseConnection,
}

impl Database {
    /// Connects to `sqlite://PATH` or `postgres://...`, creating an SQLite
    /// file that does not exist. A PostgreSQL URL takes libpq's TLS parameters:
    /// `sslmode` (`prefer` by default; `verify-full` is the safe one),
    /// `sslrootcert`, `sslcert` and `sslkey`.
    ///
    /// # Errors
    /// If the URL names neither, or the database cannot be opened.
    pub async fn connect(url: &str, pool: &PoolOptions) -> Result<Self, DbErr> {
        if url.starts_with("sqlite:") {
            // One writer: SQLite allows no more, and waiting in the pool's
            // queue is fair, where its busy handler is not.
            let write = SeaDatabase::connect(sqlite(url, 1)).await?;
            let read = SeaDatabase::connect(sqlite(url, READERS)).await?;
            Ok(Self { read, write })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let mut options = ConnectOptions::new(url);
            options
                .max_connections(pool.connections)
                .connect_timeout(ACQUIRE_TIMEOUT)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .statement_timeout(STATEMENT_TIMEOUT)
                .sqlx_logging(false)
                .map_sqlx_postgres_opts(|options| {
                    options.application_name("stoa").options([
                        ("lock_timeout", LOCK_TIMEOUT),
                        (
                            "idle_in_transaction_session_timeout",
                            IDLE_TRANSACTION_TIMEOUT,
                        ),
                    ])
                });
            let connection = SeaDatabase::connect(options).await?;
            Ok(Self {
                read: connection.clone(),
                write: connection,
            })
        } else {
            Err(DbErr::Custom(
                "a database URL begins with sqlite:// or postgres://".to_owned(),
            ))
        }
    }

    /// Brings the schema up to date. Two processes that start together take
    /// turns.
    ///
    /// # Errors
    /// If a migration fails; none is left half done.
    pub async fn migrate<M: MigratorTrait>(&self) -> Result<(), DbErr> {
        let txn = self.begin().await?;
        if txn.get_database_backend() == sea_orm::DbBackend::Postgres {
            // No timeouts: the other processes wait for as long as it takes, and a
            // table rewrite may take long.
            txn.execute_unprepared(
                "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(7824101)",
            )
            .await?;
        }
        M::up(&txn, None).await?;
        txn.commit().await
    }

    /// For reading outside a transaction.
    pub fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// Begins a transaction that may write. It holds the write lock from the
    /// start: one that reads first and locks later fails under load.
    ///
    /// # Errors
    /// If no connection is free within ten seconds.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.write
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            })
            .await
    }

    /// Whether the database responds.
    pub async fn is_ready(&self) -> bool {
        self.read.ping().await.is_ok()
    }

    /// Closes the connections; what was committed stays.
    pub async fn close(&self) {
        let _ = self.read.close_by_ref().await;
        let _ = self.write.close_by_ref().await;
    }
}

/// Whether the database is unavailable, rather than rejecting the statement: waiting
/// may help.
pub fn is_unavailable(error: &DbErr) -> bool {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return matches!(error, DbErr::ConnectionAcquire(_));
    };
    let RuntimeErr::SqlxError(cause) = cause else {
        return false;
    };
    match &**cause {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        // SQLSTATE: 08 connection, 53 resources, 57 operator intervention (a
        // server that starts or stops, a timeout), 58 system error, 25P03 idle
        // transaction timeout, 25006 read-only standby, 40 serialization failure
        // and deadlock, 55P03 lock not available.
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
            ["08", "53", "57", "58", "25P03", "25006", "40", "55P03"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Whether a database that cannot be opened may become available: it is unavailable,
/// or has not been created yet.
pub fn may_become_available(error: &DbErr) -> bool {
    const NO_SUCH_DATABASE: &str = "3D000";
    let missing = matches!(
        error,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
            if matches!(&**cause, sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some(NO_SUCH_DATABASE))
    );
    missing || is_unavailable(error)
}

fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|options| {
            options
                .create_if_missing(true)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(ACQUIRE_TIMEOUT)
        });
    options
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;
    use std::sync::Arc;

    use sea_orm::ConnAcquireErr;
    use sea_orm::sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What a server says, by its SQLSTATE.
    #[derive(Debug)]
    struct Refusal(&'static str);

    impl fmt::Display for Refusal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Refusal {}

    impl DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn runtime(error: sqlx::Error) -> RuntimeErr {
        RuntimeErr::SqlxError(Arc::new(error))
    }

    fn refused(state: &'static str) -> RuntimeErr {
        runtime(sqlx::Error::Database(Box::new(Refusal(state))))
    }

    #[test]
    fn a_database_is_unavailable_when_waiting_may_help() {
        let unavailable = [
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            DbErr::Conn(runtime(sqlx::Error::Io(std::io::Error::other("reset")))),
            DbErr::Query(runtime(sqlx::Error::PoolTimedOut)),
            DbErr::Exec(runtime(sqlx::Error::PoolClosed)),
        ];
        for error in unavailable {
            assert!(is_unavailable(&error), "{error}");
        }
        let rejected = [
            DbErr::Custom("nonsense".to_owned()),
            DbErr::RecordNotFound("idempotency".to_owned()),
            DbErr::Query(runtime(sqlx::Error::RowNotFound)),
            DbErr::Exec(RuntimeErr::Internal("nonsense".to_owned())),
        ];
        for error in rejected {
            assert!(!is_unavailable(&error), "{error}");
        }
    }

    #[test]
    fn the_state_of_a_server_says_whether_waiting_may_help() {
        let states = [
            // The server stops, has too many connections, was cut off, a deadlock, a lock.
            ("57P01", true),
            ("53300", true),
            ("08006", true),
            ("40P01", true),
            ("40001", true),
            ("55P03", true),
            ("25P03", true),
            ("25006", true),
            // A constraint, a missing table, a transaction that has failed.
            ("23505", false),
            ("42P01", false),
            ("25P02", false),
            ("55000", false),
        ];
        for (state, expected) in states {
            let errors = [
                DbErr::Exec(refused(state)),
                DbErr::Query(refused(state)),
                DbErr::Conn(refused(state)),
            ];
            for error in errors {
                assert_eq!(is_unavailable(&error), expected, "{state}");
                assert_eq!(may_become_available(&error), expected, "{state}");
            }
        }
    }

    #[test]
    fn a_database_that_is_missing_may_still_be_created() {
        let missing = DbErr::Conn(refused("3D000"));
        assert!(may_become_available(&missing));
        assert!(!is_unavailable(&missing));
        let wrong_password = DbErr::Conn(refused("28P01"));
        assert!(!may_become_available(&wrong_password));
    }

    #[tokio::test]
    async fn a_url_names_sqlite_or_postgresql() {
        for url in ["", "mysql://host/db", "data/users.db"] {
            let refused = Database::connect(url, &PoolOptions::default()).await;
            assert!(
                matches!(refused, Err(DbErr::Custom(message)) if message.contains("sqlite://")),
                "{url}"
            );
        }
    }
}
