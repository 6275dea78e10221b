//! Liveness, readiness and metrics.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value, json};

use crate::Shared;

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Something that readiness depends on.
#[derive(Clone)]
pub struct Check {
    pub name: String,
    pub is_ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

pub(crate) async fn live() -> &'static str {
    "ok"
}

/// Ready when every dependency is; each is named either way.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let checks = shared.checks.iter().map(|check| async {
        let ready = tokio::time::timeout(CHECK_TIMEOUT, (check.is_ready)())
            .await
            .unwrap_or(false);
        (check.name.clone(), ready)
    });
    let results = join_all(checks).await;
    let all = results.iter().all(|(_, ready)| *ready);
    let word = |ready: bool| if ready { "ok" } else { "unavailable" };
    let dependencies: Map<String, Value> = results
        .into_iter()
        .map(|(name, ready)| (name, Value::from(word(ready))))
        .collect();
    let status = if all {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "status": word(all), "dependencies": dependencies });
    (status, Json(body)).into_response()
}

/// The process's metrics, shared by all routers in it.
#[derive(Clone)]
pub struct Metrics(Option<PrometheusHandle>);

impl Metrics {
    /// Starts recording, the first time.
    pub fn install() -> Self {
        static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
                .ok()?;
            builder.install_recorder().ok()
        });
        Self(handle.clone())
    }

    pub(crate) fn upkeep(&self) {
        if let Some(handle) = &self.0 {
            handle.run_upkeep();
        }
    }
}

pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.metrics.0 {
        Some(handle) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
            handle.render(),
        )
            .into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
