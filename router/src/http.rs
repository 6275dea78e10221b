//! GraphQL over HTTP.
//!
//! Source: <https://graphql.github.io/graphql-over-http/draft/>.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apollo_compiler::executable::OperationType;
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Deserialize;
use serde_json::{Map, Value};
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::{CORRELATION_HEADER, continue_trace, correlation_id, rename_span};
use tracing::Instrument;

use crate::AppState;
use crate::auth::{AuthError, Principal};
use crate::pipeline::{Client, GraphqlRequest, Prepared};
use crate::rate_limit::RateLimited;
use crate::{batch, sse, ws};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The media type of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/graphql-response+json`
    Graphql,
    /// `application/json`, for clients from before 2025.
    Json,
    /// `text/event-stream`
    Events,
}

impl Media {
    /// The media type that the client prefers; `None` if it accepts none of ours.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        let mut any = false;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let media = match parts
                    .next()
                    .unwrap_or_default()
                    .to_ascii_lowercase()
                    .as_str()
                {
                    "" => continue,
                    "application/graphql-response+json" => Some(Self::Graphql),
                    "application/json" | "*/*" | "application/*" => Some(Self::Json),
                    "text/event-stream" => Some(Self::Events),
                    _ => None,
                };
                any = true;
                let quality = parts
                    .find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok())
                    .unwrap_or(1.0);
                if let Some(media) = media
                    && quality > 0.0
                    && best.is_none_or(|(other, _)| quality > other)
                {
                    best = Some((quality, media));
                }
            }
        }
        match best {
            Some((_, media)) => Some(media),
            None if any => None,
            None => Some(Self::Json),
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Graphql => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Events => "text/event-stream",
        })
    }
}

/// The response to a request that is rejected before it is executed.
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub errors: Vec<GraphQLError>,
    /// Whether the request was a well-formed GraphQL request: then the status is
    /// 200 for clients that accept `application/json`.
    pub well_formed: bool,
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![GraphQLError::new(code, message)],
            well_formed: false,
            retry_after: None,
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let status = match error {
            AuthError::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<RateLimited> for Refusal {
    fn from(limited: RateLimited) -> Self {
        let seconds = limited.0.as_secs() + 1;
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                format!("too many requests from this address; try again in {seconds} s"),
            )
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<Map<String, Value>>,
    #[serde(default)]
    extensions: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryParameters {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
}

impl Parameters {
    fn into_request(self) -> Result<GraphqlRequest, Refusal> {
        Ok(GraphqlRequest {
            query: self.query.ok_or_else(|| {
                Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "BAD_REQUEST",
                    "\"query\" is missing",
                )
            })?,
            operation_name: self.operation_name.filter(|name| !name.is_empty()),
            variables: self.variables.unwrap_or_default(),
            explain: self
                .extensions
                .is_some_and(|extensions| extensions.get("plan") == Some(&Value::Bool(true))),
        })
    }
}

/// Reads a request from JSON: an HTTP body or a WebSocket message's payload.
pub(crate) fn request_from_json(value: Value) -> Result<GraphqlRequest, Refusal> {
    if value.is_array() {
        return Err(batch::batching_disabled());
    }
    serde_json::from_value::<Parameters>(value)
        .map_err(|error| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "BAD_REQUEST",
                format!("the request is not of the form {{query, operationName, variables, extensions}}: {error}"),
            )
        })?
        .into_request()
}

pub(crate) async fn post(
    State(state): State<Arc<AppState>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    request: Request,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    // Counted before the body is read.
    let address = state.limiter.client(address.ip(), &parts.headers);
    let parsed = match state.limiter.request(address).await {
        Ok(()) => read_post(&state, &parts.headers, body).await,
        Err(limited) => Err(limited.into()),
    };
    let parsed = match parsed {
        Ok(Value::Array(requests)) if state.config.limits.batch > 0 => {
            return batch::respond(state, address, parts.headers, requests).await;
        }
        Ok(value) => request_from_json(value),
        Err(refusal) => Err(refusal),
    };
    handle(state, address, parts.headers, parsed, false).await
}

async fn read_post(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let mut parts = content_type.split(';').map(str::trim);
    let utf8 = |part: &str| {
        part.strip_prefix("charset=")
            .is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"))
    };
    if parts.next() != Some("application/json") || !parts.all(utf8) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            "send the request as application/json in UTF-8",
        ));
    }
    let limit = state.config.limits.body;
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit))
        .await
        .map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                format!("the request's body took longer than {BODY_TIMEOUT:?}"),
            )
        })?
        .map_err(|_| {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "BODY_TOO_LARGE",
                format!("the request's body has more than {limit} bytes, or was cut off"),
            )
        })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "BAD_REQUEST",
            format!("the request's body is not JSON: {error}"),
        )
    })
}

pub(crate) async fn get(
    State(state): State<Arc<AppState>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    request: Request,
) -> HttpResponse {
    let (mut parts, _) = request.into_parts();
    let address = state.limiter.client(address.ip(), &parts.headers);
    if parts.headers.contains_key(header::UPGRADE) {
        return match WebSocketUpgrade::from_request_parts(&mut parts, &state).await {
            Ok(upgrade) => ws::upgrade(state, address, parts.headers, upgrade).await,
            Err(rejection) => rejection.into_response(),
        };
    }
    let parsed = match state.limiter.request(address).await {
        Ok(()) => read_get(&parts.uri),
        Err(limited) => Err(limited.into()),
    };
    handle(state, address, parts.headers, parsed, true).await
}

fn read_get(uri: &axum::http::Uri) -> Result<GraphqlRequest, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let Query(text) =
        Query::<QueryParameters>::try_from_uri(uri).map_err(|error| bad(error.body_text()))?;
    let object =
        |name: &str, text: Option<String>| -> Result<Option<Map<String, Value>>, Refusal> {
            match text.filter(|text| !text.is_empty()) {
                None => Ok(None),
                Some(text) => serde_json::from_str(&text)
                    .map_err(|error| bad(format!("\"{name}\" is not a JSON object: {error}"))),
            }
        };
    Parameters {
        query: text.query,
        operation_name: text.operation_name,
        variables: object("variables", text.variables)?,
        extensions: object("extensions", text.extensions)?,
    }
    .into_request()
}

async fn handle(
    state: Arc<AppState>,
    address: IpAddr,
    headers: HeaderMap,
    parsed: Result<GraphqlRequest, Refusal>,
    is_get: bool,
) -> HttpResponse {
    let started = Instant::now();
    let correlation: Arc<str> = correlation_id(&headers).into();
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        correlation_id = %correlation
    );
    continue_trace(&span, &headers);
    let mut response = async {
        let Some(media) = Media::negotiate(&headers) else {
            let refusal = Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "NOT_ACCEPTABLE",
                "responses are application/graphql-response+json, application/json or text/event-stream",
            );
            return refused(refusal, Media::Json);
        };
        let admitted = admit(&state, address, headers, correlation.clone(), parsed, is_get).await;
        let admitted = match admitted {
            Ok(admitted) => admitted,
            // Sent as an event so that an `EventSource` can read it. A rate limit
            // keeps its status and `Retry-After`.
            Err(refusal) if media == Media::Events && refusal.retry_after.is_none() => {
                return sse::refused(refusal.errors);
            }
            Err(refusal) => return refused(refusal, media),
        };
        let (prepared, request, client) = &admitted;
        // The span name follows OpenTelemetry's conventions for GraphQL servers.
        let name = prepared.name().unwrap_or("anonymous");
        rename_span(format!("{} {name}", prepared.kind().name()));
        if media == Media::Events {
            return sse::respond(state.clone(), admitted).await;
        }
        if prepared.kind() == OperationType::Subscription {
            let refusal = Refusal {
                well_formed: true,
                ..Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "SUBSCRIPTION_TRANSPORT",
                    "subscribe over WebSocket (graphql-transport-ws), or accept text/event-stream",
                )
            };
            return refused(refusal, media);
        }
        let answer = state.pipeline.execute(prepared, request, client).await;
        log(prepared, &answer, started);
        execution_response(&state, &answer, media)
    }
    .instrument(span)
    .await;
    if let Ok(id) = HeaderValue::from_str(&correlation) {
        response.headers_mut().insert(CORRELATION_HEADER, id);
    }
    metrics::counter!("stoa_http_requests_total", "status" => response.status().as_u16().to_string())
        .increment(1);
    response
}

/// A request that passed every check before execution.
pub(crate) type Admitted = (Arc<Prepared>, GraphqlRequest, Client);

pub(crate) async fn admit(
    state: &AppState,
    address: IpAddr,
    headers: HeaderMap,
    correlation_id: Arc<str>,
    parsed: Result<GraphqlRequest, Refusal>,
    is_get: bool,
) -> Result<Admitted, Refusal> {
    let request = parsed?;
    let principal = match &state.verifier {
        Some(verifier) => verifier.principal(&headers).await?,
        None => Principal::ANONYMOUS,
    };
    let prepared = prepare(state, &request)?;
    if is_get && prepared.kind() == OperationType::Mutation {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "mutations are sent with POST",
        ));
    }
    state
        .limiter
        .operation(address, prepared.root_fields())
        .await?;
    let last_event_id = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty())
        .map(str::to_owned);
    let client = Client {
        principal,
        correlation_id,
        headers: Arc::new(headers),
        last_event_id,
    };
    Ok((prepared, request, client))
}

pub(crate) fn prepare(
    state: &AppState,
    request: &GraphqlRequest,
) -> Result<Arc<Prepared>, Refusal> {
    state.pipeline.prepare(request).map_err(|errors| Refusal {
        status: StatusCode::BAD_REQUEST,
        errors,
        well_formed: true,
        retry_after: None,
    })
}

pub(crate) fn refused(refusal: Refusal, media: Media) -> HttpResponse {
    let status = if refusal.well_formed && media == Media::Json {
        StatusCode::OK
    } else {
        refusal.status
    };
    let answer = Response {
        errors: refusal.errors,
        ..Response::default()
    };
    let mut response = (status, answer.to_json()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media.content_type());
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn execution_response(state: &AppState, answer: &Response, media: Media) -> HttpResponse {
    // Without `data`, execution never began: the request is to blame, except for
    // a timeout.
    let status = match (&answer.data, media) {
        (Some(_), _) | (None, Media::Json) => StatusCode::OK,
        (None, _) => match answer.errors.first().and_then(GraphQLError::code) {
            Some("TIMEOUT") => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        },
    };
    let mut response = (status, answer.to_json()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (subgraph, from) in &answer.headers {
        state.config.headers.to_client(subgraph, from, headers);
    }
    response
}

/// Logs one line for each operation, never its variables.
pub(crate) fn log(prepared: &Prepared, answer: &Response, started: Instant) {
    let elapsed = started.elapsed();
    let kind = prepared.kind().name();
    metrics::histogram!("stoa_operation_duration_seconds", "type" => kind).record(elapsed);
    if !answer.errors.is_empty() {
        metrics::counter!("stoa_operation_errors_total", "type" => kind).increment(1);
    }
    tracing::info!(
        operation = prepared.name().unwrap_or_default(),
        kind,
        errors = answer.errors.len(),
        code = answer
            .errors
            .first()
            .and_then(GraphQLError::code)
            .unwrap_or_default(),
        micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "operation"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_media_type_wins() {
        let negotiate = |accept: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(accept) {
                headers.insert(header::ACCEPT, value);
            }
            Media::negotiate(&headers)
        };
        for (accept, expected) in [
            ("", Some(Media::Json)),
            ("*/*", Some(Media::Json)),
            ("application/json", Some(Media::Json)),
            ("application/graphql-response+json", Some(Media::Graphql)),
            (
                "application/graphql-response+json; charset=utf-8, application/json;q=0.9",
                Some(Media::Graphql),
            ),
            (
                "application/json;q=0.2, application/graphql-response+json;q=0.8",
                Some(Media::Graphql),
            ),
            ("text/event-stream", Some(Media::Events)),
            ("text/html", None),
            ("text/html, */*;q=0.1", Some(Media::Json)),
            ("application/json;q=0", None),
        ] {
            assert_eq!(negotiate(accept), expected, "{accept}");
        }
    }
}
