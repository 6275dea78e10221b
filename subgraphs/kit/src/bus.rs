//! The event bus: a durable log with a sequence number for each message, the
//! contract of a NATS JetStream stream. The same contract tests run on every
//! implementation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

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
    /// The sequence of the last message of this subject, 0 for none: if it is
    /// another, somebody else published meanwhile and nothing is stored.
    pub expected_last: u64,
    pub payload: String,
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub sequence: u64,
    /// It was there already.
    pub duplicate: bool,
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Changes when the stream is made anew; sequences of another identity
    /// mean nothing here.
    pub identity: String,
    /// The oldest sequence still held; one past the last if there is none.
    pub first: u64,
    pub last: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the subject has moved on: its last sequence is {last}")]
    Conflict { last: u64 },
    #[error("the event bus is unavailable: {0}")]
    Unavailable(String),
}

/// A durable log of messages.
#[async_trait]
pub trait Bus: Send + Sync {
    async fn publish(&self, message: Publish) -> Result<Published, BusError>;

    /// The newest message of one subject.
    async fn last_of(&self, subject: &str) -> Result<Option<Message>, BusError>;

    /// At most `limit` messages that match a filter, past a sequence, oldest first.
    async fn read(&self, filter: &str, after: u64, limit: u64) -> Result<Vec<Message>, BusError>;

    /// The messages that match a filter, past a sequence, without end and
    /// without a gap; each process that calls this gets all of them.
    async fn follow(
        &self,
        filter: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Message>, BusError>;

    /// A durable consumer, made at its first use: its position outlives us.
    async fn consumer(&self, name: &str, filter: &str) -> Result<Box<dyn Consumer>, BusError>;

    async fn info(&self) -> Result<StreamInfo, BusError>;
}

/// Takes messages one after another; each comes again until it is acknowledged.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next message.
    async fn next(&mut self) -> Result<Message, BusError>;

    /// Done with it: it will not come again.
    async fn acknowledge(&mut self, message: &Message) -> Result<(), BusError>;
}

/// Handles a consumer's messages for ever, one at a time. One that fails comes
/// again after a pause that grows to half a minute.
pub async fn consume<F, W, E>(bus: Arc<dyn Bus>, name: &str, filter: &str, handle: F)
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut pause = Backoff::default();
    loop {
        let mut consumer = match bus.consumer(name, filter).await {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::warn!(consumer = name, %error, "waiting for the event bus");
                pause.wait().await;
                continue;
            }
        };
        loop {
            let message = match consumer.next().await {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(consumer = name, %error, "lost the event bus");
                    break;
                }
            };
            if let Err(error) = handle(message.clone()).await {
                tracing::error!(
                    consumer = name,
                    sequence = message.sequence,
                    subject = %message.subject,
                    %error,
                    "an event could not be handled and will come again"
                );
                break;
            }
            if let Err(error) = consumer.acknowledge(&message).await {
                tracing::warn!(consumer = name, %error, "an acknowledgement was lost");
                break;
            }
            pause = Backoff::default();
        }
        pause.wait().await;
    }
}

/// A pause that doubles from 50 ms to half a minute.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

impl Backoff {
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(30));
    }
}
