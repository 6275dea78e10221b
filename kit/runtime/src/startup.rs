//! The process's listener, open from the start: until its dependencies are available,
//! it responds with 503 and says what the process is waiting for.

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

/// Responds that the process is starting until the application's router is set,
/// then serves that router.
#[derive(Clone, Default)]
pub struct StartupListener(Arc<Inner>);

#[derive(Default)]
struct Inner {
    app: OnceLock<Router>,
    waiting_for: Mutex<Option<String>>,
}

impl StartupListener {
    /// Starts to serve. Requests in progress are finished when `stop` is
    /// cancelled.
    pub fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> JoinHandle<std::io::Result<()>> {
        let app = Router::new().fallback(respond).with_state(self.clone());
        tokio::spawn(async move {
            let serving = crate::listen::serve(listener, app, stop.clone());
            crate::shutdown::run_until_drained(serving, &stop).await
        })
    }

    /// Serves this router from now on; only the first call has an effect.
    pub fn serve_app(&self, router: Router) {
        let _ = self.0.app.set(router);
    }

    fn set_waiting_for(&self, what: Option<String>) {
        // The value is valid even if the lock is poisoned.
        *self
            .0
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Repeats `attempt` until it succeeds, and reports meanwhile what it waits for;
    /// an error that is not transient ends it.
    ///
    /// # Errors
    /// The first error for which `is_transient` returns false.
    pub async fn wait_until_available<T, E: std::fmt::Display>(
        &self,
        what: &str,
        is_transient: impl Fn(&E) -> bool,
        attempt: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pause = Backoff::up_to(LONGEST_PAUSE);
        loop {
            match attempt().await {
                Ok(there) => {
                    self.set_waiting_for(None);
                    return Ok(there);
                }
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "waiting for {what}");
                    self.set_waiting_for(Some(what.to_owned()));
                    pause.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn respond(State(startup): State<StartupListener>, request: Request) -> Response {
    if let Some(app) = startup.0.app.get() {
        return match app.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    if request.uri().path() == "/health/live" {
        return "ok".into_response();
    }
    let waiting = startup
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
