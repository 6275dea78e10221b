//! The bus in an SQLite file. Several processes may share the file: each hears
//! of its own messages at once and of the others' within a tenth of a second.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};
use stoa_schema::events::subject_matches;
use tokio::sync::watch;

use crate::bus::{Bus, BusError, Consumer, Message, Publish, Published, StreamInfo};
use crate::database::Database;

const POLL: Duration = Duration::from_millis(100);
const BATCH: u64 = 256;

/// A durable log in one SQLite database.
#[derive(Clone)]
pub struct EmbeddedBus {
    database: Database,
    identity: Arc<str>,
    /// The last sequence known to this process.
    last: watch::Sender<u64>,
}

impl EmbeddedBus {
    /// Opens the bus on a migrated database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(database: Database) -> Result<Self, BusError> {
        let fresh = uuid::Uuid::new_v4().to_string();
        let txn = database.begin().await.map_err(unavailable)?;
        txn.execute_raw(sql(
            "INSERT INTO bus_stream (id, identity) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
            [fresh.into()],
        ))
        .await
        .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        let identity: String = one(
            &database,
            sql("SELECT identity FROM bus_stream WHERE id = 1", []),
            "identity",
        )
        .await?
        .unwrap_or_default();
        let bus = Self {
            database,
            identity: identity.into(),
            last: watch::Sender::new(0),
        };
        bus.refresh().await?;
        Ok(bus)
    }

    /// Notices what other processes publish; runs until it is dropped.
    pub async fn watch_others(&self) {
        loop {
            tokio::time::sleep(POLL).await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "cannot read the event bus");
            }
        }
    }

    async fn refresh(&self) -> Result<(), BusError> {
        let last: Option<i64> = one(
            &self.database,
            sql("SELECT max(sequence) AS last FROM bus_message", []),
            "last",
        )
        .await?;
        self.saw(last.unwrap_or(0).unsigned_abs());
        Ok(())
    }

    fn saw(&self, sequence: u64) {
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
        let last = txn
            .query_one_raw(sql(
                "SELECT coalesce(max(sequence), 0) AS last FROM bus_message WHERE subject = $1",
                [message.subject.clone().into()],
            ))
            .await
            .map_err(unavailable)?
            .map_or(Ok(0), |row| sequence(&row, "last"))?;
        if last != message.expected_last {
            return Err(BusError::Conflict { last });
        }
        let row = txn
            .query_one_raw(sql(
                "INSERT INTO bus_message (subject, message_id, payload) VALUES ($1, $2, $3) RETURNING sequence",
                [
                    message.subject.into(),
                    message.message_id.into(),
                    message.payload.into(),
                ],
            ))
            .await
            .map_err(unavailable)?
            .ok_or_else(|| BusError::Unavailable("nothing was stored".to_owned()))?;
        let stored = sequence(&row, "sequence")?;
        txn.commit().await.map_err(unavailable)?;
        self.saw(stored);
        Ok(Published {
            sequence: stored,
            duplicate: false,
        })
    }

    async fn last_of(&self, subject: &str) -> Result<Option<Message>, BusError> {
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
        // GLOB's star also spans dots, so it may bring too much: the filter
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
        let txn = self.database.begin().await.map_err(unavailable)?;
        txn.execute_raw(sql(
            "INSERT INTO bus_consumer (name, acknowledged) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING",
            [name.into()],
        ))
        .await
        .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        let acknowledged: Option<i64> = one(
            &self.database,
            sql(
                "SELECT acknowledged FROM bus_consumer WHERE name = $1",
                [name.into()],
            ),
            "acknowledged",
        )
        .await?;
        Ok(Box::new(EmbeddedConsumer {
            name: name.to_owned(),
            waiting: Vec::new(),
            tail: Tail {
                bus: self.clone(),
                known: self.last.subscribe(),
                filter: filter.to_owned(),
                after: acknowledged.unwrap_or(0).unsigned_abs(),
            },
        }))
    }

    async fn info(&self) -> Result<StreamInfo, BusError> {
        let row = self
            .database
            .read()
            .query_one_raw(sql(
                "SELECT coalesce(max(sequence), 0) AS last, coalesce(min(sequence), 1) AS first FROM bus_message",
                [],
            ))
            .await
            .map_err(unavailable)?
            .ok_or_else(|| BusError::Unavailable("no answer".to_owned()))?;
        Ok(StreamInfo {
            identity: self.identity.to_string(),
            first: sequence(&row, "first")?,
            last: sequence(&row, "last")?,
        })
    }
}

/// Reads on from a position, waiting for news when it has caught up.
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
                        // A batch that is not full reached the end, past what
                        // the filter left out.
                        self.after = if full { last } else { known.max(last) };
                        if !batch.is_empty() {
                            return batch;
                        }
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the event bus");
                        tokio::time::sleep(POLL).await;
                        continue;
                    }
                }
            }
            if self.known.changed().await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

struct EmbeddedConsumer {
    name: String,
    /// Read but not handed out yet, newest first.
    waiting: Vec<Message>,
    tail: Tail,
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Message, BusError> {
        loop {
            if let Some(message) = self.waiting.pop() {
                return Ok(message);
            }
            self.waiting = self.tail.next_batch().await;
            self.waiting.reverse();
        }
    }

    async fn acknowledge(&mut self, message: &Message) -> Result<(), BusError> {
        let txn = self.tail.bus.database.begin().await.map_err(unavailable)?;
        txn.execute_raw(sql(
            "UPDATE bus_consumer SET acknowledged = $2 WHERE name = $1 AND acknowledged < $2",
            [
                self.name.clone().into(),
                i64::try_from(message.sequence).unwrap_or(i64::MAX).into(),
            ],
        ))
        .await
        .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)
    }
}

fn sql<const N: usize>(text: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, text, values)
}

async fn one<T: sea_orm::TryGetable>(
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
