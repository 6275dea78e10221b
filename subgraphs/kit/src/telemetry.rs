//! Logs, and the correlation id that ties one request's lines together.

use http::HeaderMap;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

/// Carries the correlation id from the client to every service and back.
pub const CORRELATION_HEADER: &str = "x-correlation-id";
/// W3C Trace Context.
pub const TRACE_HEADER: &str = "traceparent";

/// Starts logging to standard error: JSON lines, or text for people where
/// `STOA_LOG_FORMAT` is `text`. `STOA_LOG` filters (default `info`).
pub fn init() {
    let filter = crate::settings::read("STOA_LOG")
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("info,sqlx=warn,hyper=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call, as tests make, leaves the first one's subscriber in place.
    let _ = if crate::settings::read("STOA_LOG_FORMAT").as_deref() == Some("text") {
        builder.try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    };
}

/// The caller's correlation id if it is a sane one, else a new one.
pub fn correlation_id(headers: &HeaderMap) -> String {
    headers
        .get(CORRELATION_HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|text| {
            (8..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}
