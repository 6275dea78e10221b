//! Subscriptions over sockets, to subgraphs that are slow to answer or refuse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use serde_json::{Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{GraphQLError, SubgraphRequest, SubgraphResponse, Transport, TransportError};
use stoa_federation::{Subgraph, Supergraph, compose};
use stoa_router::{Config, Server, app};
use stoa_runtime::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const SDL: &str = "type Query { a: Int } type Subscription { tick: Int! }";
/// How long a test waits for what must come.
const BOUND: Duration = Duration::from_secs(20);

/// How the subgraph answers a subscription.
#[derive(Clone)]
enum Answer {
    Refused,
    /// When it is notified.
    Late(Arc<Notify>),
}

#[async_trait]
impl Transport for Answer {
    async fn execute(&self, _request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        panic!("nothing asks")
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        match self {
            Self::Refused => Err(TransportError::Refused {
                subgraph: request.subgraph,
                errors: vec![GraphQLError::new("FORBIDDEN", "not for you")],
            }),
            Self::Late(answer) => {
                answer.notified().await;
                let event = json!({ "data": { "tick": 1 } });
                let event = Ok(SubgraphResponse::from_json(&event));
                Ok(futures_util::stream::iter([event]).boxed())
            }
        }
    }
}

/// Serves a router over the subgraph.
async fn serve(answer: Answer) -> SocketAddr {
    let subgraph = Subgraph::parse("a", "http://x", SDL).unwrap();
    let composed = compose(&[subgraph]).unwrap();
    let server = Server {
        graph: Arc::new(Supergraph::parse(&composed.supergraph_sdl).unwrap()),
        transport: Arc::new(answer),
        verifier: None,
        identity: None,
        config: Config::default(),
        clock: Clock::system(),
        checks: Vec::new(),
        routes: axum::Router::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(server, CancellationToken::new());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(BOUND, what).await.unwrap()
}

async fn subscribe(address: SocketAddr) -> reqwest::Response {
    let request = reqwest::Client::new()
        .post(format!("http://{address}/graphql"))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": "subscription { tick }" }));
    within(request.send()).await.unwrap()
}

#[tokio::test]
async fn events_begin_before_the_subgraph_answers() {
    let answer = Arc::new(Notify::new());
    let address = serve(Answer::Late(answer.clone())).await;
    // The subgraph answers only once the client has read the head and a comment.
    let mut response = subscribe(address).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = within(response.chunk()).await.unwrap().unwrap();
    assert!(first.starts_with(b":"), "{first:?}");
    answer.notify_one();
    let rest = within(response.text()).await.unwrap();
    assert_eq!(
        rest,
        "event: next\ndata: {\"data\":{\"tick\":1}}\n\nevent: complete\n\n"
    );
}

#[tokio::test]
async fn a_refusal_is_an_event_with_the_errors_of_the_subgraph() {
    let text = subscribe(serve(Answer::Refused).await).await.text();
    let text = within(text).await.unwrap();
    let errors =
        "{\"errors\":[{\"message\":\"not for you\",\"extensions\":{\"code\":\"FORBIDDEN\"}}]}";
    let expected = format!("event: next\ndata: {errors}\n\nevent: complete\n\n");
    assert!(text.ends_with(&expected), "{text}");
}

#[tokio::test]
async fn over_a_websocket_a_refusal_is_an_error() {
    let address = serve(Answer::Refused).await;
    let mut socket = within(WebSocket::open(address)).await;
    socket.send(&json!({ "type": "connection_init" })).await;
    assert_eq!(within(socket.next()).await["type"], "connection_ack");
    let payload = json!({ "query": "subscription { tick }" });
    let start = json!({ "id": "1", "type": "subscribe", "payload": payload });
    socket.send(&start).await;
    assert_eq!(
        within(socket.next()).await,
        json!({
            "id": "1",
            "type": "error",
            "payload": [{ "message": "not for you", "extensions": { "code": "FORBIDDEN" } }],
        })
    );
}

/// As little of RFC 6455 as the test needs.
struct WebSocket(TcpStream);

impl WebSocket {
    async fn open(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /graphql HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(socket.read_u8().await.unwrap());
        }
        assert!(seen.starts_with(b"HTTP/1.1 101"), "{seen:?}");
        Self(socket)
    }

    /// Sends a text of less than 126 bytes, under a mask of zeros.
    async fn send(&mut self, message: &Value) {
        let text = message.to_string();
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        assert_eq!(self.0.read_u8().await.unwrap(), 0x81);
        let length = match self.0.read_u8().await.unwrap() {
            126 => self.0.read_u16().await.unwrap(),
            short => short.into(),
        };
        let mut text = vec![0; length.into()];
        self.0.read_exact(&mut text).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}
