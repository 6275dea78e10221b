//! Mutations that must happen once. A client's key is claimed in the same
//! transaction as the change, or, where the change spans services, before it;
//! the result is stored, and returned again to a caller that repeats the request.
//!
//! Keys are scoped to the caller and expire after [`RETENTION`]. The table is
//! `idempotency` in the service's own database.

use std::time::Duration;

use data_encoding::HEXLOWER;
use sea_orm::{ConnectionTrait, DbErr, Statement};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::purge::{self, BATCH};
use stoa_runtime::clock::{Clock, Micros, micros};

/// How long an attempt may run before another may take it over.
pub const LEASE: Duration = Duration::from_secs(30);
/// How long a key is remembered; after that it may be used for another request.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_KEY: usize = 128;

/// The outcome of claiming a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The key is new, or its last attempt was abandoned: proceed, with this subject.
    Acquired {
        subject_id: String,
        /// When the claim expires; it also identifies this attempt.
        lease: Micros,
    },
    /// Completed before, with this result.
    Done { answer: String },
    /// Another attempt is in progress.
    InProgress,
    /// The key was used for another request.
    Reused,
}

impl ClaimOutcome {
    /// The lease of an attempt that may proceed; 0 for any other outcome.
    pub fn lease(&self) -> Micros {
        match self {
            Self::Acquired { lease, .. } => *lease,
            _ => 0,
        }
    }
}

/// A caller's idempotency key, and the operation and body that it is used for.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    caller: String,
    key: String,
    operation: &'static str,
    body_hash: String,
}

impl IdempotencyKey {
    /// `None` if the key is empty, longer than 128 characters, or holds control
    /// characters.
    pub fn new(
        caller: &str,
        key: &str,
        operation: &'static str,
        body: &impl Serialize,
    ) -> Option<Self> {
        if key.trim().is_empty()
            || key.chars().count() > MAX_KEY
            || key.chars().any(char::is_control)
        {
            return None;
        }
        let body = serde_json::to_vec(body).unwrap_or_default();
        let body_hash = HEXLOWER.encode(&Sha256::digest(&body));
        Some(Self {
            caller: caller.to_owned(),
            key: key.to_owned(),
            operation,
            body_hash,
        })
    }

