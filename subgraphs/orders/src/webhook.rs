//! `POST /webhooks/payments/{provider}`: receives the payment provider's events.
//! Each event is stored once and acknowledged at once; the worker then asks the
//! provider about the payment.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::app::saga::Saga;
use crate::error::Error;
use stoa_service::error::CommonError;

/// The largest accepted request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The path for a provider's webhooks.
pub fn path(provider: &str) -> String {
    format!("/webhooks/payments/{provider}")
}

pub fn routes(saga: Saga) -> Router {
    Router::new()
        .route("/webhooks/payments/{provider}", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(saga)
}

async fn receive(
    State(saga): State<Saga>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if provider != saga.provider().name() {
        let message = "this payment provider is not in use";
        return (StatusCode::NOT_FOUND, message).into_response();
    }
    let event = match saga.provider().event(&headers, &body) {
        Ok(event) => event,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match saga.event_store(&event, &body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            // The provider will retry.
            tracing::warn!(%error, "a webhook could not be stored");
            let status = match error {
                Error::Common(CommonError::DatabaseUnavailable(_)) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, "not stored; retry").into_response()
        }
    }
}
