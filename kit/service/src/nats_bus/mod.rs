//! The bus in a NATS JetStream stream (server 2.9 or later).
//!
//! Reads that must be up to date go to the stream's leader: a direct get may be
//! served by a replica that lags behind.

mod streams;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer as NatsConsumer, DeliverPolicy, pull};
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{AckKind, PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use percent_encoding::percent_decode_str;

use crate::bus::{
    ACK_DEADLINE, Bus, BusError, Consumer, DeadLetter, Delivery, Message, Publish, Published,
    StreamInfo,
};

const STREAM: &str = "STOA";
const DEAD_LETTER_STREAM: &str = "STOA_DEAD";
const DEAD_SUBJECT: &str = "stoa-dead";
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server keeps an unused reader.
const READER_IDLE: Duration = Duration::from_secs(30);
const FOLLOW_BATCH: usize = 256;
/// A server that is silent for longer than twice this is considered lost.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PULL_EXPIRES: Duration = Duration::from_secs(20);

/// How to reach NATS, beyond its URL.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// A `.creds` file: JWT and seed.
    pub credentials_file: Option<PathBuf>,
    /// The authority that signed the server's certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// On how many servers of a cluster the stream is kept.
    pub replicas: usize,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            credentials_file: None,
            ca_file: None,
            replicas: 1,
        }
    }
}

/// A durable log in a JetStream stream.
#[derive(Clone)]
pub struct NatsBus {
    context: Context,
    replicas: usize,
}

