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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use serde_json::Value;

    use super::*;

    async fn request(startup: &StartupListener, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = respond(State(startup.clone()), request).await;
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What the response says while the process starts.
    async fn starting(startup: &StartupListener) -> (String, Value) {
        let (status, body) = request(startup, "/graphql").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let body: Value = serde_json::from_str(&body).unwrap();
        let error = &body["errors"][0];
        assert_eq!(error["extensions"]["code"], "UNAVAILABLE");
        let message = error["message"].as_str().unwrap().to_owned();
        (message, body["waitingFor"].clone())
    }

    #[tokio::test]
    async fn a_starting_process_is_alive_and_unavailable_until_its_router_is_set() {
        let startup = StartupListener::default();
        let alive = request(&startup, "/health/live").await;
        assert_eq!(alive, (StatusCode::OK, "ok".to_owned()));
        let expected = ("starting".to_owned(), Value::Null);
        assert_eq!(starting(&startup).await, expected);

        startup.serve_app(Router::new().route("/graphql", get(|| async { "first" })));
        startup.serve_app(Router::new().route("/graphql", get(|| async { "second" })));
        let served = request(&startup, "/graphql").await;
        assert_eq!(served, (StatusCode::OK, "first".to_owned()));
    }

    #[tokio::test]
    async fn a_dependency_is_waited_for_by_name() {
        let startup = StartupListener::default();
        let attempts = AtomicU32::new(0);
        let attempt = async || match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err("refused"),
            _ => Ok(starting(&startup).await),
        };
        let meanwhile = startup
            .wait_until_available("the database", |_: &&str| true, attempt)
            .await;
        let expected = (
            "starting: waiting for the database".to_owned(),
            Value::from("the database"),
        );
        assert_eq!(meanwhile, Ok(expected));
        let expected = ("starting".to_owned(), Value::Null);
        assert_eq!(starting(&startup).await, expected);
    }

    #[tokio::test]
    async fn an_error_that_does_not_pass_ends_the_wait() {
        let startup = StartupListener::default();
        let attempts = AtomicU32::new(0);
        let attempt = async || match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err("refused"),
            1 => Err("wrong password"),
            _ => Ok(()),
        };
        let is_transient = |error: &&str| *error == "refused";
        let failed = startup
            .wait_until_available("the database", is_transient, attempt)
            .await;
        assert_eq!(failed, Err("wrong password"));
        assert_eq!(attempts.load(Ordering::SeqCst), 2);
    }
}
