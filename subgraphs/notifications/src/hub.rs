//! Live messages: the process reads the bus once and fans out in memory.
//!
//! A subscriber attaches first and learns the join point, the last sequence
//! dispatched before it. It reads older messages from the bus; newer ones arrive
//! through its channel. No message is lost in between.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use stoa_runtime::backoff::Backoff;
use stoa_schema::events::ALL_SUBJECTS;
use stoa_service::bus::{Bus, BusError, Message, StreamInfo};
use tokio::sync::mpsc;

use crate::error::Error;

/// How many messages are buffered for one subscriber.
const BUFFER: usize = 256;
/// How many subscribers one process accepts.
const MAX_SUBSCRIBERS: usize = 20_000;
const REPLAY_BATCH: u64 = 256;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The process's only reader of the bus.
#[derive(Clone)]
pub struct Hub {
    bus: Arc<dyn Bus>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The identity of the stream that `position` belongs to.
    identity: String,
    /// The last sequence dispatched.
    position: u64,
    /// Channels by subject filter: one subject, or all of one owner.
    channels: HashMap<String, Vec<mpsc::Sender<Message>>>,
    subscriber_count: usize,
}

impl Hub {
    /// A hub that dispatches the messages after the stream's current end.
    pub fn new(bus: Arc<dyn Bus>, stream: &StreamInfo) -> Self {
        Self {
            bus,
            state: Arc::new(Mutex::new(State {
                identity: stream.identity.clone(),
                position: stream.last,
                channels: HashMap::new(),
                subscriber_count: 0,
            })),
        }
    }

    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; if it did, the state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the bus and dispatches messages until the process ends.
    pub async fn run(self) {
        let mut pause = Backoff::up_to(LONGEST_PAUSE);
        loop {
            match self.open_stream().await {
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        if !self.dispatch(&message) {
                            tracing::error!("the event stream went backwards; reading it again");
                            break;
                        }
                        pause = Backoff::up_to(LONGEST_PAUSE);
                    }
                }
                Err(error) => tracing::warn!(%error, "live updates wait for the event bus"),
            }
            pause.wait().await;
        }
    }

    /// Continues after the last position; a stream that was recreated ends every
    /// subscription, because its sequences do not continue the old ones.
    async fn open_stream(&self) -> Result<BoxStream<'static, Message>, BusError> {
        let stream = self.bus.info().await?;
        let after = {
            let mut state = self.state();
            if state.identity != stream.identity {
                tracing::error!("the event stream was recreated; every subscriber must resume");
                state.identity = stream.identity;
                state.position = stream.last;
                state.channels.clear();
                state.subscriber_count = 0;
            }
            state.position
        };
        self.bus.follow(ALL_SUBJECTS, after).await
    }

    /// Dispatches a message to its subscribers; false if it does not come after
    /// the last one.
    fn dispatch(&self, message: &Message) -> bool {
        let mut state = self.state();
        if message.sequence <= state.position {
            return false;
        }
        state.position = message.sequence;
        let subject = message.subject.to_string();
        let owner = subject
            .rsplit_once('.')
            .map(|(owner, _)| format!("{owner}.*"));
        for key in [Some(subject), owner].into_iter().flatten() {
            let Some(channels) = state.channels.get_mut(&key) else {
                continue;
            };
            let before = channels.len();
            // A full channel is closed: its subscriber reads what is in it,
            // learns that it was too slow, and resumes.
            channels.retain(|channel| channel.try_send(message.clone()).is_ok());
            let dropped = before - channels.len();
            if channels.is_empty() {
                state.channels.remove(&key);
            }
            state.subscriber_count -= dropped;
        }
        true
    }

    /// Subscribes to one subject, or to all of one owner (`stoa.orders.ID.*`),
    /// after a sequence; without one, from now on.
    ///
    /// # Errors
    /// If there are too many subscribers.
    pub fn subscribe(&self, filter: &str, after: Option<u64>) -> Result<Subscriber, Error> {
        let (sender, live) = mpsc::channel(BUFFER);
        let mut state = self.state();
        if state.subscriber_count >= MAX_SUBSCRIBERS {
            state.remove_closed();
            if state.subscriber_count >= MAX_SUBSCRIBERS {
                return Err(Error::TooManySubscribers);
            }
        }
        state.subscriber_count += 1;
        state
            .channels
            .entry(filter.to_owned())
            .or_default()
            .push(sender);
        let join = state.position;
        Ok(Subscriber {
            bus: self.bus.clone(),
            filter: filter.to_owned(),
            position: after.unwrap_or(join),
            join_point: join,
            replayed: VecDeque::new(),
            live,
        })
    }
}

impl State {
    /// Removes the channels whose subscribers are gone.
    fn remove_closed(&mut self) {
        for channels in self.channels.values_mut() {
            channels.retain(|channel| !channel.is_closed());
        }
        self.channels.retain(|_, channels| !channels.is_empty());
        self.subscriber_count = self.channels.values().map(Vec::len).sum();
    }
}

/// One subscriber's progress through the stream.
pub struct Subscriber {
    bus: Arc<dyn Bus>,
    filter: String,
    /// The last sequence delivered or skipped.
    position: u64,
    join_point: u64,
    replayed: VecDeque<Message>,
    live: mpsc::Receiver<Message>,
}

impl Subscriber {
    /// The next message, in order and once; `None` if this subscriber was too
    /// slow and must resume.
    ///
    /// # Errors
    /// If the bus cannot be read.
    pub async fn next(&mut self) -> Result<Option<Message>, BusError> {
        if self.replayed.is_empty() && self.position < self.join_point {
            let batch = self
                .bus
                .read(&self.filter, self.position, REPLAY_BATCH)
                .await?;
            let join = self.join_point;
            self.replayed = batch
                .into_iter()
                .filter(|message| message.sequence <= join)
                .collect();
            if self.replayed.is_empty() {
                // Nothing is left before the join point.
                self.position = join;
            }
        }
        if let Some(message) = self.replayed.pop_front() {
            self.position = message.sequence;
            return Ok(Some(message));
        }
        while let Some(message) = self.live.recv().await {
            if message.sequence > self.position {
                self.position = message.sequence;
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}
