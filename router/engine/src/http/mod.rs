//! Subgraphs over HTTP: JSON responses, and server-sent events (the distinct
//! connections mode of the GraphQL over SSE protocol) for subscriptions.
//!
//! | module | what it does |
//! |---|---|
//! | [`settings`] | how a subgraph is reached |
//! | [`connection`] | opens connections, and knows what passed over each |
//! | [`upstream`] | what is known of one subgraph: its clients, limits and failures |
//! | [`body`] | reads and decodes responses |
//! | [`events`] | reads server-sent events |
//! | [`retry`] | when a request is sent again |
//! | [`breaker`] | leaves a failing subgraph alone for a while |
//! | [`window`] | counts over the last seconds |

mod body;
pub mod breaker;
mod connection;
mod events;
mod retry;
pub mod settings;
mod upstream;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderValue, Request, Response, Uri};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;

use crate::errors;
use crate::transport::{Events, SubgraphRequest, SubgraphResponse, Transport, TransportError};
use body::BodyError;
use connection::ConnectionState;
use retry::Next;
use settings::{HttpLimits, HttpSettings};
use upstream::{Admitted, Upstream};

/// The pause before a request that could not be sent is tried again: a replica that
/// just stopped may be restarting.
const REPEAT_AFTER: Duration = Duration::from_millis(50);
/// Encoded events could be held back by a decoder.
const UNENCODED: HeaderValue = HeaderValue::from_static("identity");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const RESPONSE: HeaderValue =
    HeaderValue::from_static("application/graphql-response+json, application/json;q=0.9");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The present time; tests give their own.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Reaches subgraphs at the URLs that the supergraph gives.
#[derive(Clone)]
pub struct HttpTransport {
    /// By name; each is made when it is first needed.
    upstreams: Arc<RwLock<HashMap<Arc<str>, Arc<Upstream>>>>,
    settings: HttpSettings,
    /// The settings of single subgraphs, by name.
    own_settings: Arc<HashMap<String, HttpSettings>>,
    tls: rustls::ClientConfig,
    now: Now,
}

impl HttpTransport {
    /// # Errors
    /// If the TLS library is broken.
    pub fn new(limits: HttpLimits) -> std::io::Result<Self> {
        let settings = HttpSettings {
            limits,
            ..HttpSettings::default()
        };
        Self::with_settings(settings, HashMap::new())
    }

    /// Settings for all subgraphs, and for some of them by name.
    ///
    /// # Errors
    /// If the TLS library is broken.
    pub fn with_settings(
        settings: HttpSettings,
        own_settings: HashMap<String, HttpSettings>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            upstreams: Arc::default(),
            settings,
            own_settings: own_settings.into(),
            tls: connection::tls()?,
            now: Arc::new(Instant::now),
        })
    }

    /// With another clock, which budgets and breakers go by.
    pub fn with_clock(self, now: Now) -> Self {
        Self { now, ..self }
    }

    fn upstream(&self, name: &Arc<str>) -> Arc<Upstream> {
        // Used on after a panic: the map holds only finished entries.
        let known = self
            .upstreams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        known.unwrap_or_else(|| {
            let mut all = self
                .upstreams
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let made = all.entry(name.clone()).or_insert_with(|| {
                let own = self.own_settings.get(&**name);
                let settings = *own.unwrap_or(&self.settings);
                Arc::new(Upstream::new(
                    name.clone(),
                    settings,
                    &self.tls,
                    (self.now)(),
                ))
            });
            made.clone()
        })
    }

    /// Sends a request. What could not be sent is tried once more after a pause; what
    /// met a kept connection that ended is sent once more, if it may be, on a new one.
    async fn send(
        &self,
        upstream: &Upstream,
        request: &SubgraphRequest,
        accept: HeaderValue,
        encoding: HeaderValue,
    ) -> Result<Response<Incoming>, TransportError> {
        let unreachable = |cause: String| TransportError::Unreachable {
            subgraph: request.subgraph.clone(),
            cause,
        };
        let request_of = |uri: &Uri, body: &Bytes| {
            let mut made = Request::new(Full::new(body.clone()));
            *made.method_mut() = ::http::Method::POST;
            *made.uri_mut() = uri.clone();
            *made.headers_mut() = request.headers.clone();
            let headers = made.headers_mut();
            headers.insert(ACCEPT, accept.clone());
            headers.insert(ACCEPT_ENCODING, encoding.clone());
            headers.insert(CONTENT_TYPE, JSON);
            if let Some(credentials) = connection::credentials(uri) {
                headers.entry(AUTHORIZATION).or_insert(credentials);
            }
            made
        };
        let uri: Uri = request
            .url
            .parse()
            .map_err(|error| unreachable(format!("its URL is invalid: {error}")))?;
        let body = body_of(request);
        let mut client = &upstream.client;
        let (mut has_waited, mut was_sent_again) = (false, false);
        upstream.count_request((self.now)());
        loop {
            let error = match client.request(request_of(&uri, &body)).await {
                Ok(response) => {
                    if let Some(connection) = response.extensions().get::<ConnectionState>() {
                        connection.mark_used();
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            let next = Next::of(&error, upstream.settings.http2);
            let may_repeat = match next {
                Next::NotSent => !has_waited,
                Next::Ended => request.is_repeatable && !was_sent_again,
                Next::Final => false,
            };
            let cause = causes_of(&error);
            if !may_repeat || !upstream.take_retry((self.now)()) {
                return Err(unreachable(cause));
            }
            tracing::debug!(subgraph = %request.subgraph, ?next, cause, "sending a request again");
            match next {
                Next::NotSent => {
                    has_waited = true;
                    tokio::time::sleep(REPEAT_AFTER).await;
                }
                Next::Ended | Next::Final => {
                    was_sent_again = true;
                    // Another kept connection may have ended as well.
                    client = &upstream.unpooled;
                }
            }
        }
    }

    async fn answer(
        &self,
        upstream: &Upstream,
        request: &SubgraphRequest,
    ) -> Result<SubgraphResponse, TransportError> {
        let _permit = upstream.connection().await;
        let response = self
            .send(upstream, request, RESPONSE, body::ACCEPTED)
            .await?;
        let (head, body) = response.into_parts();
        let body = read(&request.subgraph, &head.headers, body, upstream).await?;
        Ok(SubgraphResponse {
            body,
            error_status: (!head.status.is_success()).then(|| head.status.as_u16()),
            headers: head.headers,
        })
    }
}

async fn read(
    subgraph: &Arc<str>,
    headers: &::http::HeaderMap,
    body: Incoming,
    upstream: &Upstream,
) -> Result<Bytes, TransportError> {
    let limit = upstream.settings.limits.response;
    body::read(headers, body, limit)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge => TransportError::TooLarge {
                subgraph: subgraph.clone(),
                limit,
            },
            BodyError::Invalid(cause) => TransportError::Invalid {
                subgraph: subgraph.clone(),
                cause,
            },
        })
}

