//! What clients send reaches subgraphs as it was written, and the other way round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use reqwest::{Client, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{SubgraphRequest, SubgraphResponse, Transport, TransportError};
use stoa_federation::{Subgraph, Supergraph, compose};
use stoa_router::{Config, Server, app};
use stoa_runtime::clock::Clock;
use tokio_util::sync::CancellationToken;

const SDL: &str = "
    scalar Any
    enum Color { RED GREEN }
    input In {
        f: Float i: Int id: ID s: String b: Boolean color: Color any: Any
        list: [[Float]] nested: In
    }
    type Query { echo(x: Any): Any typed(f: Float, i: Int, id: ID, s: String, b: Boolean, color: Color, in: In, list: [[Float]]): Int }
";
const ROUNDS: usize = 500;

/// Responds with the variable `x` and keeps all others.
#[derive(Default)]
struct Echo(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl Transport for Echo {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let variables: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(&request.variables).unwrap();
        let text = |name: &str| variables.get(name).map_or("null", |value| value.get());
        let body = format!("{{\"data\":{{\"echo\":{},\"typed\":1}}}}", text("x"));
        let texts = variables.iter();
        let texts = texts.map(|(name, value)| (name.clone(), value.get().to_owned()));
        *self.0.lock().unwrap() = texts.collect();
        Ok(SubgraphResponse {
            body: body.into(),
            ..SubgraphResponse::default()
        })
    }

    async fn subscribe(&self, _request: SubgraphRequest) -> Result<Events, TransportError> {
        panic!("nobody subscribes")
    }
}

