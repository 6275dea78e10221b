//! GraphQL over HTTP.
//!
//! Source: <https://graphql.github.io/graphql-over-http/draft/>.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apollo_compiler::executable::OperationType;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::{CORRELATION_HEADER, continue_trace, correlation_id, rename_span};
use tracing::Instrument;

use crate::AppState;
use crate::operation::GraphqlRequest;
use crate::request::{
    Media, Parameters, Refusal, admit, is_list, log_operation, not_json, refusal_response,
    request_from_json,
};
use crate::{batch, sse, ws};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryParameters {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
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
        Ok(body) if state.config.limits.batch > 0 && is_list(&body) => {
            match serde_json::from_slice(&body) {
                Ok(requests) => {
                    return batch::respond(state, address, parts.headers, requests).await;
                }
                Err(error) => Err(Refusal::bad_request(not_json(&error))),
            }
        }
        Ok(body) => request_from_json(&body),
        Err(refusal) => Err(refusal),
    };
    handle(state, address, parts.headers, parsed, false).await
}

async fn read_post(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
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
    tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit))
        .await
        .map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                format!("the request's body took longer than {BODY_TIMEOUT:?}"),
            )
        })?
        .map_err(|error| {
            let source = std::error::Error::source(&error);
            match source.is_some_and(|source| source.is::<LengthLimitError>()) {
                true => Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "BODY_TOO_LARGE",
                    format!("the request's body has more than {limit} bytes"),
                ),
                // It was cut off, or is not compressed as its headers say.
                false => Refusal::bad_request(format!("cannot read the request's body: {error}")),
            }
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
    let Query(text) = Query::<QueryParameters>::try_from_uri(uri)
        .map_err(|error| Refusal::bad_request(error.body_text()))?;
    Parameters {
        query: text.query,
        operation_name: text.operation_name,
        variables: json_parameter("variables", text.variables)?,
        extensions: json_parameter("extensions", text.extensions)?,
    }
    .into_request()
}

fn json_parameter<T: DeserializeOwned>(
    name: &str,
    text: Option<String>,
) -> Result<Option<T>, Refusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map_err(|error| Refusal::bad_request(format!("\"{name}\" is not a JSON object: {error}")))
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
            return refusal_response(refusal, Media::Json);
        };
        let admitted = admit(&state, address, headers, correlation.clone(), parsed, is_get).await;
        let admitted = match admitted {
            Ok(admitted) => admitted,
            // Sent as an event so that an `EventSource` can read it. A rate limit
            // keeps its status and `Retry-After`.
            Err(refusal) if media == Media::Events && refusal.retry_after.is_none() => {
                return sse::error_stream(refusal.errors);
            }
            Err(refusal) => return refusal_response(refusal, media),
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
                // The document is valid; only this transport cannot carry it.
                well_formed: true,
                ..Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "SUBSCRIPTION_TRANSPORT",
                    "subscribe over WebSocket (graphql-transport-ws), or accept text/event-stream",
                )
            };
            return refusal_response(refusal, media);
        }
        let answer = state.pipeline.execute(prepared, request, client).await;
        log_operation(prepared, &answer, started);
        execution_response(&state, &answer, media)
    }
    .instrument(span)
    .await;
    // Out here, so that refusals have it, too.
    if let Ok(id) = HeaderValue::from_str(&correlation) {
        response.headers_mut().insert(CORRELATION_HEADER, id);
    }
    metrics::counter!("stoa_http_requests_total", "status" => response.status().as_u16().to_string())
        .increment(1);
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
