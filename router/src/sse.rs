//! Server-sent events: the distinct connections mode of the GraphQL over SSE
//! protocol. Every error travels inside the stream, as a `next` with `errors`,
//! so that an `EventSource` can read it; then `complete`.
//!
//! Source: <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apollo_compiler::executable::OperationType;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::stream::{self, Stream, StreamExt};
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::in_span;
use tracing::Span;

use crate::AppState;
use crate::request::{Admitted, log_operation};

const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the response waits for the subgraph's: most answer at once, and then the
/// client knows by the response that it misses no event from now on.
const START_GRACE: Duration = Duration::from_millis(200);

/// Executes an operation and streams its results: a subscription's events, or
/// the one response of a query or mutation.
pub(crate) async fn respond(state: Arc<AppState>, admitted: Admitted) -> HttpResponse {
    let (prepared, request, client) = admitted;
    if prepared.kind() == OperationType::Subscription {
        return subscription(state, (prepared, request, client)).await;
    }
    let started = Instant::now();
    let answer = state.pipeline.execute(&prepared, &request, &client).await;
    log_operation(&prepared, &answer, started);
    let mut passed = HeaderMap::new();
    for (subgraph, from) in &answer.headers {
        state.config.headers.to_client(subgraph, from, &mut passed);
    }
    let mut response = events_response(stream::iter([answer]));
    response.headers_mut().extend(passed);
    response
}

/// A subscription's events. The response does not wait for long until the subgraph
/// answers, which may be with the first event only: the client sees that it is
/// connected, and the connection is kept alive.
async fn subscription(state: Arc<AppState>, admitted: Admitted) -> HttpResponse {
    let stop = state.stop.clone();
    let stopped = stop.clone();
    let mut starting = Box::pin(async move {
        let (prepared, request, client) = admitted;
        match state.pipeline.subscribe(&prepared, &request, &client).await {
            Ok(events) => events,
            Err(answer) => stream::iter([answer]).boxed(),
        }
    });
    let events = match tokio::time::timeout(START_GRACE, &mut starting).await {
        Ok(events) => events,
        Err(_) => stream::once(starting).flatten().boxed(),
    };
    let events = in_span(Span::current(), events);
    // When the server stops, the stream is not complete: ask the client to resume.
    let last = stream::once(async move {
        stopped.is_cancelled().then(|| {
            Response::request_error(GraphQLError::new(
                "RESUME_REQUIRED",
                "this server is stopping; resume after your last cursor",
            ))
        })
    });
    let events = events.take_until(stop.cancelled_owned());
    let began = stream::iter([Event::default().comment("")]);
    stream_response(began.chain(to_events(events.chain(last.filter_map(std::future::ready)))))
}

/// A rejected request's errors, as a stream.
pub(crate) fn error_stream(errors: Vec<GraphQLError>) -> HttpResponse {
    let answer = Response {
        errors,
        ..Response::default()
    };
    events_response(stream::iter([answer]))
}

fn events_response(answers: impl Stream<Item = Response> + Send + 'static) -> HttpResponse {
    stream_response(to_events(answers))
}

fn to_events(
    answers: impl Stream<Item = Response> + Send + 'static,
) -> impl Stream<Item = Event> + Send + 'static {
    answers
        .map(|answer| {
            let json = String::from_utf8(answer.to_json()).unwrap_or_default();
            let event = Event::default().event("next").data(json);
            match answer.cursor {
                // A line break would end the `id` field.
                Some(cursor) if !cursor.contains(['\r', '\n', '\0']) => event.id(cursor),
                _ => event,
            }
        })
        .chain(stream::once(async {
            Event::default().event("complete").data("")
        }))
}

fn stream_response(events: impl Stream<Item = Event> + Send + 'static) -> HttpResponse {
    let mut response = Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A buffering proxy would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
