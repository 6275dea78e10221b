//! A durable consumer of the embedded bus, which several processes may share.

use std::collections::VecDeque;

use async_trait::async_trait;
use sea_orm::ConnectionTrait;

use super::{POLL, Tail, sequence, signed, sql, unavailable};
use crate::bus::{ACKNOWLEDGE_WITHIN, BusError, Consumer, Delivery, Message};
use stoa_runtime::clock::micros;

/// One of the processes that share a consumer. Whoever hands out a message
/// holds the consumer until it is acknowledged, or falls silent.
pub(super) struct EmbeddedConsumer {
    name: String,
    /// Tells us from the others.
    holder: String,
    /// How often the next message was handed out, while we hold the consumer.
    held: Option<u64>,
    /// Read but not handed out yet.
    waiting: VecDeque<Message>,
    /// The sequence last handed out.
    last: u64,
    tail: Tail,
}

impl EmbeddedConsumer {
    pub(super) fn new(name: &str, tail: Tail) -> Self {
        Self {
            name: name.to_owned(),
            holder: uuid::Uuid::new_v4().to_string(),
            held: None,
            waiting: VecDeque::new(),
            last: 0,
            tail,
        }
    }

    /// Takes hold of the consumer; `None` while another process has it. A hold
    /// that ends much later than one could was made before the clock went back.
    async fn hold(&mut self) -> Result<Option<u64>, BusError> {
        let bus = &self.tail.bus;
        let txn = bus.database.begin().await.map_err(unavailable)?;
        // Read while we have the write lock: holds are made in its order.
        let now = bus.clock.now();
        let row = txn
            .query_one_raw(sql(
                "UPDATE bus_consumer SET holder = $2, held_until = $3, attempts = attempts + 1 WHERE name = $1 AND (holder = $2 OR held_until < $4 OR held_until > $5) RETURNING acknowledged, attempts",
                [
                    self.name.clone().into(),
                    self.holder.clone().into(),
                    (now + micros(ACKNOWLEDGE_WITHIN)).into(),
                    now.into(),
                    (now + micros(2 * ACKNOWLEDGE_WITHIN)).into(),
                ],
            ))
            .await
            .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        let Some(row) = row else {
            return Ok(None);
        };
        // Others may have come further meanwhile.
        let acknowledged = sequence(&row, "acknowledged")?;
        self.waiting
            .retain(|message| message.sequence > acknowledged);
        self.tail.after = self.tail.after.max(acknowledged);
        Ok(Some(sequence(&row, "attempts")?))
    }

    async fn release(&mut self) -> Result<(), BusError> {
        self.held = None;
        let statement = sql(
            "UPDATE bus_consumer SET attempts = 0, held_until = 0 WHERE name = $1 AND holder = $2",
            [self.name.clone().into(), self.holder.clone().into()],
        );
        self.tail.bus.write(statement).await.map(drop)
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Delivery, BusError> {
        loop {
            if self.waiting.is_empty() {
                self.waiting = self.tail.next_batch().await.into();
            }
            if self.held.is_none() {
                self.held = self.hold().await?;
            }
            match (self.held, self.waiting.pop_front()) {
                (Some(attempt), Some(message)) => {
                    self.last = message.sequence;
                    return Ok(Delivery { message, attempt });
                }
                // Others have handled it all: there is nothing to hold.
                (Some(_), None) => self.release().await?,
                (None, waiting) => {
                    if let Some(message) = waiting {
                        self.waiting.push_front(message);
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    async fn keep(&mut self) -> Result<(), BusError> {
        let until = self.tail.bus.clock.now() + micros(ACKNOWLEDGE_WITHIN);
        let statement = sql(
            "UPDATE bus_consumer SET held_until = $3 WHERE name = $1 AND holder = $2",
            [
                self.name.clone().into(),
                self.holder.clone().into(),
                until.into(),
            ],
        );
        held(self.tail.bus.write(statement).await?)
    }

    async fn acknowledge(&mut self) -> Result<(), BusError> {
        // With more at hand we keep hold of it, and are at the next message.
        let more = !self.waiting.is_empty();
        let until = if more {
            self.tail.bus.clock.now() + micros(ACKNOWLEDGE_WITHIN)
        } else {
            0
        };
        self.held = more.then_some(1);
        let statement = sql(
            "UPDATE bus_consumer SET acknowledged = max(acknowledged, $3), attempts = $4, held_until = $5 WHERE name = $1 AND holder = $2",
            [
                self.name.clone().into(),
                self.holder.clone().into(),
                signed(self.last).into(),
                i64::from(more).into(),
                until.into(),
            ],
        );
        held(self.tail.bus.write(statement).await?)
    }
}

/// We were silent for so long that another process has taken the consumer.
fn held(rows: u64) -> Result<(), BusError> {
    if rows == 0 {
        return Err(BusError::Unavailable(
            "the consumer is with another process by now".to_owned(),
        ));
    }
    Ok(())
}
