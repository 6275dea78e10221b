//! A subgraph over HTTP, in a process of its own.
//!
//! `async-graphql-axum` reads requests and writes responses. Around it stand
//! layers of our own: the body limit, the content type, and the caller's
//! identity. Two things that crate cannot do are here: rejections as JSON, and
//! subscriptions as server-sent events, which is what the router speaks
//! (docs/adr/0004-libraries.md).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Executor, ParseRequestError, Request, Response};
use async_graphql_axum::{GraphQLRequest, GraphQLResponse};
use axum::extract::{DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream::{BoxStream, Stream, StreamExt};
use serde_json::{Value, json};
use stoa_runtime::health::{Check, readiness};
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::telemetry::{CORRELATION_HEADER, continue_trace, in_span};
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tracing::Instrument;

use crate::context::CallContext;
use crate::peer::{PeerError, PeerHandler};
use crate::service::{GraphqlService, Service};

/// The maximum size of a request to a subgraph, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// How often an idle event stream sends a comment, so that the router can tell
/// it from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What the body limit's error says; async-graphql keeps only an
/// error's text.
const LENGTH_LIMIT: &str = "length limit exceeded";

/// The HTTP surface of a service: `POST /graphql`,
/// `POST /internal/peer/{method}`, `/health`, and the service's own routes.
/// Subscriptions end when `stop` is cancelled.
pub fn router(service: &Service, key: IdentityKey, stop: CancellationToken) -> Router {
    let state = Arc::new(ServerState {
        name: service.name,
        executor: SharedExecutor(service.graphql.clone()),
        peer: service.peer.clone(),
        checks: service.checks.clone(),
        stop,
    });
    // The layer that is added last sees a request first: who calls is known
    // before a byte of the body is read.
    let internal = Router::new()
        .route(
            "/graphql",
            post(graphql).route_layer(middleware::from_fn(require_json)),
        )
        .route("/internal/peer/{method}", post(peer))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        // Else the extractors have a lower limit of their own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::map_response(describe_too_large))
        .route_layer(middleware::from_fn_with_state(key, identify));
    internal
        .route("/health", get(health))
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(health))
        .with_state(state)
        .merge(service.routes.clone())
}

struct ServerState {
    name: &'static str,
    executor: SharedExecutor,
    peer: Arc<dyn PeerHandler>,
    checks: Vec<Check>,
    stop: CancellationToken,
}

/// A schema of any types as async-graphql's [`Executor`], which must be
/// clonable.
#[derive(Clone)]
struct SharedExecutor(Arc<dyn GraphqlService>);

impl Executor for SharedExecutor {
    async fn execute(&self, request: Request) -> Response {
        self.0.execute(request).await
    }

    fn execute_stream(
        &self,
        request: Request,
        _session: Option<Arc<async_graphql::Data>>,
    ) -> BoxStream<'static, Response> {
        self.0.subscribe(request)
    }
}

/// Verifies the identity header once, passes the caller on as a [`CallContext`],
/// and puts the correlation id on the response.
async fn identify(
    State(key): State<IdentityKey>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let context = match CallContext::from_headers(request.headers(), &key) {
        Ok(context) => context,
        Err(error) => {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                &error.to_string(),
            );
        }
    };
    let correlation_id = HeaderValue::from_str(&context.correlation_id);
    request.extensions_mut().insert(context);
    let mut response = next.run(request).await;
    if let Ok(id) = correlation_id {
        response.headers_mut().insert(CORRELATION_HEADER, id);
    }
    response
}

/// Takes JSON alone: async-graphql would also take a multipart upload.
async fn require_json(headers: HeaderMap, request: HttpRequest, next: Next) -> HttpResponse {
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    if is_json {
        next.run(request).await
    } else {
        refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "BAD_REQUEST",
            "send the request as application/json",
        )
    }
}

/// The limit's own response is plain text; ours are JSON.
async fn describe_too_large(response: HttpResponse) -> HttpResponse {
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        refuse_too_large()
    } else {
        response
    }
}

/// Why a request was not one that async-graphql can execute.
struct Rejection(ParseRequestError);

impl From<ParseRequestError> for Rejection {
    fn from(error: ParseRequestError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> HttpResponse {
        let text = self.0.to_string();
        match self.0 {
            ParseRequestError::PayloadTooLarge => refuse_too_large(),
            _ if text.contains(LENGTH_LIMIT) => refuse_too_large(),
            _ => refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", &text),
        }
    }
}

async fn graphql(
    State(state): State<Arc<ServerState>>,
    Extension(context): Extension<CallContext>,
    headers: HeaderMap,
    request: GraphQLRequest<Rejection>,
) -> HttpResponse {
    let request = request.into_inner();
    let span = tracing::info_span!(
        "subgraph",
        otel.kind = "server",
        service = state.name,
        operation = request.operation_name.as_deref().unwrap_or_default(),
        correlation_id = %context.correlation_id
    );
    continue_trace(&span, &headers);
    let request = request.data(context);
    let wants_events = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_events {
        let events = span.in_scope(|| state.executor.execute_stream(request, None));
        let events = in_span(span, events);
        let stop = state.stop.clone().cancelled_owned();
        return Sse::new(server_sent(events.take_until(stop).boxed()))
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response();
    }
    let response = state.executor.execute(request).instrument(span).await;
    GraphQLResponse::from(response).into_response()
}

/// The events of the distinct connections mode of the GraphQL over SSE
/// protocol.
fn server_sent(
    events: BoxStream<'static, Response>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    events
        .map(|response| {
            let json = serde_json::to_string(&response).unwrap_or_default();
            Event::default().event("next").data(json)
        })
        .chain(futures_util::stream::once(async {
            Event::default().event("complete").data("")
        }))
        .map(Ok)
}

async fn peer(
    State(state): State<Arc<ServerState>>,
    Extension(context): Extension<CallContext>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> HttpResponse {
    if !context.caller.is_service() {
        let message = PeerError::Forbidden.to_string();
        return refuse(StatusCode::FORBIDDEN, "FORBIDDEN", &message);
    }
    let span = tracing::info_span!(
        "peer",
        otel.kind = "server",
        service = state.name,
        method,
        correlation_id = %context.correlation_id
    );
    continue_trace(&span, &headers);
    let call = state.peer.call(&context, &method, message);
    match call.instrument(span).await {
        Ok(response) => Json(response).into_response(),
        Err(error @ PeerError::UnknownMethod(_)) => {
            refuse(StatusCode::NOT_FOUND, "NOT_FOUND", &error.to_string())
        }
        Err(error @ PeerError::BadMessage(_)) => {
            refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", &error.to_string())
        }
        Err(error) => {
            tracing::error!(%error, method, "a peer call failed");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "the call failed",
            )
        }
    }
}

async fn health(State(state): State<Arc<ServerState>>) -> HttpResponse {
    readiness(&state.checks).await
}

fn refuse_too_large() -> HttpResponse {
    refuse(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BAD_REQUEST",
        &format!("the request has more than {MAX_BODY} bytes"),
    )
}

fn refuse(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = json!({ "errors": [{ "message": message, "extensions": { "code": code } }] });
    (status, Json(body)).into_response()
}
