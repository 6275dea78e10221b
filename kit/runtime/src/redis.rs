//! Redis, for data that may be lost: cached values and rate-limit counts. While it
//! is unavailable, nothing waits for it and nothing fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use redis::Script;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult, TlsCertificates};

use crate::settings::SettingError;

/// How long a response may take before we go on without it.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long Redis is not used after a failure.
const COOLDOWN: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// A connection that reconnects by itself. Shared by all clones.
#[derive(Clone)]
pub struct Redis {
    manager: ConnectionManager,
    health: Arc<Health>,
}

struct Health {
    started: Instant,
    /// Until when Redis is not used, in milliseconds since `started`.
    cooldown_until: AtomicU64,
    down: AtomicBool,
}

impl Redis {
    /// For `redis://[USER:PASSWORD@]HOST:PORT[/DB]` or `rediss://...`; connects
    /// when it is first used.
    ///
    /// # Errors
    /// If the URL is not of that form, or the CA file cannot be read.
    pub fn open(name: &str, url: &str, ca_file: Option<&Path>) -> Result<Self, SettingError> {
        let bad = |error: &dyn std::fmt::Display| SettingError::new(name, error.to_string());
        let client = match ca_file {
            None => Client::open(url).map_err(|error| bad(&error))?,
            Some(path) => {
                let root = std::fs::read(path)
                    .map_err(|error| bad(&format!("cannot read {}: {error}", path.display())))?;
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(root),
                };
                Client::build_with_tls(url, certificates).map_err(|error| bad(&error))?
            }
        };
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(LONGEST_RETRY)
            .set_number_of_retries(1);
        Ok(Self {
            manager: ConnectionManager::new_lazy_with_config(client, config)
                .map_err(|error| bad(&error))?,
            health: Arc::new(Health {
                started: Instant::now(),
                cooldown_until: AtomicU64::new(0),
                down: AtomicBool::new(false),
            }),
        })
    }

    /// Runs `work` with a connection; `None` if Redis is unavailable or too slow.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(ConnectionManager) -> RedisResult<T>,
    ) -> Option<T> {
        let health = &self.health;
        let now = || u64::try_from(health.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now() < health.cooldown_until.load(Ordering::Relaxed) {
            return None;
        }
        let cause = match tokio::time::timeout(RESPONSE_TIMEOUT, work(self.manager.clone())).await {
            Ok(Ok(done)) => {
                if health.down.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis is back");
                }
                return Some(done);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no response within {RESPONSE_TIMEOUT:?}"),
        };
        let rest = now() + u64::try_from(COOLDOWN.as_millis()).unwrap_or(0);
        health.cooldown_until.store(rest, Ordering::Relaxed);
        if !health.down.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = cause,
                "redis is unavailable: no cache, and rate limits count this process alone"
            );
        }
        None
    }

    /// Whether Redis responds.
    pub async fn is_ready(&self) -> bool {
        self.run(async |mut connection| {
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
        })
        .await
        .is_some()
    }
}
