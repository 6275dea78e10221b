//! A subgraph as a value, and its HTTP surface in a process of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection};
use async_graphql::{ObjectType, Request, Response, Schema, ServerError, SubscriptionType};
use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::bus::Bus;
use crate::database::Database;
use crate::health::{Check, readiness};
use crate::identity::{Caller, IdentityKey, InvalidIdentity};
use crate::peer::{PeerError, PeerHandler};
use crate::telemetry::{CORRELATION_HEADER, continue_trace, correlation_id, in_span};

/// The most bytes that a request to a subgraph may have.
const MAX_BODY: usize = 16 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What is known of a call before its content.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub caller: Caller,
    pub correlation_id: Arc<str>,
    /// The cookies that the router lets through to this service.
    pub cookies: HashMap<String, String>,
}

impl Default for CallContext {
    fn default() -> Self {
        Self {
            caller: Caller::Anonymous,
            correlation_id: "".into(),
            cookies: HashMap::new(),
        }
    }
}

impl CallContext {
    /// Reads a request's headers.
    ///
    /// # Errors
    /// If they hold an identity that does not verify.
    pub fn from_headers(headers: &HeaderMap, key: &IdentityKey) -> Result<Self, InvalidIdentity> {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            caller: key.verify(headers)?,
            correlation_id: correlation_id(headers).into(),
            cookies,
        })
    }
}

/// A GraphQL schema, whatever its types.
#[async_trait]
pub trait GraphqlService: Send + Sync {
    async fn execute(&self, request: Request) -> Response;
    fn subscribe(&self, request: Request) -> BoxStream<'static, Response>;
    fn sdl(&self) -> &str;
}

struct SchemaService<Q, M, S> {
    schema: Schema<Q, M, S>,
    sdl: String,
}

#[async_trait]
impl<Q, M, S> GraphqlService for SchemaService<Q, M, S>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    async fn execute(&self, mut request: Request) -> Response {
        if let Ok(document) = request.parsed_query()
            && asks_for_sdl(document)
        {
            return Response::new(
                async_graphql::Value::from_json(json!({ "_service": { "sdl": self.sdl } }))
                    .unwrap_or_default(),
            );
        }
        let mutates = request.parsed_query().is_ok_and(|document| {
            let mut operations = document.operations.iter();
            operations.any(|(_, operation)| operation.node.ty == OperationType::Mutation)
        });
        if !mutates {
            return self.schema.execute(request).await;
        }
        // A client that goes away ends a query, but leaves no change half told:
        // what follows a commit is done all the same.
        let schema = self.schema.clone();
        let work = async move { schema.execute(request).await };
        tokio::spawn(work.in_current_span())
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "a mutation ended in the middle");
                Response::from_errors(vec![ServerError::new("the operation failed", None)])
            })
    }

    fn subscribe(&self, request: Request) -> BoxStream<'static, Response> {
        self.schema.execute_stream(request).boxed()
    }

    fn sdl(&self) -> &str {
        &self.sdl
    }
}

/// Whether an operation is `{ _service { sdl } }`, which we answer ourselves
/// with the rewritten text.
fn asks_for_sdl(document: &ExecutableDocument) -> bool {
    document.operations.iter().all(|(_, operation)| {
        let items = &operation.node.selection_set.node.items;
        !items.is_empty()
            && items.iter().all(|item| {
                matches!(&item.node, Selection::Field(field)
                    if field.node.name.node == "_service" && field.node.alias.is_none())
            })
    })
}

/// Routes beside GraphQL.
pub type Routes = Router;

/// Work that a service does beside answering requests.
pub type Task = BoxFuture<'static, ()>;

/// A built subgraph: in one process it is called directly, in a process of its
/// own [`Service::router`] puts it on HTTP.
pub struct Service {
    pub name: &'static str,
    pub graphql: Arc<dyn GraphqlService>,
    pub peer: Arc<dyn PeerHandler>,
    pub database: Database,
    /// Routes beside GraphQL, such as images and keys.
    pub routes: Router,
    pub tasks: Vec<Task>,
    /// What the service depends on.
    pub checks: Vec<Check>,
}

impl Service {
    /// A service's readiness: its database, and what else it names.
    pub fn database_check(database: &Database) -> Check {
        let database = database.clone();
        Check::needed("database", move || {
            let database = database.clone();
            async move { database.is_ready().await }
        })
    }

