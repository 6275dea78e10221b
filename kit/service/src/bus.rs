//! The event bus: a durable log with a sequence number for each message, the
//! contract of a NATS JetStream stream. The same contract tests run on every
//! implementation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// How long the bus keeps messages. A cursor older than that has expired.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the bus is sure to recognise a message id that it has seen.
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(2 * 60);
/// How long a consumer may hold a message, without acknowledging it or extending
/// the deadline, before another process gets it.
pub const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// The most dead letters that are kept; the oldest go first.
pub const MAX_DEAD_LETTERS: u64 = 100_000;

/// A message on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Rises by at least one from message to message of the stream.
    pub sequence: u64,
    pub subject: Arc<str>,
    pub payload: Arc<str>,
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Publish {
    pub subject: String,
    /// A second message with the same id is not stored.
    pub message_id: String,
    /// The expected sequence of the last message of this subject, 0 for none: if it
    /// differs, another process has published meanwhile and nothing is stored.
    /// `None` publishes unconditionally.
    pub expected_last: Option<u64>,
    pub payload: String,
}

/// The result of publishing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub sequence: u64,
    /// The message had been stored before.
    pub duplicate: bool,
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Changes when the stream is recreated; sequences of another identity
    /// mean nothing here.
    pub identity: String,
    /// The oldest sequence still held; one past the last if there is none.
    pub first: u64,
    pub last: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("sequence conflict: the subject's last sequence is {last}")]
    Conflict { last: u64 },
    #[error("the event bus is unavailable: {0}")]
    Unavailable(String),
    #[error("the event bus cannot be used: {0}")]
    Misconfigured(String),
}

/// A message that a consumer could not handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub consumer: String,
    /// Its sequence and subject in the stream.
    pub sequence: u64,
    pub subject: String,
    pub payload: String,
    /// The error of the last attempt.
    pub error: String,
}

/// A durable log of messages.
#[async_trait]
pub trait Bus: Send + Sync {
    async fn publish(&self, message: Publish) -> Result<Published, BusError>;

    /// The newest message of one subject.
    async fn last_message(&self, subject: &str) -> Result<Option<Message>, BusError>;

    /// At most `limit` messages that match a filter, past a sequence, oldest first.
    async fn read(&self, filter: &str, after: u64, limit: u64) -> Result<Vec<Message>, BusError>;

    /// The messages that match a filter, past a sequence, without a gap; each
    /// process that calls this gets all of them. It ends when the bus
    /// connection is lost.
    async fn follow(
        &self,
        filter: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Message>, BusError>;

    /// A durable consumer, created at its first use: its position outlives the process.
    /// Several processes may share one: each message is delivered to one of them at a
    /// time, and the next one when it is acknowledged.
    async fn consumer(&self, name: &str, filter: &str) -> Result<Box<dyn Consumer>, BusError>;

    async fn info(&self) -> Result<StreamInfo, BusError>;

    /// Stores a dead letter, once, however often this is called.
    async fn dead_letter(&self, dead: &DeadLetter) -> Result<(), BusError>;

    /// Dead letters with their ids, the oldest first.
    async fn dead_letters(&self, limit: u64) -> Result<Vec<(u64, DeadLetter)>, BusError>;

    /// Deletes a dead letter.
    async fn dead_letter_remove(&self, id: u64) -> Result<(), BusError>;
}

/// A message on its way to a consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message: Message,
    /// 1 at first; higher if an earlier delivery was never acknowledged.
    pub attempt: u64,
}

/// Receives messages one after another; each is redelivered until it is acknowledged.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next message.
    async fn next(&mut self) -> Result<Delivery, BusError>;

    /// Extends the deadline of the last message, which is still in progress; to be
    /// called at least once within every [`ACK_DEADLINE`].
    async fn extend_ack_deadline(&mut self) -> Result<(), BusError>;

    /// Acknowledges the last message: it will not be delivered again.
    async fn acknowledge(&mut self) -> Result<(), BusError>;
}

/// The subject on which a dead letter is replayed to its consumer alone.
fn replay_subject(consumer: &str, subject: &str) -> String {
    format!("{REPLAY_PREFIX}.{consumer}.{subject}")
}

/// What the subjects of replayed dead letters begin with.
pub const REPLAY_PREFIX: &str = "stoa-replay";

/// The filter of a consumer's replayed dead letters.
pub(crate) fn replay_filter(consumer: &str) -> String {
    replay_subject(consumer, ">")
}

/// Replays a dead letter to its consumer. A crash in between leaves it listed;
/// consumers recognise what they have handled.
///
/// # Errors
/// If the bus fails.
pub async fn replay(bus: &dyn Bus, id: u64, dead: &DeadLetter) -> Result<(), BusError> {
    let stream = bus.info().await?.identity;
    bus.publish(Publish {
        subject: replay_subject(&dead.consumer, &dead.subject),
        message_id: format!("replay-{stream}-{id}"),
        expected_last: None,
        payload: dead.payload.clone(),
    })
    .await?;
    bus.dead_letter_remove(id).await
}