/// A router over the echo, and its address.
async fn serve(config: Config) -> (Arc<Echo>, String) {
    let subgraph = Subgraph::parse("echo", "http://echo", SDL).unwrap();
    let composed = compose(&[subgraph]).unwrap();
    let echo = Arc::new(Echo::default());
    let server = Server {
        graph: Arc::new(Supergraph::parse(&composed.supergraph_sdl).unwrap()),
        transport: echo.clone(),
        verifier: None,
        identity: None,
        config,
        clock: Clock::system(),
        checks: Vec::new(),
        routes: axum::Router::new(),
    };
    let routes = app(server, CancellationToken::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    (echo, url)
}

/// Text of random values.
struct Random(fastrand::Rng);

impl Random {
    fn float(&mut self) -> String {
        match self.0.u8(..6) {
            0 => self.0.i64(..).to_string(),
            1 => format!("{}0", self.0.f32()),
            2 => format!("{:e}", self.0.f64() - 0.5),
            3 => format!("-{}E+{}", self.0.u8(1..9), self.0.u8(..200)),
            4 => format!("{}{}", self.0.u64(1..), self.0.u64(..)),
            _ => loop {
                let float = f64::from_bits(self.0.u64(..));
                if float.is_finite() {
                    break format!("{float:?}");
                }
            },
        }
    }

    fn string(&mut self) -> String {
        const PIECES: [&str; 8] = ["a", " ", "\\n", "\\\"", "\\u00e9", "é", "\\/", "😀"];
        let length = self.0.usize(..6);
        let text: String = (0..length).map(|_| PIECES[self.0.usize(..8)]).collect();
        format!("\"{text}\"")
    }

    fn any(&mut self, depth: usize) -> String {
        match self.0.u8(..if depth > 3 { 4 } else { 6 }) {
            0 => self.float(),
            1 => self.string(),
            2 => "null".to_owned(),
            3 => self.0.bool().to_string(),
            4 => format!("[{} , {}]", self.any(depth + 1), self.any(depth + 1)),
            _ => format!(
                "{{\"b\" : {}, \"a\":{}}}",
                self.any(depth + 1),
                self.any(depth + 1)
            ),
        }
    }

    fn list(&mut self) -> String {
        format!("[[{},{}],null,[]]", self.float(), self.float())
    }

    fn id(&mut self) -> String {
        match self.0.bool() {
            true => self.string(),
            false => format!("{}{}", self.0.i64(..), self.0.u64(..)),
        }
    }

    /// The value of a type, by the name of the field that takes it.
    fn of(&mut self, name: &str, depth: usize) -> String {
        match name {
            "f" => self.float(),
            "i" => self.0.i32(..).to_string(),
            "id" => self.id(),
            "s" => self.string(),
            "b" => self.0.bool().to_string(),
            "color" => ["\"RED\"", "\"GREEN\""][self.0.usize(..2)].to_owned(),
            "list" => self.list(),
            "any" | "x" => self.any(depth),
            _ if depth > 3 => "null".to_owned(),
            _ => {
                let names = ["s", "f", "any", "nested", "i", "list", "id", "color", "b"];
                let chosen = names
                    .into_iter()
                    .filter(|_| self.0.bool())
                    .collect::<Vec<_>>();
                let fields = chosen.iter().map(|name| {
                    let value = self.of(name, depth + 1);
                    format!("\"{name}\":{value}")
                });
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_arrive_as_they_were_written() {
    let (echo, url) = serve(Config::default()).await;
    let seed = std::env::var("STOA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = Random(fastrand::Rng::with_seed(seed));
    let query = "query ($x: Any, $f: Float, $i: Int, $id: ID, $s: String, $b: Boolean, $color: Color, $in: In, $list: [[Float]]) { echo(x: $x) typed(f: $f, i: $i, id: $id, s: $s, b: $b, color: $color, in: $in, list: $list) }";
    let client = Client::new();
    for round in 0..ROUNDS {
        let names = ["x", "f", "i", "id", "s", "b", "color", "in", "list"];
        let sent: BTreeMap<String, String> = names
            .map(|name| (name.to_owned(), random.of(name, 0)))
            .into();
        let pairs: Vec<_> = sent
            .iter()
            .map(|(name, text)| format!("\"{name}\":{text}"))
            .collect();
        let variables = format!("{{{}}}", pairs.join(","));
        let request = match round % 10 {
            0 => client
                .get(&url)
                .query(&[("query", query), ("variables", &variables)]),
            _ => {
                let body = format!("{{\"query\":{},\"variables\":{variables}}}", json!(query));
                client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(body)
            }
        };
        let response = request.send().await.unwrap().text().await.unwrap();
        assert!(
            !response.contains("errors"),
            "seed {seed}: {variables}: {response}"
        );
        assert_eq!(*echo.0.lock().unwrap(), sent, "seed {seed}");
        let returned = format!("{{\"data\":{{\"echo\":{},\"typed\":1}}}}", sent["x"]);
        assert_eq!(response, returned, "seed {seed}");
    }
    println!("values: seed {seed}, {ROUNDS} requests");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_read_up_to_their_limit() {
    let (_, url) = serve(Config::default()).await;
    let post = async |encoding: &'static str, body: Vec<u8>| {
        let request = Client::new()
            .post(&url)
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(body);
        let response = request.send().await.unwrap();
        let accepted = response.headers().get("accept-encoding").cloned();
        (response.status(), accepted, response.text().await.unwrap())
    };
    let query = json!({ "query": "{ typed }" }).to_string();
    let (status, _, text) = post("gzip", gzip(&query)).await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::OK, r#"{"data":{"typed":1}}"#)
    );
    let (status, accepted, _) = post("snappy", query.clone().into()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(accepted.is_some_and(|accepted| accepted.to_str().unwrap().contains("gzip")));
    let (status, _, text) = post("gzip", query.clone().into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    // A hundred megabytes in a few kilobytes.
    let bomb = gzip(&" ".repeat(100 * 1024 * 1024));
    assert!(bomb.len() < 200_000);
    let (status, _, text) = post("gzip", bomb).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("BODY_TOO_LARGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_send_headers_of_their_clients() {
    let config = Config {
        cors_origins: vec!["https://shop.test".to_owned()],
        ..Config::default()
    };
    let (_, url) = serve(config).await;
    let preflight = async |origin: &'static str| {
        let names = "content-type,apollographql-client-name,traceparent";
        let request = Client::new()
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", names);
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        (
            header("access-control-allow-origin"),
            header("access-control-allow-headers"),
            header("access-control-max-age"),
        )
    };
    let (origin, headers, age) = preflight("https://shop.test").await;
    assert_eq!(origin.as_deref(), Some("https://shop.test"));
    assert!(headers.is_some_and(|names| names.contains("apollographql-client-name")));
    assert_eq!(age.as_deref(), Some("7200"));
    assert_eq!(preflight("https://evil.test").await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn persisted_queries_are_declined_so_that_clients_send_the_document() {
    let (_, url) = serve(Config::default()).await;
    let probe = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "ec" } } });
    let response = Client::new().post(&url).json(&probe).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["errors"][0]["message"], "PersistedQueryNotSupported");
    let code = &answer["errors"][0]["extensions"]["code"];
    assert_eq!(code, "PERSISTED_QUERY_NOT_SUPPORTED");
}
