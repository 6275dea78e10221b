//! Handles a durable consumer's messages: one at a time, retried while a dependency is
//! unavailable, and moved to the dead letters when they cannot be handled.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Bus, BusError, Consumer, DeadLetter, Delivery, Message, replay_filter};
use stoa_runtime::backoff::Backoff;

/// How often a message may fail before it is moved to the dead letters.
pub const MAX_FAILURES: u32 = 5;
/// How many processes may end while they handle a message before it is moved to
/// the dead letters.
pub const MAX_ATTEMPTS: u64 = 10;
/// Well within [`crate::bus::ACK_DEADLINE`].
const EXTEND_INTERVAL: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a message was not handled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A dependency is unavailable: the message is retried until it is back.
    #[error("{0}")]
    Unavailable(String),
    /// A retry may succeed; after [`MAX_FAILURES`] it becomes a dead letter.
    #[error("{0}")]
    Failed(String),
    /// A retry cannot succeed: it becomes a dead letter at once.
    #[error("{0}")]
    Poison(String),
}

/// Handles a consumer's messages, and its replayed dead letters, until dropped.
pub async fn consume<F, W>(bus: Arc<dyn Bus>, name: &str, filter: &str, handle: F)
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let replays = replay_filter(name);
    let replayer = format!("{name}-replay");
    tokio::join!(
        run_consumer(&bus, name, name, filter, &handle),
        run_consumer(&bus, &replayer, name, &replays, &handle),
    );
}

/// `owner` is the consumer to which a dead letter is replayed.
async fn run_consumer<F, W>(bus: &Arc<dyn Bus>, name: &str, owner: &str, filter: &str, handle: &F)
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let mut pause = Backoff::up_to(LONGEST_PAUSE);
    loop {
        let lost = match bus.consumer(name, filter).await {
            Ok(mut consumer) => loop {
                match handle_next(&**bus, &mut *consumer, owner, handle).await {
                    Ok(()) => pause = Backoff::up_to(LONGEST_PAUSE),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::warn!(consumer = name, error = %lost, "a consumer waits for the event bus");
        pause.wait().await;
    }
}

async fn handle_next<F, W>(
    bus: &dyn Bus,
    consumer: &mut dyn Consumer,
    owner: &str,
    handle: &F,
) -> Result<(), BusError>
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let delivery = consumer.next().await?;
    if let Err(error) = handle_with_retries(consumer, &delivery, handle).await? {
        let message = &delivery.message;
        tracing::error!(
            consumer = owner,
            sequence = message.sequence,
            subject = %message.subject,
            %error,
            "an event could not be handled and is now a dead letter; see `stoa events dead`"
        );
        bus.dead_letter(&DeadLetter {
            consumer: owner.to_owned(),
            sequence: message.sequence,
            subject: original_subject(owner, &message.subject).to_owned(),
            payload: message.payload.to_string(),
            error: error.to_string(),
        })
        .await?;
    }
    consumer.acknowledge().await
}

/// Handles one message, with retries, until it succeeds or will not be retried (the inner
/// error).
async fn handle_with_retries<F, W>(
    consumer: &mut dyn Consumer,
    delivery: &Delivery,
    handle: &F,
) -> Result<Result<(), Failure>, BusError>
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    if delivery.attempt > MAX_ATTEMPTS {
        let times = delivery.attempt - 1;
        return Ok(Err(Failure::Poison(format!(
            "{times} processes ended while they handled it"
        ))));
    }
    let mut in_flight = InFlight {
        consumer,
        extended_at: Instant::now(),
    };
    let mut failures = 0;
    let mut pause = Backoff::up_to(LONGEST_PAUSE);
    loop {
        let error = match in_flight
            .extend_while(handle(delivery.message.clone()))
            .await?
        {
            Ok(()) => return Ok(Ok(())),
            Err(error) => error,
        };
        failures += u32::from(matches!(error, Failure::Failed(_)));
        if matches!(error, Failure::Poison(_)) || failures >= MAX_FAILURES {
            return Ok(Err(error));
        }
        tracing::warn!(
            sequence = delivery.message.sequence,
            subject = %delivery.message.subject,
            %error,
            "handling an event failed; it is retried"
        );
        in_flight.extend_while(pause.wait()).await?;
    }
}

/// A message in progress, whose deadline must be extended regularly.
struct InFlight<'c> {
    consumer: &'c mut dyn Consumer,
    extended_at: Instant,
}

impl InFlight<'_> {
    /// Awaits `work`, and extends the message's deadline meanwhile.
    async fn extend_while<T>(&mut self, work: impl Future<Output = T>) -> Result<T, BusError> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout_at(self.extended_at + EXTEND_INTERVAL, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => {
                    self.consumer.extend_ack_deadline().await?;
                    self.extended_at = Instant::now();
                }
            }
        }
    }
}

/// The subject that a message had before it became a dead letter and was replayed.
fn original_subject<'s>(owner: &str, subject: &'s str) -> &'s str {
    let prefix = replay_filter(owner);
    subject
        .strip_prefix(prefix.trim_end_matches('>'))
        .unwrap_or(subject)
}
