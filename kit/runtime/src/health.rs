//! Readiness: what a process depends on, by name.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value, json};

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// A dependency of the process.
#[derive(Clone)]
pub struct Check {
    pub name: String,
    /// Whether the process can serve requests without it.
    pub optional: bool,
    pub is_ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

impl Check {
    /// Without this the process is not ready.
    pub fn required<W>(name: &str, is_ready: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            optional: false,
            is_ready: Arc::new(move || is_ready().boxed()),
        }
    }

    /// Without this the process runs degraded.
    pub fn optional<W>(name: &str, is_ready: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            optional: true,
            ..Self::required(name, is_ready)
        }
    }
}

impl Check {
    async fn is_available(&self) -> bool {
        tokio::time::timeout(CHECK_TIMEOUT, (self.is_ready)())
            .await
            .unwrap_or(false)
    }
}

/// Logs when a dependency becomes unavailable and when it is back; runs until
/// dropped.
pub async fn watch(checks: Vec<Check>) {
    let mut unavailable = vec![false; checks.len()];
    loop {
        let results = join_all(checks.iter().map(Check::is_available)).await;
        for ((check, was_unavailable), ready) in checks.iter().zip(&mut unavailable).zip(results) {
            match (*was_unavailable, ready) {
                (false, false) => {
                    tracing::warn!(dependency = check.name, "waiting for {}", check.name)
                }
                (true, true) => tracing::info!(dependency = check.name, "{} is back", check.name),
                _ => {}
            }
            *was_unavailable = !ready;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// 200 when every required dependency is available, 503 otherwise; the body lists
/// all dependencies either way.
pub async fn readiness(checks: &[Check]) -> Response {
    let results = join_all(checks.iter().map(|check| async move {
        let ready = check.is_available().await;
        (check, ready)
    }))
    .await;
    let ready = results
        .iter()
        .all(|(check, ready)| *ready || check.optional);
    let whole = results.iter().all(|(_, ready)| *ready);
    let dependencies: Map<String, Value> = results
        .into_iter()
        .map(|(check, ready)| {
            let word = if ready { "ok" } else { "unavailable" };
            (check.name.clone(), Value::from(word))
        })
        .collect();
    let (status, word) = match (ready, whole) {
        (true, true) => (StatusCode::OK, "ok"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = json!({ "status": word, "dependencies": dependencies });
    (status, Json(body)).into_response()
}
