//! Subgraphs over HTTP: JSON responses, and server-sent events (the distinct
//! connections mode of the GraphQL over SSE protocol) for subscriptions.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};

use crate::transport::{Events, SubgraphRequest, SubgraphResponse, Transport, TransportError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a request is sent again: a replica that just stopped may be
/// restarting.
const REPEAT_AFTER: Duration = Duration::from_millis(50);
/// Servers of the protocol send a comment every few seconds; a connection that
/// is silent for longer is considered lost.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits of one response.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// The most bytes of a response or an event.
    pub response: usize,
    /// From sending the request to the last byte of the response, or to the head
    /// of a stream's response.
    pub timeout: Duration,
    /// How long an unused connection is kept. It must be shorter than servers and
    /// proxies keep their side (Node: 5 s), or requests meet connections that were
    /// just closed.
    pub idle: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            response: 32 * 1024 * 1024,
            idle: Duration::from_secs(4),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Reaches subgraphs at the URLs that the supergraph gives.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    client: reqwest::Client,
    /// Never reuses a connection: the second attempt must not meet another one that
    /// is closed.
    unpooled: reqwest::Client,
    limits: HttpLimits,
}

impl HttpTransport {
    /// # Errors
    /// If the platform's TLS roots cannot be loaded.
    pub fn new(limits: HttpLimits) -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .tcp_nodelay(true)
                .pool_idle_timeout(limits.idle)
        };
        Ok(Self {
            client: builder().build()?,
            unpooled: builder().pool_max_idle_per_host(0).build()?,
            limits,
        })
    }

    /// Sends a request; if it got no response, and may be repeated, once more.
    async fn send(
        &self,
        request: &SubgraphRequest,
        accept: &str,
    ) -> Result<reqwest::Response, TransportError> {
        let sent = match self.try_send(&self.client, request, accept).await {
            Err(error) if should_repeat(&error, request.is_repeatable) => {
                tracing::debug!(
                    subgraph = %request.subgraph,
                    cause = cause_of(error),
                    "the connection ended without a response; sending the request again"
                );
                tokio::time::sleep(REPEAT_AFTER).await;
                self.try_send(&self.unpooled, request, accept).await
            }
            sent => sent,
        };
        sent.map_err(|error| TransportError::Unreachable {
            subgraph: request.subgraph.clone(),
            cause: cause_of(error),
        })
    }

    async fn try_send(
        &self,
        client: &reqwest::Client,
        request: &SubgraphRequest,
        accept: &str,
    ) -> Result<reqwest::Response, reqwest::Error> {
        client
            .post(&*request.url)
            .headers(request.headers.clone())
            .header(reqwest::header::ACCEPT, accept)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body(request))
            .send()
            .await
    }

    async fn answer(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let subgraph = &request.subgraph;
        let response = self
            .send(
                &request,
                "application/graphql-response+json, application/json;q=0.9",
            )
            .await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = read(
            subgraph,
            response.bytes_stream().boxed(),
            self.limits.response,
        )
        .await?;
        Ok(SubgraphResponse {
            body: body.into(),
            error_status: (!status.is_success()).then(|| status.as_u16()),
            headers,
        })
    }
}

/// Whether a request that failed should be sent again. One that was never sent may
/// be, whatever it is; one that got no response only if it changes nothing: a
/// subgraph may have executed it.
fn should_repeat(error: &reqwest::Error, is_repeatable: bool) -> bool {
    if error.is_timeout() {
        return false;
    }
    if error.is_connect() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_canceled() {
                return true;
            }
            if hyper.is_incomplete_message() {
                return is_repeatable;
            }
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return is_repeatable
                && matches!(
                    io.kind(),
                    ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::BrokenPipe
                );
        }
        source = cause.source();
    }
    false
}

/// An error with all its causes, for the log.
fn cause_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn body(request: &SubgraphRequest) -> Vec<u8> {
    let mut body = Vec::with_capacity(request.prefix.len() + request.variables.len() + 1);
    body.extend_from_slice(request.prefix.as_bytes());
    body.extend_from_slice(&request.variables);
    body.push(b'}');
    body
}

type Chunks = BoxStream<'static, Result<Bytes, reqwest::Error>>;

