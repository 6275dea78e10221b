//! The bus in an SQLite file. Several processes may share the file: each sees
//! its own messages at once and those of the others within a tenth of a second.

mod consumer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};
use stoa_schema::events::subject_matches;
use tokio::sync::watch;

use crate::bus::{
    Bus, BusError, Consumer, DeadLetter, MAX_DEAD_LETTERS, Message, Publish, Published, RETENTION,
    StreamInfo,
};
use crate::database::Database;
use consumer::EmbeddedConsumer;
use stoa_runtime::clock::{Clock, micros};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const BATCH: u64 = 256;
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// The last sequence ever assigned, even if its message has been deleted.
const SELECT_LAST_SEQUENCE: &str =
    "SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence WHERE name = 'bus_message'";

/// A durable log in one SQLite database.
#[derive(Clone)]
pub struct EmbeddedBus {
    database: Database,
    identity: Arc<str>,
    clock: Clock,
    /// The last sequence known to this process.
    last: watch::Sender<u64>,
}

impl EmbeddedBus {
    /// Opens the bus on a migrated database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(database: Database, clock: Clock) -> Result<Self, BusError> {
        let fresh = uuid::Uuid::new_v4().to_string();
        let txn = database.begin().await.map_err(unavailable)?;
        txn.execute_raw(sql(
            "INSERT INTO bus_stream (id, identity) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
            [fresh.into()],
        ))
        .await
        .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        let identity: String = query_value(
            &database,
            sql("SELECT identity FROM bus_stream WHERE id = 1", []),
            "identity",
        )
        .await?
        .unwrap_or_default();
        let bus = Self {
            database,
            identity: identity.into(),
            clock,
            last: watch::Sender::new(0),
        };
        bus.refresh().await?;
        Ok(bus)
    }

    /// Polls for what other processes publish, and deletes expired messages; runs
    /// until dropped.
    pub async fn run(&self) {
        let watch = async {
            loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                if let Err(error) = self.refresh().await {
                    tracing::warn!(%error, "cannot read the event bus");
                }
            }
        };
        let purge = async {
            loop {
                if let Err(error) = self.purge_expired().await {
                    tracing::warn!(%error, "cannot delete expired messages of the event bus");
                }
                tokio::time::sleep(PURGE_INTERVAL).await;
            }
        };
        tokio::join!(watch, purge);
    }

    /// Deletes the messages that are older than the retention.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn purge_expired(&self) -> Result<(), BusError> {
        let before = self.clock.now() - micros(RETENTION);
        self.write(sql(
            "DELETE FROM bus_message WHERE created_at < $1",
            [before.into()],
        ))
        .await
        .map(drop)
    }

    /// Returns how many rows were written.
    async fn write(&self, statement: Statement) -> Result<u64, BusError> {
        let txn = self.database.begin().await.map_err(unavailable)?;
        let done = txn.execute_raw(statement).await.map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        Ok(done.rows_affected())
    }

    async fn refresh(&self) -> Result<(), BusError> {
        let last: Option<i64> =
            query_value(&self.database, sql(SELECT_LAST_SEQUENCE, []), "last").await?;
        self.advance_last(last.unwrap_or(0).unsigned_abs());
        Ok(())
    }

    fn advance_last(&self, sequence: u64) {
        self.last.send_if_modified(|last| {
            let newer = sequence > *last;
            *last = sequence.max(*last);
            newer
        });
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, message: Publish) -> Result<Published, BusError> {
        let txn = self.database.begin().await.map_err(unavailable)?;
        let known = txn
            .query_one_raw(sql(
                "SELECT sequence FROM bus_message WHERE message_id = $1",
                [message.message_id.clone().into()],
            ))
            .await
            .map_err(unavailable)?;
        if let Some(row) = known {
            return Ok(Published {
                sequence: sequence(&row, "sequence")?,
                duplicate: true,
            });
        }
        if let Some(expected) = message.expected_last {
            let last = txn
                .query_one_raw(sql(
                    "SELECT coalesce(max(sequence), 0) AS last FROM bus_message WHERE subject = $1",
                    [message.subject.clone().into()],
                ))
                .await
                .map_err(unavailable)?
                .map_or(Ok(0), |row| sequence(&row, "last"))?;
            if last != expected {
                return Err(BusError::Conflict { last });
            }
        }
        let row = txn
            .query_one_raw(sql(
                "INSERT INTO bus_message (subject, message_id, payload, created_at) VALUES ($1, $2, $3, $4) RETURNING sequence",
                [
                    message.subject.into(),
                    message.message_id.into(),
                    message.payload.into(),
                    self.clock.now().into(),
                ],
            ))
            .await
            .map_err(unavailable)?
            .ok_or_else(|| BusError::Unavailable("the message was not stored".to_owned()))?;
        let stored = sequence(&row, "sequence")?;
        txn.commit().await.map_err(unavailable)?;
        self.advance_last(stored);
        Ok(Published {
            sequence: stored,
            duplicate: false,
        })
    }

    async fn last_message(&self, subject: &str) -> Result<Option<Message>, BusError> {
        self.database
            .read()
            .query_one_raw(sql(
                "SELECT sequence, subject, payload FROM bus_message WHERE subject = $1 ORDER BY sequence DESC LIMIT 1",
                [subject.into()],
            ))
            .await
            .map_err(unavailable)?
            .map(|row| message(&row))
            .transpose()
    }

    async fn read(&self, filter: &str, after: u64, limit: u64) -> Result<Vec<Message>, BusError> {
        let exact = !filter.contains(['*', '>']);
        // GLOB's star also matches dots, so it may select too much: the filter
        // decides. Subjects hold none of GLOB's other special characters.
        let condition = if exact {
            "subject = $1"
        } else {
            "subject GLOB $1"
        };
        let pattern = filter.replace('>', "*");
        let mut after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        loop {
            let rows = self
                .database
                .read()
                .query_all_raw(sql(
                    &format!("SELECT sequence, subject, payload FROM bus_message WHERE {condition} AND sequence > $2 ORDER BY sequence LIMIT $3"),
                    [
                        pattern.clone().into(),
                        after.into(),
                        i64::try_from(limit).unwrap_or(i64::MAX).into(),
                    ],
                ))
                .await
                .map_err(unavailable)?;
            let full = rows.len() as u64 >= limit;
            for row in &rows {
                let message = message(row)?;
                after = i64::try_from(message.sequence).unwrap_or(i64::MAX);
                if subject_matches(filter, &message.subject) {
                    found.push(message);
                }
            }
            if !full || found.len() as u64 >= limit {
                found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                return Ok(found);
            }
        }
    }

    async fn follow(
        &self,
        filter: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Message>, BusError> {
        let tail = Tail {
            bus: self.clone(),
            known: self.last.subscribe(),
            filter: filter.to_owned(),
            after,
        };
        Ok(futures_util::stream::unfold(tail, |mut tail| async move {
            let batch = tail.next_batch().await;
            Some((futures_util::stream::iter(batch), tail))
        })
        .flatten()
        .boxed())
    }

    async fn consumer(&self, name: &str, filter: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.write(sql(
            "INSERT INTO bus_consumer (name, acknowledged, attempts, holder, held_until) VALUES ($1, 0, 0, '', 0) ON CONFLICT (name) DO NOTHING",
            [name.into()],
        ))
        .await?;
        let acknowledged: Option<i64> = query_value(
            &self.database,
            sql(
                "SELECT acknowledged FROM bus_consumer WHERE name = $1",
                [name.into()],
            ),
            "acknowledged",
        )
        .await?;
        let tail = Tail {
            bus: self.clone(),
            known: self.last.subscribe(),
            filter: filter.to_owned(),
            after: acknowledged.unwrap_or(0).unsigned_abs(),
        };
        Ok(Box::new(EmbeddedConsumer::new(name, tail)))
    }

    async fn info(&self) -> Result<StreamInfo, BusError> {
        let last: Option<i64> =
            query_value(&self.database, sql(SELECT_LAST_SEQUENCE, []), "last").await?;
        let last = last.unwrap_or(0).unsigned_abs();
        let first: Option<i64> = query_value(
            &self.database,
            sql("SELECT min(sequence) AS first FROM bus_message", []),
            "first",
        )
        .await?;
        Ok(StreamInfo {
            identity: self.identity.to_string(),
            first: first.map_or(last + 1, i64::unsigned_abs),
            last,
        })
    }

    async fn dead_letter(&self, dead: &DeadLetter) -> Result<(), BusError> {
        let letter = serde_json::to_string(dead)
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        let txn = self.database.begin().await.map_err(unavailable)?;
        txn.execute_raw(sql(
            "INSERT INTO bus_dead_letter (consumer, sequence, letter) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            [
                dead.consumer.clone().into(),
                to_i64(dead.sequence).into(),
                letter.into(),
            ],
        ))
        .await
        .map_err(unavailable)?;
        txn.execute_raw(sql(
            "DELETE FROM bus_dead_letter WHERE id <= (SELECT max(id) FROM bus_dead_letter) - $1",
            [to_i64(MAX_DEAD_LETTERS).into()],
        ))
        .await
        .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)
    }

    async fn dead_letters(&self, limit: u64) -> Result<Vec<(u64, DeadLetter)>, BusError> {
        let rows = self
            .database
            .read()
            .query_all_raw(sql(
                "SELECT id, letter FROM bus_dead_letter ORDER BY id LIMIT $1",
                [to_i64(limit).into()],
            ))
            .await
            .map_err(unavailable)?;
        rows.iter()
            .map(|row| {
                let letter: String = row.try_get("", "letter").map_err(unavailable)?;
                let letter = serde_json::from_str(&letter)
                    .map_err(|error| BusError::Unavailable(error.to_string()))?;
                Ok((sequence(row, "id")?, letter))
            })
            .collect()
    }

    async fn dead_letter_remove(&self, id: u64) -> Result<(), BusError> {
        self.write(sql(
            "DELETE FROM bus_dead_letter WHERE id = $1",
            [to_i64(id).into()],
        ))
        .await
        .map(drop)
    }
}

