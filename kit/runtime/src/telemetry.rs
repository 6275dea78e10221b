//! Logs, the correlation id that ties one request's lines together, and
//! traces: OpenTelemetry over OTLP where the standard `OTEL_*` settings name an
//! endpoint, off otherwise.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

use crate::settings::{Problems, SettingError, read};

/// Carries the correlation id from the client to every service and back.
pub const CORRELATION_HEADER: &str = "x-correlation-id";
/// W3C Trace Context.
pub const TRACE_HEADER: &str = "traceparent";

const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,async_nats=warn,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry_otlp=warn";

/// What must be flushed before the process ends.
#[derive(Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct LogSettings {
    /// A filter such as `info` or `stoa_router=debug`.
    filter: Option<String>,
    /// Text for people, rather than JSON.
    is_text: bool,
}

impl LogSettings {
    /// From `STOA_LOG` and `STOA_LOG_FORMAT`.
    ///
    /// # Errors
    /// If the filter cannot be parsed, or the format is unknown.
    pub fn read(problems: &mut Problems) -> Option<Self> {
        let filter = read("STOA_LOG");
        let parsed = filter.as_deref().map(EnvFilter::try_new).transpose();
        let parsed = problems.check(parsed.map_err(|error| {
            let given = filter.clone().unwrap_or_default();
            let message = format!(
                "\"{given}\" is not a filter such as \"info\" or \"info,stoa_router=debug\": {error}"
            );
            SettingError::new("STOA_LOG", message)
        }));
        let is_text = problems.check(match read("STOA_LOG_FORMAT").as_deref() {
            None | Some("json") => Ok(false),
            Some("text") => Ok(true),
            Some(other) => Err(SettingError::new(
                "STOA_LOG_FORMAT",
                format!("\"{other}\" is neither \"text\" nor \"json\""),
            )),
        });
        parsed.and(is_text).map(|is_text| Self { filter, is_text })
    }
}

impl Telemetry {
    /// Starts logging to standard error.
    ///
    /// Traces are sent where `OTEL_EXPORTER_OTLP_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says, unless `OTEL_SDK_DISABLED` is
    /// `true`; `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    /// `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` and
    /// `OTEL_EXPORTER_OTLP_TIMEOUT` have their standard meanings.
    pub fn init(service: &str, log: &LogSettings) -> Self {
        let filter = log
            .filter
            .as_deref()
            .and_then(|text| EnvFilter::try_new(text).ok())
            .unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if log.is_text {
            lines.boxed()
        } else {
            lines
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .boxed()
        };
        let (provider, failed) = match provider(service) {
            Ok(provider) => (provider, None),
            Err(error) => (None, Some(error)),
        };
        let traces = provider
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("stoa")));
        // A second call, as tests make, leaves the first one's subscriber in place.
        let _ = tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .with(traces)
            .try_init();
        if let Some(error) = failed {
            tracing::warn!(%error, "traces are off: the OTLP exporter cannot be made");
        }
        Self(provider)
    }

    /// Sends the spans that are still buffered.
    pub async fn shutdown(self) {
        if let Some(provider) = self.0 {
            let flushed = tokio::task::spawn_blocking(move || provider.shutdown()).await;
            if let Ok(Err(error)) = flushed {
                tracing::warn!(%error, "the last traces could not be sent");
            }
        }
    }
}

fn provider(service: &str) -> Result<Option<SdkTracerProvider>, Box<dyn std::error::Error>> {
    let named = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .iter()
    .any(|name| read(name).is_some());
    let disabled = read("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if !named || disabled {
        return Ok(None);
    }
    let client = reqwest::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(OtlpClient {
            client,
            runtime: tokio::runtime::Handle::try_current()?,
        })
        .build()?;
    let mut resource = Resource::builder();
    if read("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(format!("stoa-{service}"));
    }
    Ok(Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build(),
    ))
}

/// Sends spans with the HTTP client that the rest of the program uses. The
/// exporter runs on a thread of its own, where there is no tokio runtime.
#[derive(Debug)]
struct OtlpClient {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        self.runtime
            .spawn(async move {
                let answer = client.execute(request).await?;
                let mut response = http::Response::builder().status(answer.status());
                if let Some(headers) = response.headers_mut() {
                    headers.clone_from(answer.headers());
                }
                Ok(response.body(answer.bytes().await?)?)
            })
            .await?
    }
}

/// The caller's correlation id if it is well-formed, else a new one.
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

/// Makes a span a part of the trace that a request's headers name, if any.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // Without traces there is no layer to set it on; the error is ignored.
    let _ = span.set_parent(parent);
}

/// Makes a span a part of the trace of a stored or received `traceparent`.
pub fn continue_from_traceparent(span: &Span, traceparent: Option<&str>) {
    if let Some(value) = traceparent {
        let carrier = HashMap::from([(TRACE_HEADER.to_owned(), value.to_owned())]);
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
}

/// A stream whose items are produced within a span.
pub fn in_span<S>(span: Span, stream: S) -> impl Stream<Item = S::Item> + Send
where
    S: Stream + Send + Unpin,
{
    let mut stream = stream;
    futures_util::stream::poll_fn(move |context| {
        let _entered = span.enter();
        stream.poll_next_unpin(context)
    })
}

/// Renames the current span, for a name that is known only after it began.
pub fn rename_span(name: String) {
    Span::current().context().span().update_name(name);
}

/// Adds the current span's trace context to a request's headers; without
/// traces, nothing.
pub fn inject_trace(headers: &mut HeaderMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
}

/// The current span's `traceparent`, to store with work that continues later.
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACE_HEADER)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_well_formed_correlation_id_is_kept_and_any_other_replaced() {
        let id = |given: Option<&[u8]>| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                let value = HeaderValue::from_bytes(given).unwrap();
                headers.insert(CORRELATION_HEADER, value);
            }
            correlation_id(&headers)
        };
        let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
        for good in ["12345678", "a-b_c-D9", &longest] {
            assert_eq!(id(Some(good.as_bytes())), good);
        }
        let bad: [&[u8]; 6] = [
            b"",
            b"1234567",
            too_long.as_bytes(),
            b"a b c d e",
            b"12345678;x=1",
            "größe-größe".as_bytes(),
        ];
        let replaced = bad.into_iter().map(Some).chain([None]).map(id);
        let replaced: Vec<String> = replaced.collect();
        for (index, made) in replaced.iter().enumerate() {
            assert!(Uuid::try_parse(made).is_ok(), "{made}");
            assert!(!replaced[..index].contains(made), "each is new");
        }
    }
}
