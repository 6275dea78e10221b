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
    pub need: Need,
    pub is_ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

/// What a process is without a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Not ready.
    Required,
    /// Degraded.
    Optional,
    /// Degraded; not ready if all dependencies of this kind are unavailable.
    Partial,
}

impl Check {
    /// Without this the process is not ready.
    pub fn required<W>(name: &str, is_ready: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            need: Need::Required,
            is_ready: Arc::new(move || is_ready().boxed()),
        }
    }

    /// Without this the process runs degraded.
    pub fn optional<W>(name: &str, is_ready: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            need: Need::Optional,
            ..Self::required(name, is_ready)
        }
    }

    /// Without this the process runs degraded, and without all such it is not ready.
    pub fn partial<W>(name: &str, is_ready: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            need: Need::Partial,
            ..Self::required(name, is_ready)
        }
    }

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

/// 200 when every required dependency is available, and of partial ones at least one;
/// 503 otherwise. The body lists all dependencies either way.
pub async fn readiness(checks: &[Check]) -> Response {
    let results = join_all(checks.iter().map(|check| async move {
        let ready = check.is_available().await;
        (check, ready)
    }))
    .await;
    let of = |need: Need| results.iter().filter(move |(check, _)| check.need == need);
    let is_available = |(_, ready): &&(&Check, bool)| *ready;
    let ready = of(Need::Required).all(|one| is_available(&one))
        && (of(Need::Partial).next().is_none() || of(Need::Partial).any(|one| is_available(&one)));
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn statuses(checks: &[Check]) -> (u16, Value) {
        let response = readiness(checks).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1_000).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_while_it_can_answer_something() {
        let partial = |name| move |is_ready| Check::partial(name, move || async move { is_ready });
        let required = Check::required("keys", || async { true });
        for (users, orders, status, word) in [
            (true, true, 200, "ok"),
            (true, false, 200, "degraded"),
            (false, true, 200, "degraded"),
            (false, false, 503, "unavailable"),
        ] {
            let checks = [
                required.clone(),
                partial("users")(users),
                partial("orders")(orders),
            ];
            let (found, body) = statuses(&checks).await;
            assert_eq!((found, body["status"].as_str()), (status, Some(word)));
        }
    }

    #[tokio::test]
    async fn a_process_is_ready_with_what_it_requires_and_degraded_without_the_rest() {
        let required = |is_ready| Check::required("database", move || async move { is_ready });
        let optional = |is_ready| Check::optional("redis", move || async move { is_ready });
        // Whether the database and Redis respond; the status, and three words.
        let cases = [
            (true, true, 200, ["ok", "ok", "ok"]),
            (true, false, 200, ["degraded", "ok", "unavailable"]),
            (false, true, 503, ["unavailable", "unavailable", "ok"]),
            (
                false,
                false,
                503,
                ["unavailable", "unavailable", "unavailable"],
            ),
        ];
        for (database, redis, status, [word, of_database, of_redis]) in cases {
            let (found, body) = statuses(&[required(database), optional(redis)]).await;
            assert_eq!(found, status);
            let expected = json!({
                "status": word,
                "dependencies": { "database": of_database, "redis": of_redis },
            });
            assert_eq!(body, expected);
        }
    }
}
