//! `graphql-transport-ws`: one task reads from the socket, one writes to it, and
//! each operation runs in its own task.
//!
//! Source: <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apollo_compiler::executable::OperationType;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::SinkExt;
use futures_util::stream::{SplitSink, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use stoa_engine::{GraphQLError, Response};
use stoa_federation::apollo_compiler;
use stoa_runtime::telemetry::correlation_id;
use tokio::sync::mpsc;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::AppState;
use crate::auth::Principal;
use crate::operation::{Client, GraphqlRequest, Prepared};
use crate::request::{Refusal, log_operation, prepare, request_from_json};

const PROTOCOL: &str = "graphql-transport-ws";
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that reads nothing for this long is considered disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many messages may wait to be sent.
const OUTBOX_CAPACITY: usize = 32;

/// A message. Its payload stays text, as variables are not to be changed.
#[derive(Deserialize)]
struct FromClient {
    #[serde(rename = "type")]
    kind: MessageType,
    id: Option<String>,
    payload: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum MessageType {
    ConnectionInit,
    Ping,
    Pong,
    Subscribe,
    Complete,
}

impl FromClient {
    fn id(&mut self) -> Result<String, Close> {
        self.id
            .take()
            .ok_or_else(|| Close::invalid("missing field `id`"))
    }
}

/// Why we close a connection: a close code of the protocol, and a reason.
struct Close(u16, Cow<'static, str>);

impl Close {
    fn invalid(problem: impl fmt::Display) -> Self {
        Self(4400, truncate_reason(format!("Invalid message: {problem}")))
    }
}

pub(crate) async fn upgrade(
    state: Arc<AppState>,
    address: IpAddr,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> HttpResponse {
    if state.limiter.request(address).await.is_err() {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    if !is_origin_allowed(&headers, &state.config.cors_origins) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // Cookies cannot be renewed over a WebSocket, so they are not used.
    let mut headers = headers;
    headers.remove(header::COOKIE);
    let limit = state.config.limits.body;
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| async move {
            let protocol_accepted = socket
                .protocol()
                .is_some_and(|protocol| protocol.as_bytes() == PROTOCOL.as_bytes());
            let (writer, reader) = socket.split();
            let (outbox, inbox) = mpsc::channel(OUTBOX_CAPACITY);
            let disconnected = CancellationToken::new();
            let writing = tokio::spawn(write(writer, inbox, disconnected.clone()));
            let mut connection = Connection {
                state,
                address,
                headers: Arc::new(headers),
                outbox,
                principal: None,
                running: HashMap::new(),
                tasks: JoinSet::new(),
                disconnected,
            };
            let close = if protocol_accepted {
                connection.run(reader).await
            } else {
                Some(Close(4406, "Subprotocol not acceptable".into()))
            };
            connection.tasks.shutdown().await;
            if let Some(Close(code, reason)) = close {
                let frame = CloseFrame {
                    code,
                    reason: reason.as_ref().into(),
                };
                let _ = connection.outbox.send(Message::Close(Some(frame))).await;
            }
            drop(connection);
            let _ = writing.await;
        })
}

/// Whether the `Origin` is our own or a configured one: browsers let any page
/// open a WebSocket. Clients other than browsers send no origin.
fn is_origin_allowed(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    origins.iter().any(|known| known == origin)
        || origin
            .split_once("://")
            .is_some_and(|(_, own)| Some(own) == host)
}

async fn write(
    mut socket: SplitSink<WebSocket, Message>,
    mut inbox: mpsc::Receiver<Message>,
    disconnected: CancellationToken,
) {
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.tick().await;
    loop {
        let message = tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => message,
                None => break,
            },
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        let last = matches!(message, Message::Close(_));
        let sent = tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    disconnected.cancel();
    let _ = tokio::time::timeout(WRITE_TIMEOUT, socket.close()).await;
}

struct Connection {
    state: Arc<AppState>,
    address: IpAddr,
    headers: Arc<HeaderMap>,
    outbox: mpsc::Sender<Message>,
    /// Known once the connection is initialised.
    principal: Option<Principal>,
    /// The running operations, each with the task that runs it.
    running: HashMap<String, (task::Id, CancellationToken)>,
    tasks: JoinSet<()>,
    /// Cancelled when the socket can no longer be written to.
    disconnected: CancellationToken,
}

impl Connection {
    /// Reads messages until the socket closes; returns why we close it, if we do.
    async fn run(
        &mut self,
        mut reader: futures_util::stream::SplitStream<WebSocket>,
    ) -> Option<Close> {
        let init = tokio::time::sleep(INIT_TIMEOUT);
        tokio::pin!(init);
        let stop = self.state.stop.clone();
        loop {
            let message = tokio::select! {
                message = reader.next() => message,
                () = &mut init, if self.principal.is_none() => {
                    return Some(Close(4408, "Connection initialisation timeout".into()));
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended).await;
                    continue;
                }
                () = stop.cancelled() => return Some(Close(1001, "Going away".into())),
                () = self.disconnected.cancelled() => return None,
            };
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_))) => {
                    return Some(Close(4400, "Binary messages are not accepted".into()));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            };
            let message = match serde_json::from_str(&text) {
                Ok(message) => message,
                Err(error) => {
                    return Some(Close::invalid(error));
                }
            };
            if let Err(close) = self.handle(message).await {
                return Some(close);
            }
        }
    }

    async fn handle(&mut self, mut message: FromClient) -> Result<(), Close> {
        match message.kind {
            MessageType::ConnectionInit => {
                if self.principal.is_some() {
                    return Err(Close(4429, "Too many initialisation requests".into()));
                }
                let payload: Option<Map<String, Value>> = match message.payload {
                    Some(payload) => serde_json::from_str(payload.get()).map_err(Close::invalid)?,
                    None => None,
                };
                self.principal = Some(self.authenticate(payload.unwrap_or_default()).await?);
                self.send(json!({ "type": "connection_ack" })).await;
            }
            MessageType::Ping => self.send(json!({ "type": "pong" })).await,
            MessageType::Pong => {}
            MessageType::Subscribe => {
                let id = message.id()?;
                let Some(payload) = message.payload else {
                    return Err(Close::invalid("missing field `payload`"));
                };
                self.start(id, &payload).await?;
            }
            MessageType::Complete => {
                if let Some((_, cancel)) = self.running.remove(&message.id()?) {
                    cancel.cancel();
                }
            }
        }
        Ok(())
    }

    /// Reads the token from `connection_init.payload.authorization`: browsers cannot
    /// set the headers of a WebSocket.
    async fn authenticate(&mut self, payload: Map<String, Value>) -> Result<Principal, Close> {
        let value = payload
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case("authorization"))
            .and_then(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty());
        if let Some(value) = value
            && let Ok(value) = value.parse()
        {
            let mut headers = (*self.headers).clone();
            headers.insert(header::AUTHORIZATION, value);
            self.headers = Arc::new(headers);
        }
        let Some(verifier) = &self.state.verifier else {
            return Ok(Principal::ANONYMOUS);
        };
        verifier
            .principal(&self.headers)
            .await
            .map_err(|error| Close(4403, truncate_reason(format!("Forbidden: {error}"))))
    }

    /// Counts an operation for the rate limits, parses and checks it.
    async fn admit(&self, payload: &RawValue) -> Result<(GraphqlRequest, Arc<Prepared>), Refusal> {
        let limiter = &self.state.limiter;
        limiter.request(self.address).await?;
        let request = request_from_json(payload.get().as_bytes())?;
        let prepared = prepare(&self.state, &request)?;
        limiter
            .operation(self.address, prepared.root_fields())
            .await?;
        Ok((request, prepared))
    }

    async fn start(&mut self, id: String, payload: &RawValue) -> Result<(), Close> {
        let Some(principal) = self.principal.clone() else {
            return Err(Close(4401, "Unauthorized".into()));
        };
        // Ended operations free their ids and their share of the limit first.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.ended(ended).await;
        }
        if self.running.contains_key(&id) {
            return Err(Close(
                4409,
                truncate_reason(format!("Subscriber for {id} already exists")),
            ));
        }
        // A refused operation gets an `error`; the connection and its other operations go on.
        let limit = self.state.config.limits.operations_per_socket;
        if self.running.len() >= limit {
            let message = format!("a connection runs at most {limit} operations at once");
            self.send_error(&id, vec![GraphQLError::new("TOO_MANY_OPERATIONS", message)])
                .await;
            return Ok(());
        }
        let (request, prepared) = match self.admit(payload).await {
            Ok(checked) => checked,
            Err(refusal) => {
                self.send_error(&id, refusal.errors).await;
                return Ok(());
            }
        };
        // A new id for each operation, not the one that the connection's headers may have.
        let correlation: Arc<str> = correlation_id(&HeaderMap::new()).into();
        let span = tracing::info_span!("operation", correlation_id = %correlation);
        let client = Client {
            principal,
            correlation_id: correlation,
            headers: self.headers.clone(),
            last_event_id: None,
        };
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let key = id.clone();
        let state = self.state.clone();
        let outbox = self.outbox.clone();
        let work = async move {
            if prepared.kind() != OperationType::Subscription {
                let started = Instant::now();
                let answer = state.pipeline.execute(&prepared, &request, &client).await;
                log_operation(&prepared, &answer, started);
                // Without data it is a request error, which the protocol sends as `error`.
                if answer.data.is_none() {
                    let _ = outbox.send(error_message(&id, &answer.errors)).await;
                } else {
                    let _ = outbox.send(next(&id, &answer)).await;
                    let _ = outbox.send(complete(&id)).await;
                }
                return;
            }
            match state.pipeline.subscribe(&prepared, &request, &client).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if outbox.send(next(&id, &event)).await.is_err() {
                            return;
                        }
                    }
                    let _ = outbox.send(complete(&id)).await;
                }
                Err(answer) => {
                    let _ = outbox.send(error_message(&id, &answer.errors)).await;
                }
            }
        };
        let task = self.tasks.spawn(
            async move {
                tokio::select! {
                    // After `complete` from the client, nothing more is sent.
                    biased;
                    () = cancelled.cancelled() => {}
                    () = work => {}
                }
            }
            .instrument(span),
        );
        // The task may have ended by now; `ended` is called later, and finds it.
        self.running.insert(key, (task.id(), cancel));
        Ok(())
    }

    /// Removes an operation whose task has ended. It is found by its task, as its id
    /// may belong to a newer operation by now.
    async fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let (task, failed) = match &ended {
            Ok((task, ())) => (*task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let known = self
            .running
            .iter()
            .find(|(_, (running, _))| *running == task);
        let Some(id) = known.map(|(id, _)| id.clone()) else {
            return;
        };
        self.running.remove(&id);
        if failed {
            tracing::error!("an operation panicked");
            let error = GraphQLError::new("INTERNAL", "something went wrong on our side");
            self.send_error(&id, vec![error]).await;
        }
    }

    async fn send(&self, message: Value) {
        let _ = self.outbox.send(Message::text(message.to_string())).await;
    }

    async fn send_error(&self, id: &str, errors: Vec<GraphQLError>) {
        let _ = self.outbox.send(error_message(id, &errors)).await;
    }
}

fn next(id: &str, answer: &Response) -> Message {
    let payload = String::from_utf8(answer.to_json())
        .ok()
        .and_then(|json| RawValue::from_string(json).ok());
    #[derive(serde::Serialize)]
    struct Next<'a> {
        id: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        payload: Option<Box<RawValue>>,
    }
    let message = Next {
        id,
        kind: "next",
        payload,
    };
    Message::text(serde_json::to_string(&message).unwrap_or_default())
}

fn complete(id: &str) -> Message {
    Message::text(json!({ "id": id, "type": "complete" }).to_string())
}

fn error_message(id: &str, errors: &[GraphQLError]) -> Message {
    Message::text(json!({ "id": id, "type": "error", "payload": errors }).to_string())
}

/// A close reason has at most 123 bytes (RFC 6455, section 5.5).
fn truncate_reason(mut reason: String) -> Cow<'static, str> {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason.into()
}