impl NatsBus {
    /// Connects to `nats://[USER:PASSWORD@]HOST:PORT` (or `TOKEN@`), or
    /// `tls://...`, several separated by commas, and creates or checks the
    /// streams. The first URL's user is used for all of them.
    ///
    /// # Errors
    /// If no server responds, or an existing stream has incompatible settings.
    pub async fn connect(url: &str, options: &NatsOptions) -> Result<Self, BusError> {
        let mut connect = ConnectOptions::new()
            .name("stoa")
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT));
        if let Some(path) = &options.credentials_file {
            connect = connect
                .credentials_file(path)
                .await
                .map_err(|error| BusError::Misconfigured(format!("{}: {error}", path.display())))?;
        }
        if let Some(path) = &options.ca_file {
            connect = connect
                .add_root_certificates(path.clone())
                .require_tls(true);
        }
        let servers = url
            .split(',')
            .map(|server| server.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BusError::Misconfigured(error.to_string()))?;
        // The client ignores the user in a URL.
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if let Some(user) = servers.first().and_then(ServerAddr::username) {
            connect = match servers.first().and_then(ServerAddr::password) {
                Some(password) => connect.user_and_password(decoded(user), decoded(password)),
                None => connect.token(decoded(user)),
            };
        }
        let client = connect
            .connect(servers)
            .await
            .map_err(|error| match error.kind() {
                ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation
                | ConnectErrorKind::ServerParse => BusError::Misconfigured(error.to_string()),
                _ => unavailable(error),
            })?;
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        let bus = Self {
            context,
            replicas: options.replicas,
        };
        bus.ensure_streams().await?;
        Ok(bus)
    }

    /// The stream, recreated if its server has lost it.
    async fn stream(&self, name: &str) -> Result<Stream, BusError> {
        match self.context.get_stream(name).await {
            Ok(stream) => Ok(stream),
            Err(error) if is_stream_missing(&error.kind()) => {
                tracing::error!(stream = name, "NATS has lost the stream; it is recreated");
                self.ensure_streams().await?;
                self.context.get_stream(name).await.map_err(unavailable)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Stores a message, recreating the streams if the server has lost them.
    async fn store(
        &self,
        subject: &str,
        message: &PublishMessage,
    ) -> Result<Published, PublishErrorKind> {
        let mut retried = false;
        loop {
            match self.send(subject, message.clone()).await {
                Err(PublishErrorKind::StreamNotFound) if !retried => {
                    retried = true;
                    if self.ensure_streams().await.is_err() {
                        return Err(PublishErrorKind::StreamNotFound);
                    }
                }
                done => return done,
            }
        }
    }

    async fn send(
        &self,
        subject: &str,
        message: PublishMessage,
    ) -> Result<Published, PublishErrorKind> {
        let sent = self
            .context
            .send_publish(subject.to_owned(), message)
            .await
            .map_err(|error| error.kind())?;
        let stored = sent.await.map_err(|error| error.kind())?;
        Ok(Published {
            sequence: stored.sequence,
            duplicate: stored.duplicate,
        })
    }

    async fn read_from(
        &self,
        stream: &str,
        filter: &str,
        after: u64,
        limit: u64,
    ) -> Result<Vec<Message>, BusError> {
        let stream = self
            .context
            .get_stream_no_info(stream)
            .await
            .map_err(unavailable)?;
        let mut found = Vec::new();
        let mut next = after + 1;
        // One by one: a consumer would need the server's count of pending
        // messages, which before 2.10 is an estimate if the filter has wildcards.
        while (found.len() as u64) < limit {
            let asked = stream
                .raw_message_builder()
                .sequence(next)
                .next_by_subject(filter)
                .send();
            match asked.await {
                Err(error) if is_stream_lost(&error.kind()) => {
                    self.ensure_streams().await?;
                    break;
                }
                Ok(message) => {
                    next = message.sequence + 1;
                    found.push(stored(&message)?);
                }
                Err(error) if is_no_message(&error.kind()) => break,
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, message: Publish) -> Result<Published, BusError> {
        let mut built = PublishMessage::build()
            .payload(message.payload.into())
            .message_id(&message.message_id);
        if let Some(expected) = message.expected_last {
            built = built.expected_last_subject_sequence(expected);
        }
        match self.store(&message.subject, &built).await {
            Ok(stored) => Ok(stored),
            Err(PublishErrorKind::WrongLastSequence) => Err(BusError::Conflict {
                last: self
                    .last_message(&message.subject)
                    .await?
                    .map_or(0, |last| last.sequence),
            }),
            Err(kind) => Err(BusError::Unavailable(kind.to_string())),
        }
    }

    async fn last_message(&self, subject: &str) -> Result<Option<Message>, BusError> {
        let stream = self
            .context
            .get_stream_no_info(STREAM)
            .await
            .map_err(unavailable)?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => stored(&message).map(Some),
            Err(error) if is_no_message(&error.kind()) => Ok(None),
            // A recreated stream is empty.
            Err(error) if is_stream_lost(&error.kind()) => {
                self.ensure_streams().await.map(|()| None)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn read(&self, filter: &str, after: u64, limit: u64) -> Result<Vec<Message>, BusError> {
        self.read_from(STREAM, filter, after, limit).await
    }

    async fn follow(
        &self,
        filter: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Message>, BusError> {
        let stream = self.stream(STREAM).await?;
        // Not the client's ordered consumer: that one recreates itself, even
        // on another stream of this name. Ours ends instead.
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after + 1,
            },
            ack_policy: AckPolicy::None,
            filter_subject: filter.to_owned(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: READER_IDLE,
            ..pull::Config::default()
        };
        let reader: NatsConsumer<pull::Config> =
            stream.create_consumer(config).await.map_err(unavailable)?;
        let messages = reader
            .stream()
            .max_messages_per_batch(FOLLOW_BATCH)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(unavailable)?;
        Ok(messages
            .scan(0_u64, |delivered, next| {
                let read = next.map_err(unavailable).and_then(|next| {
                    let count = next.info().map_err(unavailable)?.consumer_sequence;
                    if count != *delivered + 1 {
                        return Err(unavailable("a message was lost in transit"));
                    }
                    *delivered = count;
                    message(&next)
                });
                std::future::ready(match read {
                    Ok((message, _)) => Some(message),
                    Err(error) => {
                        tracing::warn!(%error, "lost the event stream");
                        None
                    }
                })
            })
            .boxed())
    }

    async fn consumer(&self, name: &str, filter: &str) -> Result<Box<dyn Consumer>, BusError> {
        let stream = self.stream(STREAM).await?;
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subject: filter.to_owned(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_DEADLINE,
            // One message in flight across all processes keeps the order.
            max_ack_pending: 1,
            max_deliver: -1,
            ..pull::Config::default()
        };
        let durable: NatsConsumer<pull::Config> = match stream.get_consumer(name).await {
            Ok(found) => found,
            Err(_) => stream
                .create_consumer(config.clone())
                .await
                .map_err(unavailable)?,
        };
        let found = &durable.cached_info().config;
        if found.filter_subject != config.filter_subject
            || found.max_ack_pending != config.max_ack_pending
            || found.ack_wait != config.ack_wait
        {
            tracing::warn!(consumer = name, "updating the consumer's settings");
            stream.create_consumer(config).await.map_err(unavailable)?;
        }
        let messages = durable
            .stream()
            .max_messages_per_batch(16)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(unavailable)?;
        Ok(Box::new(NatsConsumerHandle {
            messages,
            last: None,
        }))
    }

    async fn info(&self) -> Result<StreamInfo, BusError> {
        let stream = self.stream(STREAM).await?;
        let info = stream.cached_info();
        Ok(StreamInfo {
            identity: info.created.unix_timestamp_nanos().to_string(),
            first: info.state.first_sequence.max(1),
            last: info.state.last_sequence,
        })
    }

    async fn dead_letter(&self, dead: &DeadLetter) -> Result<(), BusError> {
        let letter = serde_json::to_string(dead)
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        let subject = format!("{DEAD_SUBJECT}.{}", dead.consumer);
        let message = PublishMessage::build()
            .payload(letter.into())
            .message_id(format!("{}-{}", dead.consumer, dead.sequence));
        self.store(&subject, &message)
            .await
            .map(|_| ())
            .map_err(|kind| BusError::Unavailable(kind.to_string()))
    }

    async fn dead_letters(&self, limit: u64) -> Result<Vec<(u64, DeadLetter)>, BusError> {
        let filter = format!("{DEAD_SUBJECT}.*");
        self.read_from(DEAD_LETTER_STREAM, &filter, 0, limit)
            .await?
            .into_iter()
            .map(|message| {
                let letter = serde_json::from_str(&message.payload)
                    .map_err(|error| BusError::Unavailable(error.to_string()))?;
                Ok((message.sequence, letter))
            })
            .collect()
    }

    async fn dead_letter_remove(&self, id: u64) -> Result<(), BusError> {
        let stream = self.stream(DEAD_LETTER_STREAM).await?;
        stream.delete_message(id).await.map_err(unavailable)?;
        Ok(())
    }
}

/// This process's part of a durable consumer.
struct NatsConsumerHandle {
    messages: pull::Stream,
    last: Option<jetstream::Message>,
}

impl NatsConsumerHandle {
    fn last(&self) -> Result<&jetstream::Message, BusError> {
        self.last
            .as_ref()
            .ok_or_else(|| BusError::Unavailable("there is no message to acknowledge".to_owned()))
    }
}

#[async_trait]
impl Consumer for NatsConsumerHandle {
    async fn next(&mut self) -> Result<Delivery, BusError> {
        let next = self
            .messages
            .next()
            .await
            .ok_or_else(|| BusError::Unavailable("the consumer ended".to_owned()))?
            .map_err(unavailable)?;
        let (message, attempt) = message(&next)?;
        self.last = Some(next);
        Ok(Delivery { message, attempt })
    }

    async fn extend_ack_deadline(&mut self) -> Result<(), BusError> {
        self.last()?
            .ack_with(AckKind::Progress)
            .await
            .map_err(unavailable)
    }

    async fn acknowledge(&mut self) -> Result<(), BusError> {
        let acknowledged = tokio::time::timeout(TIMEOUT, self.last()?.double_ack());
        acknowledged
            .await
            .map_err(unavailable)?
            .map_err(unavailable)
    }
}

fn stored(message: &StreamMessage) -> Result<Message, BusError> {
    Ok(Message {
        sequence: message.sequence,
        subject: message.subject.as_str().into(),
        payload: text(&message.payload),
    })
}

fn is_no_message(kind: &LastRawMessageErrorKind) -> bool {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(cause) => {
            cause.error_code() == ErrorCode::NO_MESSAGE_FOUND
        }
        _ => false,
    }
}

fn is_stream_lost(kind: &LastRawMessageErrorKind) -> bool {
    matches!(kind, LastRawMessageErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// A message, and how often it was delivered.
fn message(message: &jetstream::Message) -> Result<(Message, u64), BusError> {
    let info = message.info().map_err(unavailable)?;
    let read = Message {
        sequence: info.stream_sequence,
        subject: message.subject.as_str().into(),
        payload: text(&message.payload),
    };
    Ok((read, info.delivered.unsigned_abs()))
}

/// Text that is not UTF-8 is not one of our events; it fails where it is parsed.
fn text(payload: &[u8]) -> std::sync::Arc<str> {
    String::from_utf8_lossy(payload).into()
}

fn is_stream_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}