    /// Whether the event bus answers.
    pub fn bus_check(bus: &Arc<dyn Bus>) -> Check {
        let bus = bus.clone();
        Check::needed("bus", move || {
            let bus = bus.clone();
            async move { bus.info().await.is_ok() }
        })
    }

    /// Takes a schema together with its rewritten SDL.
    pub fn graphql<Q, M, S>(schema: Schema<Q, M, S>) -> Arc<dyn GraphqlService>
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        let sdl = crate::sdl::sdl(&schema);
        Arc::new(SchemaService { schema, sdl })
    }

    /// The HTTP surface: `/graphql`, `/internal/peer/{method}`, `/health`, and
    /// the service's own routes.
    /// Subscriptions end when `stop` is cancelled.
    pub fn router(&self, key: IdentityKey, stop: CancellationToken) -> Router {
        let shared = Arc::new(Shared {
            name: self.name,
            graphql: self.graphql.clone(),
            peer: self.peer.clone(),
            checks: self.checks.clone(),
            key,
            stop,
        });
        Router::new()
            .route("/graphql", post(graphql))
            .route("/internal/peer/{method}", post(peer))
            .route("/health", get(health))
            .route("/health/live", get(|| async { "ok" }))
            .route("/health/ready", get(health))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(shared)
            .merge(self.routes.clone())
    }
}

/// Runs tasks until `stop` is cancelled. One that ends before that has failed:
/// the process stops too, rather than go on without it. Answers whether all
/// went well.
pub fn spawn_tasks(tasks: Vec<Task>, stop: &CancellationToken) -> tokio::task::JoinHandle<bool> {
    let mut running = tokio::task::JoinSet::new();
    for task in tasks {
        running.spawn(stop.clone().run_until_cancelled_owned(task));
    }
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut all_well = true;
        while let Some(ended) = running.join_next().await {
            if !stop.is_cancelled() || ended.is_err() {
                tracing::error!(?ended, "a background task has ended; stopping");
                all_well = false;
                stop.cancel();
            }
        }
        all_well
    })
}

struct Shared {
    name: &'static str,
    graphql: Arc<dyn GraphqlService>,
    peer: Arc<dyn PeerHandler>,
    checks: Vec<Check>,
    key: IdentityKey,
    stop: CancellationToken,
}

async fn graphql(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let context = match CallContext::from_headers(&headers, &shared.key) {
        Ok(context) => context,
        Err(error) => {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                &error.to_string(),
            );
        }
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", &error.to_string()),
    };
    let id = context.correlation_id.clone();
    let span = tracing::info_span!(
        "subgraph",
        otel.kind = "server",
        service = shared.name,
        operation = request.operation_name.as_deref().unwrap_or_default(),
        correlation_id = %id
    );
    continue_trace(&span, &headers);
    let wants_events = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_events {
        let events = span.in_scope(|| shared.graphql.subscribe(request.data(context)));
        let events = in_span(span, events);
        let stop = shared.stop.clone().cancelled_owned();
        return Sse::new(server_sent(events.take_until(stop).boxed()))
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response();
    }
    let response = shared
        .graphql
        .execute(request.data(context))
        .instrument(span)
        .await;
    let extra = response.http_headers.clone();
    let mut http = Json(response).into_response();
    http.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/graphql-response+json; charset=utf-8"),
    );
    http.headers_mut().extend(extra);
    if let Ok(id) = header::HeaderValue::from_str(&id) {
        http.headers_mut().insert(CORRELATION_HEADER, id);
    }
    http
}

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
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> HttpResponse {
    let context = match CallContext::from_headers(&headers, &shared.key) {
        Ok(context) if context.caller.is_service() => context,
        _ => {
            return refuse(
                StatusCode::FORBIDDEN,
                "FORBIDDEN",
                &PeerError::Forbidden.to_string(),
            );
        }
    };
    let span = tracing::info_span!(
        "peer",
        otel.kind = "server",
        service = shared.name,
        method,
        correlation_id = %context.correlation_id
    );
    continue_trace(&span, &headers);
    match shared
        .peer
        .call(&context, &method, message)
        .instrument(span)
        .await
    {
        Ok(answer) => Json(answer).into_response(),
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

async fn health(State(shared): State<Arc<Shared>>) -> HttpResponse {
    readiness(&shared.checks).await
}

fn refuse(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = json!({ "errors": [{ "message": message, "extensions": { "code": code } }] });
    (status, Json(body)).into_response()
}