/// An error with all its causes, for the log.
fn causes_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn body_of(request: &SubgraphRequest) -> Bytes {
    let mut body = Vec::with_capacity(request.prefix.len() + request.variables.len() + 1);
    body.extend_from_slice(request.prefix.as_bytes());
    body.extend_from_slice(&request.variables);
    body.push(b'}');
    body.into()
}

#[async_trait]
impl Transport for HttpTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let upstream = self.upstream(&request.subgraph);
        let admitted = Admitted::new(&upstream, &self.now)?;
        let after = upstream.settings.limits.timeout;
        let answer = tokio::time::timeout(after, self.answer(&upstream, &request)).await;
        let result = answer.unwrap_or_else(|_| {
            Err(TransportError::Timeout {
                subgraph: request.subgraph.clone(),
                after,
            })
        });
        admitted.record(&result);
        result
    }

    /// Waits for the response's head for as long as it takes: some servers send it
    /// with the first event. Opening the connection has its timeout.
    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        let upstream = self.upstream(&request.subgraph);
        upstream.check_open((self.now)())?;
        let response = self.send(&upstream, &request, EVENTS, UNENCODED).await?;
        let subgraph = request.subgraph;
        let (head, body) = response.into_parts();
        let kind = media_type(&head.headers);
        let is_events = kind.is_empty() || kind == "text/event-stream";
        let is_encoded = head.headers.contains_key(::http::header::CONTENT_ENCODING);
        if head.status.is_success() && is_events && !is_encoded {
            let limit = upstream.settings.limits.response;
            return Ok(events::of_body(subgraph, body, limit));
        }
        // Refused: the response has the errors.
        let after = upstream.settings.limits.timeout;
        let body = tokio::time::timeout(after, read(&subgraph, &head.headers, body, &upstream))
            .await
            .unwrap_or_else(|_| {
                Err(TransportError::Timeout {
                    subgraph: subgraph.clone(),
                    after,
                })
            });
        let found = body.as_ref().ok().and_then(|body| match is_events {
            true => errors::of_response(&events::first_data(body.clone())?, &subgraph),
            false => errors::of_response(body, &subgraph),
        });
        if let Some(errors) = found {
            return Err(TransportError::Refused { subgraph, errors });
        }
        if !head.status.is_success() {
            let status = head.status.as_u16();
            return Err(TransportError::Status { subgraph, status });
        }
        body?;
        Err(TransportError::Invalid {
            subgraph,
            cause: format!("a subscription was answered with \"{kind}\""),
        })
    }
}

/// The media type of a response, without parameters; empty if it has none.
fn media_type(headers: &::http::HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}
