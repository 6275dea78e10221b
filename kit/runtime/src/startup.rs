//! The listener of a process, open from its first moment: while what it needs
//! is not there yet, it says what it waits for.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::backoff::Backoff;

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a process serves: first that it is starting, then itself.
#[derive(Clone, Default)]
pub struct Front(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: OnceLock<Router>,
    waiting_for: Mutex<Option<String>>,
}

impl Front {
    /// Starts to listen. Requests under way are finished when `stop` is
    /// cancelled.
    pub fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> JoinHandle<std::io::Result<()>> {
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move {
            let serving = crate::listen::serve(listener, app, stop.clone());
            crate::shutdown::bounded(serving, &stop).await
        })
    }

    /// From now on the process answers; the first call counts.
    pub fn open(&self, router: Router) {
        let _ = self.0.open.set(router);
    }

    fn wait_for(&self, what: Option<String>) {
        // A poisoned lock holds a whole value all the same.
        *self
            .0
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Repeats something until it succeeds, and says so; an error that waiting
    /// cannot cure ends it.
    ///
    /// # Errors
    /// The first that `is_passing` does not call one.
    pub async fn until_there<T, E: std::fmt::Display>(
        &self,
        what: &str,
        is_passing: impl Fn(&E) -> bool,
        attempt: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pause = Backoff::up_to(LONGEST_PAUSE);
        loop {
            match attempt().await {
                Ok(there) => {
                    self.wait_for(None);
                    return Ok(there);
                }
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "waiting for {what}");
                    self.wait_for(Some(what.to_owned()));
                    pause.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    if let Some(open) = front.0.open.get() {
        return match open.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    if request.uri().path() == "/health/live" {
        return "ok".into_response();
    }
    let waiting = front
        .0
        .waiting_for
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let message = match &waiting {
        Some(what) => format!("starting: waiting for {what}"),
        None => "starting".to_owned(),
    };
    let body = json!({
        "status": "starting",
        "waitingFor": waiting,
        "errors": [{ "message": message, "extensions": { "code": "UNAVAILABLE" } }],
    });
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "1")],
        axum::Json(body),
    )
        .into_response()
}
