//! Invalid responses of a subgraph, over real sockets, each together with a working
//! subgraph whose data must be kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{
    HttpLimits, HttpTransport, SubgraphRequest, SubgraphResponse, Transport, TransportError,
};
use stoa_federation_tests::{Federation, RequestContext};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const LIMITS: HttpLimits = HttpLimits {
    response: 10_000,
    // Long: the tests of closed connections need them kept.
    idle: Duration::from_secs(60),
    timeout: Duration::from_millis(500),
};

fn federation() -> Federation {
    let good = "type Query { good: Int }";
    let bad = "type Query { bad: Int worse: [Int!] } type Mutation { change: Int }";
    let part = |name: &str, sdl: &str, data: Value| (name.to_owned(), sdl.to_owned(), data);
    Federation::compose(&[
        part("good", good, json!({ "Query": { "good": 1 } })),
        part("bad", bad, Value::Null),
    ])
    .unwrap_or_else(|error| panic!("{error}"))
}

/// The good subgraph in process, the bad one over a socket.
struct Mixed {
    good: Arc<dyn Transport>,
    http: HttpTransport,
    url: Arc<str>,
}

#[async_trait]
impl Transport for Mixed {
    async fn execute(
        &self,
        mut request: SubgraphRequest,
    ) -> Result<SubgraphResponse, TransportError> {
        if &*request.subgraph == "good" {
            return self.good.execute(request).await;
        }
        request.url = self.url.clone();
        self.http.execute(request).await
    }

    async fn subscribe(&self, _request: SubgraphRequest) -> Result<Events, TransportError> {
        panic!("nothing subscribes here")
    }
}

/// Reads a request; false if the client closed the connection before.
async fn read_request(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4_096];
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") {
        let count = socket.read(&mut buffer).await.unwrap();
        seen.extend_from_slice(&buffer[..count]);
        if count == 0 {
            return false;
        }
    }
    true
}

/// Queries `{ good bad worse }`. The bad subgraph sends these bytes and closes the
/// connection, or without bytes keeps it open.
async fn ask(sent: Option<Vec<u8>>) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        match sent {
            Some(bytes) => {
                // The client may have read enough and closed the connection.
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
            }
            None => std::future::pending().await,
        }
    });
    asked(format!("http://{address}/")).await
}

async fn asked(url: String) -> Value {
    Asker::new(url, LIMITS).ask("{ good bad worse }").await
}

/// Asks the two subgraphs over one client, which keeps its connections.
struct Asker {
    federation: Federation,
    transport: Arc<Mixed>,
}

impl Asker {
    fn new(url: String, limits: HttpLimits) -> Self {
        let federation = federation();
        let transport = Arc::new(Mixed {
            good: federation.in_process(),
            http: HttpTransport::new(limits).unwrap(),
            url: url.into(),
        });
        Self {
            federation,
            transport,
        }
    }

    async fn ask(&self, query: &str) -> Value {
        let given = RequestContext::default();
        self.federation
            .ask(query, &Map::new(), &given, self.transport.clone())
            .await
            .json
    }
}

