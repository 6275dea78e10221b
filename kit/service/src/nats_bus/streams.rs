//! The streams: created if they are missing, checked if they exist.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::{DEAD_LETTER_STREAM, DEAD_SUBJECT, NatsBus, STREAM, is_stream_missing, unavailable};
use crate::bus::{BusError, DEDUPLICATION_WINDOW, MAX_DEAD_LETTERS, REPLAY_PREFIX, RETENTION};

/// The maximum size of one event, in bytes.
const MAX_MESSAGE: i32 = 1024 * 1024;

impl NatsBus {
    /// Creates the streams if they are missing, and updates their settings if they
    /// exist.
    pub(super) async fn ensure_streams(&self) -> Result<(), BusError> {
        let common = Config {
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_message_size: MAX_MESSAGE,
            duplicate_window: DEDUPLICATION_WINDOW,
            max_messages: -1,
            max_bytes: -1,
            ..Config::default()
        };
        let events = Config {
            name: STREAM.to_owned(),
            subjects: vec!["stoa.>".to_owned(), format!("{REPLAY_PREFIX}.>")],
            max_age: RETENTION,
            // Events must not be deleted by hand: consumers would not notice the gap.
            deny_delete: true,
            ..common.clone()
        };
        let dead = Config {
            name: DEAD_LETTER_STREAM.to_owned(),
            subjects: vec![format!("{DEAD_SUBJECT}.*")],
            max_messages: i64::try_from(MAX_DEAD_LETTERS).unwrap_or(i64::MAX),
            discard: DiscardPolicy::Old,
            max_message_size: MAX_MESSAGE * 2,
            ..common
        };
        for wanted in [events, dead] {
            self.ensure_stream(wanted).await?;
        }
        Ok(())
    }

    async fn ensure_stream(&self, wanted: Config) -> Result<(), BusError> {
        let found = match self.context.get_stream(&wanted.name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) if is_stream_missing(&error.kind()) => {
                self.context
                    .create_stream(wanted)
                    .await
                    .map_err(unavailable)?;
                return Ok(());
            }
            Err(error) => return Err(unavailable(error)),
        };
        let differs = |what: &str| {
            BusError::Misconfigured(format!(
                "the stream {} exists with another {what}; delete it, or give Stoa an account of its own",
                wanted.name
            ))
        };
        if found.retention != wanted.retention {
            return Err(differs("retention policy"));
        }
        if found.storage != wanted.storage {
            return Err(differs("storage"));
        }
        let same = found.subjects == wanted.subjects
            && found.max_age == wanted.max_age
            && found.duplicate_window == wanted.duplicate_window
            && found.num_replicas == wanted.num_replicas
            && found.max_messages == wanted.max_messages
            && found.max_message_size == wanted.max_message_size;
        if !same {
            tracing::warn!(stream = wanted.name, "updating the stream's settings");
            let changed = Config {
                subjects: wanted.subjects.clone(),
                max_age: wanted.max_age,
                duplicate_window: wanted.duplicate_window,
                num_replicas: wanted.num_replicas,
                max_messages: wanted.max_messages,
                max_message_size: wanted.max_message_size,
                ..found
            };
            self.context.update_stream(changed).await.map_err(|error| {
                differs(&format!("configuration that cannot be changed ({error})"))
            })?;
        }
        Ok(())
    }
}