    /// Claims the key; `subject_id` is kept as the subject of a first attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        subject_id: &str,
        now: Micros,
    ) -> Result<ClaimOutcome, DbErr> {
        let lease = now + micros(LEASE);
        // Takes a new key, or one that has expired and has no attempt in progress.
        // One statement: a concurrent first attempt waits for this one, and finds its row below.
        let inserted = txn
            .execute_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "INSERT INTO idempotency (caller, key, operation, body_hash, subject_id, lease_until, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (caller, key) DO UPDATE SET operation = excluded.operation, body_hash = excluded.body_hash, subject_id = excluded.subject_id, answer = NULL, lease_until = excluded.lease_until, created_at = excluded.created_at WHERE idempotency.created_at < $8 AND idempotency.lease_until < $7",
                [
                    self.caller.clone().into(),
                    self.key.clone().into(),
                    self.operation.into(),
                    self.body_hash.clone().into(),
                    subject_id.into(),
                    lease.into(),
                    now.into(),
                    expired_before(now).into(),
                ],
            ))
            .await?
            .rows_affected();
        if inserted == 1 {
            return Ok(ClaimOutcome::Acquired {
                subject_id: subject_id.to_owned(),
                lease,
            });
        }
        let row = txn
            .query_one_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "SELECT operation, body_hash, subject_id, answer, lease_until FROM idempotency WHERE caller = $1 AND key = $2",
                [self.caller.clone().into(), self.key.clone().into()],
            ))
            .await?
            .ok_or_else(|| DbErr::RecordNotFound("idempotency".to_owned()))?;
        let operation: String = row.try_get("", "operation")?;
        let body_hash: String = row.try_get("", "body_hash")?;
        // A key stands for one request: a repetition must be of the same one.
        if operation != self.operation || body_hash != self.body_hash {
            return Ok(ClaimOutcome::Reused);
        }
        // Before the lease, which may still run after the result is stored.
        if let Some(answer) = row.try_get::<Option<String>>("", "answer")? {
            return Ok(ClaimOutcome::Done { answer });
        }
        let until: i64 = row.try_get("", "lease_until")?;
        if until > now {
            return Ok(ClaimOutcome::InProgress);
        }
        // The lease has expired: take it over, unless another attempt just did.
        let taken = txn
            .execute_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "UPDATE idempotency SET lease_until = $3 WHERE caller = $1 AND key = $2 AND lease_until = $4 AND answer IS NULL",
                [
                    self.caller.clone().into(),
                    self.key.clone().into(),
                    lease.into(),
                    until.into(),
                ],
            ))
            .await?
            .rows_affected();
        if taken == 1 {
            Ok(ClaimOutcome::Acquired {
                // The first attempt's: what it has done is continued under the same id.
                subject_id: row.try_get("", "subject_id")?,
                lease,
            })
        } else {
            Ok(ClaimOutcome::InProgress)
        }
    }

    /// Stores the result; false if another attempt already did.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        answer: &impl Serialize,
    ) -> Result<bool, DbErr> {
        let answer =
            serde_json::to_string(answer).map_err(|error| DbErr::Custom(error.to_string()))?;
        let stored = txn
            .execute_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "UPDATE idempotency SET answer = $3 WHERE caller = $1 AND key = $2 AND answer IS NULL",
                [
                    self.caller.clone().into(),
                    self.key.clone().into(),
                    answer.into(),
                ],
            ))
            .await?
            .rows_affected();
        Ok(stored == 1)
    }

    /// The stored result of the key.
    ///
    /// # Errors
    /// If the database fails, or nothing is stored yet.
    pub async fn stored_result_in_txn<C: ConnectionTrait>(&self, txn: &C) -> Result<String, DbErr> {
        let row = txn
            .query_one_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "SELECT answer FROM idempotency WHERE caller = $1 AND key = $2 AND answer IS NOT NULL",
                [self.caller.clone().into(), self.key.clone().into()],
            ))
            .await?
            .ok_or_else(|| DbErr::RecordNotFound("idempotency".to_owned()))?;
        row.try_get("", "answer")
    }

    /// Lets the next attempt begin at once, after one without a result; an attempt that
    /// has taken over meanwhile is not affected.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn release_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        lease: Micros,
    ) -> Result<(), DbErr> {
        txn.execute_raw(Statement::from_sql_and_values(
            txn.get_database_backend(),
            "UPDATE idempotency SET lease_until = 0 WHERE caller = $1 AND key = $2 AND answer IS NULL AND lease_until = $3",
            [
                self.caller.clone().into(),
                self.key.clone().into(),
                lease.into(),
            ],
        ))
        .await?;
        Ok(())
    }
}

fn expired_before(now: Micros) -> Micros {
    now - micros(RETENTION)
}

/// Deletes expired keys at intervals, until the process ends.
pub async fn run_purge(database: Database, clock: Clock) {
    let (database, clock) = (&database, &clock);
    purge::run_purge("idempotency keys", || purge_expired(database, clock.now())).await;
}

/// Deletes a batch of expired keys; returns how many.
///
/// # Errors
/// If the database fails.
pub async fn purge_expired(database: &Database, now: Micros) -> Result<u64, DbErr> {
    let txn = database.begin().await?;
    let sql = format!(
        "DELETE FROM idempotency WHERE (caller, key) IN (SELECT caller, key FROM idempotency WHERE created_at < $1 AND lease_until < $2 LIMIT {BATCH})"
    );
    let values = [expired_before(now).into(), now.into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let deleted = txn.execute_raw(statement).await?.rows_affected();
    txn.commit().await?;
    Ok(deleted)
}