fn http(status: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    Some([head.as_bytes(), body.as_bytes()].concat())
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn what_is_no_answer_is_an_error_with_a_code_and_a_name() {
    let large = format!(
        "{{\"data\":{{\"bad\":1,\"worse\":[{}1]}}}}",
        "1,".repeat(20_000)
    );
    let cases: Vec<(&str, Option<Vec<u8>>, &str)> = vec![
        (
            "not JSON",
            http("200 OK", "<html>hello</html>"),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        ("empty", http("200 OK", ""), "SUBGRAPH_INVALID_RESPONSE"),
        (
            "no content",
            http("204 No Content", ""),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "cut off",
            Some(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"data\":".to_vec()),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "half JSON",
            http("200 OK", "{\"data\":{\"bad\":1"),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "an error page",
            http("502 Bad Gateway", "<html>"),
            "SUBGRAPH_HTTP_STATUS",
        ),
        ("a redirect", http("302 Found", ""), "SUBGRAPH_HTTP_STATUS"),
        (
            "not HTTP",
            Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            "SUBGRAPH_UNREACHABLE",
        ),
        ("nothing", Some(Vec::new()), "SUBGRAPH_UNREACHABLE"),
        ("a list", http("200 OK", "[1]"), "SUBGRAPH_INVALID_RESPONSE"),
        (
            "data that is no object",
            http("200 OK", "{\"data\":[1]}"),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "neither data nor errors",
            http("200 OK", "{\"hello\":1}"),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "errors that are none",
            http("200 OK", "{\"errors\":[1]}"),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "an odd error beside data",
            http(
                "200 OK",
                "{\"data\":{\"bad\":1,\"worse\":null},\"errors\":[1]}",
            ),
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "too large",
            http("200 OK", &large),
            "SUBGRAPH_RESPONSE_TOO_LARGE",
        ),
        ("too slow", None, "SUBGRAPH_TIMEOUT"),
        (
            "a wrong leaf",
            http("200 OK", "{\"data\":{\"bad\":\"x\",\"worse\":null}}"),
            "SUBGRAPH_INVALID_VALUE",
        ),
        (
            "a wrong shape",
            http("200 OK", "{\"data\":{\"bad\":1,\"worse\":{\"a\":1}}}"),
            "SUBGRAPH_INVALID_VALUE",
        ),
        (
            "an error of its own, with a status",
            http(
                "500 Oops",
                "{\"errors\":[{\"message\":\"own\",\"extensions\":{\"code\":\"OWN\",\"service\":\"bad\"}}]}",
            ),
            "OWN",
        ),
    ];
    for (name, sent, code) in cases {
        let answer = ask(sent).await;
        assert_eq!(answer["data"]["good"], 1, "{name}: {answer}");
        assert!(
            answer["data"]["bad"].is_null() || answer["data"]["worse"].is_null(),
            "{name}: {answer}"
        );
        let errors = answer["errors"].as_array().unwrap();
        assert!(!errors.is_empty(), "{name}");
        for error in errors {
            assert_eq!(error["extensions"]["code"], code, "{name}: {answer}");
            assert_eq!(error["extensions"]["service"], "bad", "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_subgraph_that_is_not_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = asked(format!("http://{address}/")).await;
    assert_eq!(
        answer["data"],
        json!({ "good": 1, "bad": null, "worse": null })
    );
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "SUBGRAPH_UNREACHABLE"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_fetches_along() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (asked_for, was_asked) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        asked_for.send(()).unwrap();
        // The client closes the connection: the response is no longer awaited.
        let read = socket.read(&mut [0; 16]).await;
        ended.send(matches!(read, Ok(0) | Err(_))).unwrap();
    });
    let client = tokio::spawn(asked(url));
    was_asked.await.unwrap();
    client.abort();
    let ended = tokio::time::timeout(Duration::from_millis(400), has_ended).await;
    assert!(ended.unwrap().unwrap());
}

/// How the subgraph ends a kept connection when the second request comes.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// After reading the request.
    Closed,
    /// With the request unread, which resets the connection.
    Reset,
}

/// A subgraph whose first `broken` connections answer one request and break at the
/// second; later ones answer all. Counts connections and requests.
async fn breaks_kept_connections(how: Break, broken: usize) -> (String, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = counts.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let number = counted[0].fetch_add(1, Ordering::SeqCst);
            let counted = counted.clone();
            tokio::spawn(async move {
                let body = "{\"data\":{\"bad\":1,\"worse\":null,\"change\":1}}";
                let mut served = 0;
                loop {
                    if number < broken && served == 1 && matches!(how, Break::Reset) {
                        // Closing with unread bytes sends a reset.
                        let _ = socket.peek(&mut [0]).await;
                        counted[1].fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if !read_request(&mut socket).await {
                        return;
                    }
                    counted[1].fetch_add(1, Ordering::SeqCst);
                    if number < broken && served == 1 {
                        return;
                    }
                    let bytes = http("200 OK", body).unwrap();
                    socket.write_all(&bytes).await.unwrap();
                    served += 1;
                }
            });
        }
    });
    (url, counts)
}

fn counts(counts: &[AtomicUsize; 2]) -> [usize; 2] {
    [
        counts[0].load(Ordering::SeqCst),
        counts[1].load(Ordering::SeqCst),
    ]
}

#[tokio::test]
async fn a_query_that_meets_a_closed_connection_is_sent_once_more() {
    for how in [Break::Closed, Break::Reset] {
        let (url, seen) = breaks_kept_connections(how, 1).await;
        let asker = Asker::new(url, LIMITS);
        assert_eq!(asker.ask("{ good bad }").await["data"]["bad"], 1);
        let answer = asker.ask("{ good bad }").await;
        assert_eq!(answer["data"]["bad"], 1, "{how:?}: {answer}");
        assert_eq!(counts(&seen), [2, 3], "{how:?}");
    }
}

#[tokio::test]
async fn a_mutation_is_never_sent_twice() {
    for how in [Break::Closed, Break::Reset] {
        let (url, seen) = breaks_kept_connections(how, 1).await;
        let asker = Asker::new(url, LIMITS);
        assert_eq!(asker.ask("{ good bad }").await["data"]["bad"], 1);
        let answer = asker.ask("mutation { change }").await;
        let code = &answer["errors"][0]["extensions"]["code"];
        assert_eq!(code, "SUBGRAPH_UNREACHABLE", "{how:?}: {answer}");
        assert_eq!(counts(&seen), [1, 2], "{how:?}");
    }
}

/// What nginx and Node do: they close a connection that nobody used for a while.
#[tokio::test]
async fn a_connection_is_not_kept_longer_than_the_other_side_keeps_it() {
    let (url, seen) = breaks_kept_connections(Break::Closed, 1).await;
    let limits = HttpLimits {
        idle: Duration::from_millis(1),
        ..LIMITS
    };
    let asker = Asker::new(url, limits);
    assert_eq!(asker.ask("{ good bad }").await["data"]["bad"], 1);
    let used = std::time::Instant::now();
    while used.elapsed() < Duration::from_millis(20) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = asker.ask("mutation { change }").await;
    assert_eq!(answer["data"]["change"], 1, "{answer}");
    assert_eq!(counts(&seen), [2, 2]);
}

/// A malformed member of an error costs only itself.
#[tokio::test]
async fn an_odd_error_keeps_its_message_and_code() {
    for odd in [
        r#""path":"bad","#,
        r#""path":[1.5],"#,
        r#""path":[null],"#,
        r#""locations":"x","#,
    ] {
        let body = format!(
            r#"{{"data":{{"bad":null,"worse":null}},"errors":[{{{odd}"message":"out of stock","extensions":{{"code":"STOCK"}}}}]}}"#
        );
        let answer = ask(http("200 OK", &body)).await;
        let data = json!({ "good": 1, "bad": null, "worse": null });
        assert_eq!(answer["data"], data, "{odd}");
        let errors = json!([{ "message": "out of stock", "extensions": { "code": "STOCK" } }]);
        assert_eq!(answer["errors"], errors, "{odd}");
    }
}
