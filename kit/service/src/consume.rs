//! Handling a durable consumer's messages: one at a time, again and again while
//! something is away, and aside with what can never be handled.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Bus, BusError, Consumer, DeadLetter, Delivery, Message, replay_filter};
use stoa_runtime::backoff::Backoff;

/// How often a message may fail before it is laid aside.
pub const MAX_FAILURES: u32 = 5;
/// How many processes may end with a message in their hands before it is laid
/// aside.
pub const MAX_ATTEMPTS: u64 = 10;
/// Well within [`crate::bus::ACKNOWLEDGE_WITHIN`].
const KEEP_EVERY: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a message was not handled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// Something is away: the message is tried until it is back.
    #[error("{0}")]
    Unavailable(String),
    /// It may work the next time; after [`MAX_FAILURES`] it is laid aside.
    #[error("{0}")]
    Failed(String),
    /// It never will: it is laid aside at once.
    #[error("{0}")]
    Poison(String),
}

/// Handles a consumer's messages, and its replayed dead letters, for ever.
pub async fn consume<F, W>(bus: Arc<dyn Bus>, name: &str, filter: &str, handle: F)
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let replays = replay_filter(name);
    let replayer = format!("{name}-replay");
    tokio::join!(
        take_for_ever(&bus, name, name, filter, &handle),
        take_for_ever(&bus, &replayer, name, &replays, &handle),
    );
}

/// `owner` is the consumer to which a dead letter comes back.
async fn take_for_ever<F, W>(bus: &Arc<dyn Bus>, name: &str, owner: &str, filter: &str, handle: &F)
where
    F: Fn(Message) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let mut pause = Backoff::up_to(LONGEST_PAUSE);
    loop {
        let lost = match bus.consumer(name, filter).await {
            Ok(mut consumer) => loop {
                match take_one(&**bus, &mut *consumer, owner, handle).await {
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

async fn take_one<F, W>(
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
    if let Err(error) = try_hard(consumer, &delivery, handle).await? {
        let message = &delivery.message;
        tracing::error!(
            consumer = owner,
            sequence = message.sequence,
            subject = %message.subject,
            %error,
            "an event could not be handled and is laid aside; see `stoa events dead`"
        );
        bus.bury(&DeadLetter {
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

/// Handles one message until it is done, or given up (the inner error).
async fn try_hard<F, W>(
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
    let mut hands = Hands {
        consumer,
        heard: Instant::now(),
    };
    let mut failures = 0;
    let mut pause = Backoff::up_to(LONGEST_PAUSE);
    loop {
        let error = match hands.during(handle(delivery.message.clone())).await? {
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
            "an event is tried again"
        );
        hands.during(pause.wait()).await?;
    }
}

/// A message in our hands, of which the bus must hear now and then.
struct Hands<'c> {
    consumer: &'c mut dyn Consumer,
    heard: Instant,
}

impl Hands<'_> {
    /// Waits for something, and keeps the message meanwhile.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, BusError> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout_at(self.heard + KEEP_EVERY, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => {
                    self.consumer.keep().await?;
                    self.heard = Instant::now();
                }
            }
        }
    }
}

/// The subject that a message had before it was laid aside and replayed.
fn original_subject<'s>(owner: &str, subject: &'s str) -> &'s str {
    let prefix = replay_filter(owner);
    subject
        .strip_prefix(prefix.trim_end_matches('>'))
        .unwrap_or(subject)
}
