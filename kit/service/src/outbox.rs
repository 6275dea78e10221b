//! The transactional outbox: an event is a row that commits with the change it
//! describes. A relay publishes the rows in order; a crash anywhere loses nothing,
//! and the bus recognises events that are published again.
//!
//! Every service's database has the table `outbox`.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};
use stoa_schema::events::{Event, Payload};
use tokio::sync::Notify;
use tracing::Instrument;

use crate::bus::{Bus, BusError, Publish};
use crate::database::Database;
use stoa_runtime::backoff::Backoff;
use stoa_runtime::clock::{self, Clock, Micros};
use stoa_runtime::telemetry;

const BATCH: i64 = 100;
/// How long a row may wait if the wake-up for it was lost.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a conflict, which lets the faster relay go first.
const AFTER_CONFLICT: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Appends an event in the caller's transaction.
///
/// # Errors
/// If the row cannot be written; the transaction must then not commit.
pub async fn outbox_append_in_txn<C: ConnectionTrait, T: Payload>(
    txn: &C,
    payload: T,
    version: u64,
    now: Micros,
    correlation_id: Option<&str>,
) -> Result<(), DbErr> {
    let subject = payload.bus_subject();
    let aggregate = payload.aggregate().to_owned();
    let event = Event {
        specversion: "1.0".to_owned(),
        id: stoa_schema::ids::new_id(),
        source: T::SOURCE.to_owned(),
        kind: T::KIND.to_owned(),
        subject: aggregate.clone(),
        time: clock::to_rfc3339(now),
        aggregateversion: version,
        correlationid: correlation_id.map(str::to_owned),
        traceparent: stoa_runtime::telemetry::traceparent(),
        data: payload,
    };
    let json = serde_json::to_string(&event).map_err(|error| DbErr::Custom(error.to_string()))?;
    txn.execute_raw(Statement::from_sql_and_values(
        txn.get_database_backend(),
        "INSERT INTO outbox (message_id, subject, aggregate_id, aggregate_version, payload, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            event.id.into(),
            subject.into(),
            aggregate.into(),
            i64::try_from(version).unwrap_or(i64::MAX).into(),
            json.into(),
            now.into(),
        ],
    ))
    .await?;
    Ok(())
}

/// Publishes a service's outbox.
#[derive(Clone)]
pub struct Relay {
    database: Database,
    bus: Arc<dyn Bus>,
    clock: Clock,
    wake: Arc<Notify>,
}

/// Why publishing failed.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Database(#[from] DbErr),
    #[error(transparent)]
    Bus(#[from] BusError),
}

struct Row {
    position: i64,
    message_id: String,
    subject: String,
    version: u64,
    payload: String,
}

impl Relay {
    pub fn new(database: Database, bus: Arc<dyn Bus>, clock: Clock) -> Self {
        Self {
            database,
            bus,
            clock,
            wake: Arc::new(Notify::new()),
        }
    }

    /// Signals that an event was committed; publishing starts at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Publishes until dropped.
    pub async fn run(self) {
        let mut pause = Backoff::up_to(LONGEST_PAUSE);
        loop {
            match self.publish_pending().await {
                Ok(0) => {
                    pause = Backoff::up_to(LONGEST_PAUSE);
                    let _ = tokio::time::timeout(SWEEP_INTERVAL, self.wake.notified()).await;
                }
                Ok(_) => pause = Backoff::up_to(LONGEST_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "cannot publish the outbox; it is retried");
                    pause.wait().await;
                }
            }
        }
    }

    /// Publishes a batch of pending rows, oldest first; returns its size. Several
    /// relays of one outbox may conflict, but they keep the order.
    ///
    /// # Errors
    /// If the database or the bus fails; what was published is still marked.
    pub async fn publish_pending(&self) -> Result<usize, RelayError> {
        let reader = self.database.read();
        let rows = reader
            .query_all_raw(Statement::from_sql_and_values(
                reader.get_database_backend(),
                "SELECT position, message_id, subject, aggregate_version, payload FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT $1",
                [BATCH.into()],
            ))
            .await?;
        let mut done = Vec::with_capacity(rows.len());
        let mut outcome = Ok(());
        for row in &rows {
            let row = Row::read(row)?;
            let event: Option<Event<serde_json::Value>> = serde_json::from_str(&row.payload).ok();
            let correlation = event
                .as_ref()
                .and_then(|event| event.correlationid.as_deref());
            let span = tracing::info_span!(
                "publish",
                otel.kind = "producer",
                correlation_id = correlation.unwrap_or_default(),
                subject = row.subject
            );
            let trace = event
                .as_ref()
                .and_then(|event| event.traceparent.as_deref());
            telemetry::continue_from_traceparent(&span, trace);
            match self.publish_one(&row).instrument(span).await {
                Ok(()) => done.push(row.position),
                // Another relay was faster, and has marked the row or soon will.
                Err(RelayError::Bus(BusError::Conflict { .. })) => {
                    tokio::time::sleep(AFTER_CONFLICT).await;
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.mark_published(&done).await?;
        outcome.map(|()| rows.len())
    }

    async fn mark_published(&self, positions: &[i64]) -> Result<(), DbErr> {
        if positions.is_empty() {
            return Ok(());
        }
        // Each by its own position, not as a range: on PostgreSQL a row with a smaller
        // position may have been committed since the rows were read.
        let placeholders: Vec<String> = (0..positions.len())
            .map(|index| format!("${}", index + 2))
            .collect();
        let mut values: Vec<Value> = vec![self.clock.now().into()];
        values.extend(positions.iter().map(|position| Value::from(*position)));
        let txn = self.database.begin().await?;
        txn.execute_raw(Statement::from_sql_and_values(
            txn.get_database_backend(),
            format!(
                "UPDATE outbox SET published_at = $1 WHERE position IN ({})",
                placeholders.join(", ")
            ),
            values,
        ))
        .await?;
        txn.commit().await
    }

    /// The bus drops message ids after its deduplication window, so the version of the
    /// subject's last event decides whether this one was published.
    async fn publish_one(&self, row: &Row) -> Result<(), RelayError> {
        let last = self.bus.last_message(&row.subject).await?;
        if let Some(last) = &last
            && version_of(&last.payload).is_some_and(|version| version >= row.version)
        {
            return Ok(());
        }
        let message = Publish {
            subject: row.subject.clone(),
            message_id: row.message_id.clone(),
            expected_last: Some(last.map_or(0, |last| last.sequence)),
            payload: row.payload.clone(),
        };
        self.bus.publish(message).await?;
        Ok(())
    }
}

impl Row {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let version: i64 = row.try_get("", "aggregate_version")?;
        Ok(Self {
            position: row.try_get("", "position")?,
            message_id: row.try_get("", "message_id")?,
            subject: row.try_get("", "subject")?,
            version: version.unsigned_abs(),
            payload: row.try_get("", "payload")?,
        })
    }
}

fn version_of(payload: &str) -> Option<u64> {
    serde_json::from_str::<Event<serde_json::Value>>(payload)
        .ok()
        .map(|event| event.aggregateversion)
}
