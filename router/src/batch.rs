//! Batching: several requests in one body, where that is enabled. The response
//! is a list in the same order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use apollo_compiler::executable::OperationType;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::future::join_all;
use serde_json::value::RawValue;
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::{CORRELATION_HEADER, continue_trace, correlation_id, rename_span};
use tracing::Instrument;

use crate::AppState;
use crate::request::{
    Admitted, Media, Refusal, admit, log_operation, refusal_response, request_from_json,
};

/// Executes a list of requests. Queries run concurrently; if any request is a
/// mutation, all run in order.
pub(crate) async fn respond(
    state: Arc<AppState>,
    address: IpAddr,
    headers: HeaderMap,
    requests: Vec<Box<RawValue>>,
) -> HttpResponse {
    let limit = state.config.limits.batch;
    // A list is never sent as an event stream, so that falls back to JSON.
    let media = match Media::negotiate(&headers) {
        Some(Media::Events) | None => Media::Json,
        Some(media) => media,
    };
    if requests.is_empty() || requests.len() > limit {
        let message = format!("a list holds from 1 to {limit} requests");
        return refusal_response(
            Refusal::new(StatusCode::BAD_REQUEST, "BATCH_TOO_LARGE", message),
            media,
        );
    }
    let correlation: Arc<str> = correlation_id(&headers).into();
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        correlation_id = %correlation
    );
    continue_trace(&span, &headers);
    async {
        rename_span(format!("batch of {}", requests.len()));
        // All are admitted before any is executed: one mutation decides how all of them run.
        let mut admitted = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            // The first request was counted when the body arrived.
            let counted = match index {
                0 => Ok(()),
                _ => state.limiter.request(address).await,
            };
            let parsed = match counted {
                Ok(()) => request_from_json(request.get().as_bytes()),
                Err(limited) => Err(limited.into()),
            };
            let one = admit(
                &state,
                address,
                headers.clone(),
                correlation.clone(),
                parsed,
                false,
            );
            admitted.push(one.await);
        }
        let mutates = admitted
            .iter()
            .flatten()
            .any(|(prepared, _, _)| prepared.kind() == OperationType::Mutation);
        // The whole list shares the time limit of one request.
        let until = tokio::time::Instant::now() + state.config.limits.timeout;
        let bounded = async |one| {
            tokio::time::timeout_at(until, answer(&state, one))
                .await
                .unwrap_or_else(|_| {
                    Response::request_error(GraphQLError::new(
                        "TIMEOUT",
                        "the list of requests took too long",
                    ))
                })
        };
        let answers: Vec<Response> = if mutates {
            let mut answers = Vec::with_capacity(admitted.len());
            for one in &admitted {
                answers.push(bounded(one).await);
            }
            answers
        } else {
            join_all(admitted.iter().map(bounded)).await
        };
        write(&state, &answers, &correlation)
    }
    .instrument(span)
    .await
}

async fn answer(state: &AppState, admitted: &Result<Admitted, Refusal>) -> Response {
    let (prepared, request, client) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            return Response {
                errors: refusal.errors.clone(),
                ..Response::default()
            };
        }
    };
    if prepared.kind() == OperationType::Subscription {
        return Response::request_error(GraphQLError::new(
            "SUBSCRIPTION_TRANSPORT",
            "a subscription cannot be part of a list",
        ));
    }
    let started = Instant::now();
    let answer = state.pipeline.execute(prepared, request, client).await;
    log_operation(prepared, &answer, started);
    answer
}

fn write(state: &AppState, answers: &[Response], correlation: &str) -> HttpResponse {
    let mut body = vec![b'['];
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend(answer.to_json());
    }
    body.push(b']');
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, Media::Json.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(correlation) {
        headers.insert(CORRELATION_HEADER, id);
    }
    for (subgraph, from) in answers.iter().flat_map(|answer| &answer.headers) {
        state.config.headers.to_client(subgraph, from, headers);
    }
    response
}
