//! A durable consumer of the embedded bus, which several processes may share.

use std::collections::VecDeque;

use async_trait::async_trait;
use sea_orm::ConnectionTrait;

use super::{POLL_INTERVAL, Tail, sequence, sql, to_i64, unavailable};
use crate::bus::{ACK_DEADLINE, BusError, Consumer, Delivery, Message};
use stoa_runtime::clock::micros;

/// One of the instances that share a consumer. The instance that delivers a message
/// holds the consumer until it acknowledges the message or its hold expires.
pub(super) struct EmbeddedConsumer {
    name: String,
    /// Distinguishes this instance from the others.
    holder: String,
    /// How often the next message was delivered; `None` while another instance holds
    /// the consumer.
    held: Option<u64>,
    /// Read but not delivered yet.
    waiting: VecDeque<Message>,
    /// The sequence last delivered.
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

    /// Takes hold of the consumer; `None` while another instance holds it. A hold that
    /// ends too far in the future was made before the clock went back, and is ignored.
    async fn acquire(&mut self) -> Result<Option<u64>, BusError> {
        let bus = &self.tail.bus;
        let txn = bus.database.begin().await.map_err(unavailable)?;
        // Read under the write lock: so the order of holds is the order of their times.
        let now = bus.clock.now();
        let row = txn
            .query_one_raw(sql(
                "UPDATE bus_consumer SET holder = $2, held_until = $3, attempts = attempts + 1 WHERE name = $1 AND (holder = $2 OR held_until < $4 OR held_until > $5) RETURNING acknowledged, attempts",
                [
                    self.name.clone().into(),
                    self.holder.clone().into(),
                    (now + micros(ACK_DEADLINE)).into(),
                    now.into(),
                    (now + micros(2 * ACK_DEADLINE)).into(),
                ],
            ))
            .await
            .map_err(unavailable)?;
        txn.commit().await.map_err(unavailable)?;
        let Some(row) = row else {
            return Ok(None);
        };
        // Other instances may have acknowledged more in the meantime.
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
                self.held = self.acquire().await?;
            }
            match (self.held, self.waiting.pop_front()) {
                (Some(attempt), Some(message)) => {
                    self.last = message.sequence;
                    return Ok(Delivery { message, attempt });
                }
                // Other instances have handled everything: there is nothing to hold.
                (Some(_), None) => self.release().await?,
                (None, waiting) => {
                    if let Some(message) = waiting {
                        self.waiting.push_front(message);
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    async fn extend_ack_deadline(&mut self) -> Result<(), BusError> {
        let until = self.tail.bus.clock.now() + micros(ACK_DEADLINE);
        let statement = sql(
            "UPDATE bus_consumer SET held_until = $3 WHERE name = $1 AND holder = $2",
            [
                self.name.clone().into(),
                self.holder.clone().into(),
                until.into(),
            ],
        );
        ensure_held(self.tail.bus.write(statement).await?)
    }

    async fn acknowledge(&mut self) -> Result<(), BusError> {
        // With more messages waiting, the hold continues with the next one's first attempt.
        let more = !self.waiting.is_empty();
        let until = if more {
            self.tail.bus.clock.now() + micros(ACK_DEADLINE)
        } else {
            0
        };
        self.held = more.then_some(1);
        let statement = sql(
            "UPDATE bus_consumer SET acknowledged = max(acknowledged, $3), attempts = $4, held_until = $5 WHERE name = $1 AND holder = $2",
            [
                self.name.clone().into(),
                self.holder.clone().into(),
                to_i64(self.last).into(),
                i64::from(more).into(),
                until.into(),
            ],
        );
        ensure_held(self.tail.bus.write(statement).await?)
    }
}

/// Fails if no row was changed: the hold expired, and another instance has the
/// consumer.
fn ensure_held(rows: u64) -> Result<(), BusError> {
    if rows == 0 {
        return Err(BusError::Unavailable(
            "another process has taken over the consumer".to_owned(),
        ));
    }
    Ok(())
}
