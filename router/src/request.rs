//! A request before its execution, whatever brought it: its media type, its
//! parameters, the checks that it must pass, and the response if it does not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use apollo_compiler::executable::OperationType;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;

use crate::AppState;
use crate::auth::{AuthError, Principal};
use crate::operation::{Client, GraphqlRequest, Prepared};
use crate::rate_limit::RateLimited;

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

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
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
pub(crate) struct Parameters {
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<Box<RawValue>>,
    #[serde(default)]
    pub extensions: Option<Map<String, Value>>,
}

impl Parameters {
    pub(crate) fn into_request(self) -> Result<GraphqlRequest, Refusal> {
        let variables = self.variables;
        if variables
            .as_ref()
            .is_some_and(|given| !given.get().starts_with('{'))
        {
            return Err(Refusal::bad_request("\"variables\" is not a JSON object"));
        }
        // Clients of automatic persisted queries then send the document.
        let is_persisted = self.query.is_none()
            && self
                .extensions
                .as_ref()
                .is_some_and(|extensions| extensions.contains_key("persistedQuery"));
        if is_persisted {
            return Err(Refusal {
                well_formed: true,
                ..Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "PERSISTED_QUERY_NOT_SUPPORTED",
                    "PersistedQueryNotSupported",
                )
            });
        }
        Ok(GraphqlRequest {
            query: self
                .query
                .ok_or_else(|| Refusal::bad_request("\"query\" is missing"))?,
            operation_name: self.operation_name.filter(|name| !name.is_empty()),
            variables,
            explain: self
                .extensions
                .is_some_and(|extensions| extensions.get("plan") == Some(&Value::Bool(true))),
        })
    }
}

/// Reads a request from JSON: an HTTP body or a WebSocket message's payload.
pub(crate) fn request_from_json(text: &[u8]) -> Result<GraphqlRequest, Refusal> {
    if is_list(text) {
        return Err(batching_disabled());
    }
    let parameters: Parameters = serde_json::from_slice(text).map_err(|error| {
        Refusal::bad_request(match error.classify() {
            Category::Data => format!(
                "the request is not of the form {{query, operationName, variables, extensions}}: {error}"
            ),
            _ => not_json(&error),
        })
    })?;
    parameters.into_request()
}

pub(crate) fn not_json(error: &serde_json::Error) -> String {
    format!("the request's body is not JSON: {error}")
}

/// Whether a JSON text is a list, as a batch is.
pub(crate) fn is_list(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"[")
}

pub(crate) fn batching_disabled() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "BATCHING_DISABLED",
        "lists of requests are not accepted; send one at a time",
    )
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

pub(crate) fn refusal_response(refusal: Refusal, media: Media) -> HttpResponse {
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

/// Logs one line for each operation, never its variables.
pub(crate) fn log_operation(prepared: &Prepared, answer: &Response, started: Instant) {
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