/// Reads on from a position, waiting for new messages when it has caught up.
struct Tail {
    bus: EmbeddedBus,
    known: watch::Receiver<u64>,
    filter: String,
    after: u64,
}

impl Tail {
    async fn next_batch(&mut self) -> Vec<Message> {
        loop {
            let known = *self.known.borrow_and_update();
            if known > self.after {
                match self.bus.read(&self.filter, self.after, BATCH).await {
                    Ok(batch) => {
                        let full = batch.len() as u64 == BATCH;
                        let last = batch.last().map_or(0, |message| message.sequence);
                        // A batch that is not full reached the end: skip what
                        // the filter excluded.
                        self.after = if full { last } else { known.max(last) };
                        if !batch.is_empty() {
                            return batch;
                        }
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the event bus");
                        tokio::time::sleep(POLL_INTERVAL).await;
                        continue;
                    }
                }
            }
            if self.known.changed().await.is_err() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn sql<const N: usize>(text: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, text, values)
}

async fn query_value<T: sea_orm::TryGetable>(
    database: &Database,
    statement: Statement,
    column: &str,
) -> Result<Option<T>, BusError> {
    let row = database
        .read()
        .query_one_raw(statement)
        .await
        .map_err(unavailable)?;
    match row {
        Some(row) => row.try_get("", column).map_err(unavailable),
        None => Ok(None),
    }
}

fn message(row: &QueryResult) -> Result<Message, BusError> {
    let subject: String = row.try_get("", "subject").map_err(unavailable)?;
    let payload: String = row.try_get("", "payload").map_err(unavailable)?;
    Ok(Message {
        sequence: sequence(row, "sequence")?,
        subject: subject.into(),
        payload: payload.into(),
    })
}

fn sequence(row: &QueryResult, column: &str) -> Result<u64, BusError> {
    let value: i64 = row.try_get("", column).map_err(unavailable)?;
    Ok(value.unsigned_abs())
}

fn unavailable(error: DbErr) -> BusError {
    BusError::Unavailable(error.to_string())
}