async fn read(
    subgraph: &Arc<str>,
    mut chunks: Chunks,
    limit: usize,
) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| TransportError::Invalid {
            subgraph: subgraph.clone(),
            cause: cause_of(error),
        })?;
        if body.len() + chunk.len() > limit {
            return Err(TransportError::TooLarge {
                subgraph: subgraph.clone(),
                limit,
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[async_trait]
impl Transport for HttpTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let subgraph = request.subgraph.clone();
        let after = self.limits.timeout;
        tokio::time::timeout(after, self.answer(request))
            .await
            .unwrap_or(Err(TransportError::Timeout { subgraph, after }))
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        let subgraph = request.subgraph.clone();
        let after = self.limits.timeout;
        let response = tokio::time::timeout(after, self.send(&request, "text/event-stream"))
            .await
            .unwrap_or(Err(TransportError::Timeout {
                subgraph: subgraph.clone(),
                after,
            }))?;
        if !response.status().is_success() {
            return Err(TransportError::Status {
                subgraph,
                status: response.status().as_u16(),
            });
        }
        let source = EventSource {
            subgraph,
            chunks: response.bytes_stream().boxed(),
            parser: EventParser::new(self.limits.response),
            ended: false,
        };
        Ok(
            futures_util::stream::unfold(source, |mut source| async move {
                let event = source.next().await?;
                Some((event, source))
            })
            .boxed(),
        )
    }
}

struct EventSource {
    subgraph: Arc<str>,
    chunks: Chunks,
    parser: EventParser,
    ended: bool,
}

impl EventSource {
    async fn next(&mut self) -> Option<Result<SubgraphResponse, TransportError>> {
        while !self.ended {
            match self.parser.next_event() {
                Some(event) if event.name == "next" => {
                    return Some(Ok(SubgraphResponse {
                        body: event.data.into(),
                        ..SubgraphResponse::default()
                    }));
                }
                Some(event) if event.name == "complete" => {
                    self.ended = true;
                    return None;
                }
                Some(_) => continue,
                None => {}
            }
            let chunk = match tokio::time::timeout(EVENT_TIMEOUT, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                // Cut off without `complete`: the connection was lost, the stream did
                // not end.
                Ok(Some(Err(error))) => return self.fail(cause_of(error)),
                Ok(None) => return self.fail("the stream was cut off".to_owned()),
                Err(_) => return self.fail("the stream fell silent".to_owned()),
            };
            if !self.parser.push(&chunk) {
                self.ended = true;
                return Some(Err(TransportError::TooLarge {
                    subgraph: self.subgraph.clone(),
                    limit: self.parser.limit,
                }));
            }
        }
        None
    }

    fn fail(&mut self, cause: String) -> Option<Result<SubgraphResponse, TransportError>> {
        self.ended = true;
        Some(Err(TransportError::Unreachable {
            subgraph: self.subgraph.clone(),
            cause,
        }))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Splits `text/event-stream` bytes into events (WHATWG HTML, section 9.2.6).
struct EventParser {
    buffer: Vec<u8>,
    /// The length of the prefix that was searched for the end of an event.
    scanned: usize,
    limit: usize,
}

impl EventParser {
    fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            scanned: 0,
            limit,
        }
    }

    /// Adds received bytes; false if an event exceeds the limit.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.buffer
            .extend(bytes.iter().filter(|byte| **byte != b'\r'));
        self.buffer.len() <= self.limit
    }

    fn next_event(&mut self) -> Option<Event> {
        let from = self.scanned.saturating_sub(1);
        let found = self.buffer[from..]
            .windows(2)
            .position(|pair| pair == b"\n\n");
        let Some(end) = found.map(|found| from + found) else {
            self.scanned = self.buffer.len();
            return None;
        };
        self.scanned = 0;
        let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let mut event = Event {
            name: "message".to_owned(),
            data: String::new(),
        };
        for line in String::from_utf8_lossy(&block).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = value.to_owned(),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_in_any_pieces() {
        let text =
            ": hi\n\nevent: next\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: complete\ndata:\n\n";
        for size in 1..text.len() {
            let mut parser = EventParser::new(1_000);
            let mut events = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                assert!(parser.push(chunk));
                while let Some(event) = parser.next_event() {
                    events.push(event);
                }
            }
            let seen: Vec<_> = events
                .iter()
                .map(|event| (event.name.as_str(), event.data.as_str()))
                .collect();
            assert_eq!(
                seen,
                [("message", ""), ("next", "{\"a\":\n1}"), ("complete", "")]
            );
        }
    }
}
