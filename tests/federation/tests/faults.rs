//! Invalid responses of a subgraph, over real sockets, each together with a working
//! subgraph whose data must be kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
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
    timeout: Duration::from_millis(500),
};

fn federation() -> Federation {
    let good = "type Query { good: Int }";
    let bad = "type Query { bad: Int worse: [Int!] }";
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

async fn read_request(socket: &mut TcpStream) {
    let mut buffer = [0; 4_096];
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") {
        let count = socket.read(&mut buffer).await.unwrap();
        seen.extend_from_slice(&buffer[..count]);
        if count == 0 {
            return;
        }
    }
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
            None => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    });
    asked(format!("http://{address}/")).await
}

async fn asked(url: String) -> Value {
    let federation = federation();
    let transport = Arc::new(Mixed {
        good: federation.in_process(),
        http: HttpTransport::new(LIMITS).unwrap(),
        url: url.into(),
    });
    let query = "{ good bad worse }";
    let given = RequestContext::default();
    federation
        .ask(query, &Map::new(), &given, transport)
        .await
        .json
}

fn http(status: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    Some([head.as_bytes(), body.as_bytes()].concat())
}

#[tokio::test]
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
