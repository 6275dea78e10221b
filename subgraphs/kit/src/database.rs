//! The database of one service: SQLite with one writer and a pool of readers,
//! or a PostgreSQL pool. Code above sees no difference.

use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database as SeaDatabase, DatabaseConnection, DatabaseTransaction, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 10;

/// A service's database.
#[derive(Debug, Clone)]
pub struct Database {
    read: DatabaseConnection,
    write: DatabaseConnection,
}

impl Database {
    /// Connects to `sqlite://PATH` or `postgres://...`, making an SQLite file
    /// that is not there.
    ///
    /// # Errors
    /// If the URL names neither, or the database cannot be opened.
    pub async fn connect(url: &str) -> Result<Self, DbErr> {
        if url.starts_with("sqlite:") {
            // One writer: SQLite allows no more, and waiting for a turn in our
            // own queue is fair where its busy handler is not.
            let write = SeaDatabase::connect(sqlite(url, 1)).await?;
            let read = SeaDatabase::connect(sqlite(url, READERS)).await?;
            Ok(Self { read, write })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let mut options = ConnectOptions::new(url);
            options
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .statement_timeout(STATEMENT_TIMEOUT)
                .sqlx_logging(false);
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
            txn.execute_unprepared("SELECT pg_advisory_xact_lock(7824101)")
                .await?;
        }
        M::up(&txn, None).await?;
        txn.commit().await
    }

    /// For reading outside a transaction.
    pub fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// Begins a transaction that may write. It holds the write lock from its
    /// first moment: one that reads first and locks later fails under load.
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

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        self.read.ping().await.is_ok()
    }

    /// Closes the connections; what was committed stays.
    pub async fn close(&self) {
        let _ = self.read.close_by_ref().await;
        let _ = self.write.close_by_ref().await;
    }
}

use sea_orm::ConnectionTrait;

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
