//! Several requests in one body, where that is switched on: each is answered
//! at its place in a list.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use apollo_compiler::executable::OperationType;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::future::join_all;
use serde_json::Value;
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::{CORRELATION_HEADER, continue_trace, correlation_id, name_span};
use tracing::Instrument;

use crate::Shared;
use crate::http::{Admitted, Media, Refusal, admit, log, refused as refuse, request_from_json};

pub(crate) fn refused() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "BATCHING_DISABLED",
        "lists of requests are not accepted; send one at a time",
    )
}

/// Answers a list of requests. Queries run side by side; where there is a
/// mutation all run in their order.
pub(crate) async fn respond(
    shared: Arc<Shared>,
    address: IpAddr,
    headers: HeaderMap,
    requests: Vec<Value>,
) -> HttpResponse {
    let limit = shared.config.limits.batch;
    let media = match Media::negotiate(&headers) {
        Some(Media::Events) | None => Media::Json,
        Some(media) => media,
    };
    if requests.is_empty() || requests.len() > limit {
        let message = format!("a list holds from 1 to {limit} requests");
        return refuse(
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
        name_span(format!("batch of {}", requests.len()));
        let mut admitted = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            // The first was counted with the body.
            let counted = match index {
                0 => Ok(()),
                _ => shared.limiter.request(address).await,
            };
            let parsed = match counted {
                Ok(()) => request_from_json(request),
                Err(limited) => Err(limited.into()),
            };
            let one = admit(
                &shared,
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
        // One request's time is all that the list has together.
        let until = tokio::time::Instant::now() + shared.config.limits.timeout;
        let bounded = async |one| {
            tokio::time::timeout_at(until, answer(&shared, one))
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
        write(&shared, &answers, &correlation)
    }
    .instrument(span)
    .await
}

async fn answer(shared: &Shared, admitted: &Result<Admitted, Refusal>) -> Response {
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
            "a subscription is no part of a list",
        ));
    }
    let started = Instant::now();
    let answer = shared.pipeline.execute(prepared, request, client).await;
    log(prepared, &answer, started);
    answer
}

fn write(shared: &Shared, answers: &[Response], correlation: &str) -> HttpResponse {
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
        shared.config.headers.to_client(subgraph, from, headers);
    }
    response
}
