//! How subgraphs are reached over HTTP: encodings, streams, connections, retries.
//! The subgraphs are sockets that send exactly what a test says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::HeaderMap;
use serde_json::{Value, json};
use stoa_engine::{
    BreakerSettings, HttpLimits, HttpSettings, HttpTransport, SubgraphRequest, SubgraphResponse,
    Transport, TransportError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = "{\"data\":{\"a\":1}}";

fn settings() -> HttpSettings {
    HttpSettings {
        limits: HttpLimits {
            response: 100_000,
            // Long: kept connections must still be there.
            idle: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
        },
        ..HttpSettings::default()
    }
}

fn transport(settings: HttpSettings) -> HttpTransport {
    HttpTransport::with_settings(settings, HashMap::new()).unwrap()
}

fn request(url: &str, is_repeatable: bool) -> SubgraphRequest {
    SubgraphRequest {
        subgraph: "a".into(),
        url: url.into(),
        text: "{a}".into(),
        prefix: "{\"query\":\"{a}\",\"variables\":".into(),
        operation_name: None,
        variables: b"{}".to_vec(),
        is_repeatable,
        headers: HeaderMap::new(),
    }
}

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads a request; `None` if the connection ended before.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut buffer = [0; 4_096];
    let mut seen = Vec::new();
    while !seen.ends_with(b"}}") {
        match socket.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    String::from_utf8(seen).ok()
}

/// What a subgraph does with a request.
enum Act {
    Send(Vec<u8>),
    /// Sends this, perhaps nothing, and closes the connection.
    Close(Vec<u8>),
    Wait,
}

/// A subgraph that acts by the numbers of connection and request on it, from 0.
/// Returns its URL and the heads and bodies that it received.
async fn subgraph(
    act: impl Fn(usize, usize) -> Act + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let act = Arc::new(act);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (act, noted) = (act.clone(), noted.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let Some(text) = read_request(&mut socket).await else {
                        return;
                    };
                    noted.lock().unwrap().push(text);
                    match act(connection, number) {
                        Act::Send(bytes) => socket.write_all(&bytes).await.unwrap(),
                        Act::Close(bytes) => {
                            let _ = socket.write_all(&bytes).await;
                            return;
                        }
                        Act::Wait => std::future::pending().await,
                    }
                }
            });
        }
    });
    (url, seen)
}

fn send(head: &'static str, body: impl AsRef<[u8]> + Send + Sync + 'static) -> impl Fn() -> Act {
    move || Act::Send(with_head(head, body.as_ref()))
}

fn json_of(response: &Result<SubgraphResponse, TransportError>) -> Value {
    match response {
        Ok(response) => serde_json::from_slice(&response.body).unwrap(),
        Err(error) => Value::from(error.code()),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn compressed_answers_are_decoded_and_bounded() {
    let small = gzip(ANSWER.as_bytes());
    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let cases = [
        (small.clone(), "gzip", json!({ "data": { "a": 1 } })),
        (small.clone(), "GZIP", json!({ "data": { "a": 1 } })),
        (gzip(&small), "gzip, gzip", json!({ "data": { "a": 1 } })),
        (bomb, "gzip", json!("SUBGRAPH_RESPONSE_TOO_LARGE")),
        (small.clone(), "br", json!("SUBGRAPH_INVALID_RESPONSE")),
        (small, "compress", json!("SUBGRAPH_INVALID_RESPONSE")),
    ];
    for (body, coding, expected) in cases {
        let head =
            format!("200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {coding}");
        let (url, seen) = subgraph(move |_, _| Act::Send(with_head(&head, &body))).await;
        let answer = transport(settings()).execute(request(&url, true)).await;
        assert_eq!(json_of(&answer), expected, "{coding}");
        let seen = seen.lock().unwrap();
        assert!(seen[0].contains("accept-encoding: gzip, br, zstd, deflate\r\n"));
    }
}

/// The errors with which a subscription is refused.
async fn refusal(head: &'static str, body: &'static str) -> TransportError {
    let answer = send(head, body);
    let (url, _) = subgraph(move |_, _| answer()).await;
    match transport(settings()).subscribe(request(&url, false)).await {
        Ok(_) => panic!("{head} started a subscription"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_refused_subscription_has_the_errors_of_the_subgraph() {
    const BODY: &str =
        "{\"errors\":[{\"message\":\"not for you\",\"extensions\":{\"code\":\"FORBIDDEN\"}}]}";
    for head in [
        "200 OK\r\ncontent-type: application/json",
        "200 OK\r\ncontent-type: Application/JSON; charset=utf-8",
        "400 Bad Request\r\ncontent-type: application/graphql-response+json",
        "401 Unauthorized\r\ncontent-type: application/json",
        "500 Oops\r\ncontent-type: application/json",
    ] {
        let TransportError::Refused { errors, .. } = refusal(head, BODY).await else {
            panic!("{head}");
        };
        let errors = serde_json::to_value(&errors).unwrap();
        let expected = json!([{ "message": "not for you", "extensions": { "code": "FORBIDDEN" } }]);
        assert_eq!(errors, expected, "{head}");
    }
    let events = "event: next\ndata: {\"errors\":[{\"message\":\"no\"}]}\n\nevent: complete\n\n";
    let error = refusal("400 Bad Request\r\ncontent-type: text/event-stream", events).await;
    assert_eq!(error.code(), "SUBGRAPH_REFUSED");
    for (head, body, code) in [
        (
            "502 Bad Gateway\r\ncontent-type: text/html",
            "<html>",
            "SUBGRAPH_HTTP_STATUS",
        ),
        ("400 Bad Request", "", "SUBGRAPH_HTTP_STATUS"),
        (
            "200 OK\r\ncontent-type: text/html",
            "<html>",
            "SUBGRAPH_INVALID_RESPONSE",
        ),
        (
            "200 OK\r\ncontent-type: application/json",
            "{\"data\":{\"a\":1}}",
            "SUBGRAPH_INVALID_RESPONSE",
        ),
    ] {
        assert_eq!(refusal(head, body).await.code(), code, "{head}");
    }
}

#[tokio::test]
async fn events_of_any_line_ends_arrive() {
    let plain =
        ": hi\n\nevent: next\ndata: {\"data\":\ndata: {\"tick\":1}}\n\nevent: complete\ndata:\n\n";
    for text in [
        plain.to_owned(),
        plain.replace('\n', "\r"),
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
    ] {
        let head = "200 OK\r\ncontent-type: text/event-stream; charset=utf-8";
        let answer = send(head, text.clone());
        let (url, seen) = subgraph(move |_, _| answer()).await;
        let http = transport(settings());
        let events = http.subscribe(request(&url, false)).await.unwrap();
        let events: Vec<_> = events.map(|event| json_of(&event)).collect().await;
        assert_eq!(events, [json!({ "data": { "tick": 1 } })], "{text:?}");
        assert!(seen.lock().unwrap()[0].contains("accept-encoding: identity\r\n"));
    }
}

/// Longer than any timeout of the settings, which are as short as can be.
#[tokio::test]
async fn a_quiet_source_is_no_error() {
    let (url, seen) = subgraph(|_, _| Act::Wait).await;
    let mut short = settings();
    short.limits.timeout = Duration::from_millis(1);
    let http = transport(short);
    let query = http.execute(request(&url, true)).await;
    assert_eq!(json_of(&query), json!("SUBGRAPH_TIMEOUT"));
    let started = tokio::spawn({
        let (http, url) = (http.clone(), url.clone());
        async move { http.subscribe(request(&url, false)).await.is_ok() }
    });
    // The subscription is still waiting when a later query has long timed out.
    let was_asked = || {
        let seen = seen.lock().unwrap();
        seen.iter().any(|text| text.contains("text/event-stream"))
    };
    let bound = Instant::now() + Duration::from_secs(10);
    while !was_asked() {
        assert!(Instant::now() < bound, "it was never asked");
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        let query = http.execute(request(&url, true)).await;
        assert_eq!(json_of(&query), json!("SUBGRAPH_TIMEOUT"));
    }
    assert!(!started.is_finished());
}

#[tokio::test]
async fn only_a_kept_connection_that_ended_without_a_byte_is_a_reason_to_repeat() {
    let answer = || Act::Send(with_head("200 OK", ANSWER.as_bytes()));
    // A new connection ends: the request itself may be what ends it.
    let (url, seen) = subgraph(|_, _| Act::Close(Vec::new())).await;
    let http = transport(settings());
    let failed = http.execute(request(&url, true)).await;
    assert_eq!(json_of(&failed), json!("SUBGRAPH_UNREACHABLE"));
    assert_eq!(seen.lock().unwrap().len(), 1);

    // The beginning of a response came.
    let (url, seen) = subgraph(move |_, number| match number {
        0 => answer(),
        _ => Act::Close(b"HTTP/1.1 200".to_vec()),
    })
    .await;
    let http = transport(settings());
    http.execute(request(&url, true)).await.unwrap();
    let failed = http.execute(request(&url, true)).await;
    assert_eq!(json_of(&failed), json!("SUBGRAPH_UNREACHABLE"));
    assert_eq!(seen.lock().unwrap().len(), 2);

    // The repeated request may fail as well: that was the last one.
    let (url, seen) = subgraph(move |connection, number| match (connection, number) {
        (0, 0) => answer(),
        _ => Act::Close(Vec::new()),
    })
    .await;
    let http = transport(settings());
    http.execute(request(&url, true)).await.unwrap();
    let failed = http.execute(request(&url, true)).await;
    assert_eq!(json_of(&failed), json!("SUBGRAPH_UNREACHABLE"));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_may_not_be_repeated_is_sent_once() {
    for (is_repeatable, sent) in [(false, 2), (true, 3)] {
        let (url, seen) = subgraph(|connection, number| match (connection, number) {
            (0, 1) => Act::Close(Vec::new()),
            _ => Act::Send(with_head("200 OK", ANSWER.as_bytes())),
        })
        .await;
        let http = transport(settings());
        http.execute(request(&url, true)).await.unwrap();
        let answer = http.execute(request(&url, is_repeatable)).await;
        assert_eq!(answer.is_ok(), is_repeatable);
        assert_eq!(seen.lock().unwrap().len(), sent);
    }
}

/// A kept connection is reset, and the client learns of it when it sends the next
/// request: its only thread is blocked until then, and the server has its own.
#[tokio::test]
async fn a_query_survives_the_reset_of_a_kept_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (reset, to_reset) = std::sync::mpsc::channel::<()>();
    let (done, was_reset) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let serve = async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                read_request(&mut socket).await;
                let answer = with_head("200 OK", ANSWER.as_bytes());
                socket.write_all(&answer).await.unwrap();
                if to_reset.recv().is_err() {
                    return;
                }
                socket.set_zero_linger().unwrap();
                drop(socket);
                done.send(()).unwrap();
            }
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(serve);
    });
    let http = transport(settings());
    // Below the budget, which allows ten retries.
    for round in 0..10 {
        let answer = http.execute(request(&url, true)).await;
        assert_eq!(json_of(&answer), json!({ "data": { "a": 1 } }), "{round}");
        reset.send(()).unwrap();
        was_reset.recv().unwrap();
    }
}

#[tokio::test]
async fn retries_are_bounded_by_a_budget() {
    // Every connection answers once and ends at the second request.
    let (url, seen) = subgraph(|_, number| match number {
        0 => Act::Send(with_head("200 OK", ANSWER.as_bytes())),
        _ => Act::Close(Vec::new()),
    })
    .await;
    let start = Instant::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = seconds.clone();
    let http = transport(settings()).with_clock(Arc::new(move || {
        start + Duration::from_secs(clock.load(Ordering::SeqCst))
    }));
    let failures = async || {
        let mut failed = 0;
        for _ in 0..40 {
            let answer = http.execute(request(&url, true)).await;
            failed += usize::from(answer.is_err());
        }
        failed
    };
    // Of two requests the second meets an ended connection; ten are repeated.
    assert!(failures().await > 0);
    let first = seen.lock().unwrap().len();
    assert_eq!(first, 40 + 10);
    seconds.store(60, Ordering::SeqCst);
    failures().await;
    assert_eq!(seen.lock().unwrap().len(), first + 40 + 10);
}

#[tokio::test]
async fn connections_are_limited_and_others_wait() {
    let running = Arc::new(AtomicUsize::new(0));
    let connections = running.clone();
    let (url, _) = subgraph(move |connection, _| {
        connections.fetch_max(connection + 1, Ordering::SeqCst);
        Act::Send(with_head("200 OK", ANSWER.as_bytes()))
    })
    .await;
    let http = transport(HttpSettings {
        connections: 2,
        ..settings()
    });
    let all = (0..50).map(|_| http.execute(request(&url, true)));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(json_of(&answer), json!({ "data": { "a": 1 } }));
    }
    assert!(running.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_where_it_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        format!("{{\"data\":{{\"a\":\"{:?}\"}}}}", request.version())
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let own = HttpSettings {
        http2: true,
        ..settings()
    };
    let named = HashMap::from([("a".to_owned(), own)]);
    let http = HttpTransport::with_settings(settings(), named).unwrap();
    let mut other = request(&url, true);
    other.subgraph = "b".into();
    for (request, version) in [(request(&url, true), "HTTP/2.0"), (other, "HTTP/1.1")] {
        let answer = http.execute(request).await;
        assert_eq!(json_of(&answer), json!({ "data": { "a": version } }));
    }
}

#[tokio::test]
async fn a_breaker_leaves_a_failing_subgraph_alone() {
    let works = Arc::new(AtomicUsize::new(0));
    let state = works.clone();
    let (url, seen) = subgraph(move |_, _| {
        Act::Send(match state.load(Ordering::SeqCst) {
            0 => with_head("503 Busy", b"busy"),
            _ => with_head("200 OK", ANSWER.as_bytes()),
        })
    })
    .await;
    let start = Instant::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = seconds.clone();
    let http = transport(HttpSettings {
        breaker: Some(BreakerSettings::default()),
        ..settings()
    })
    .with_clock(Arc::new(move || {
        start + Duration::from_secs(clock.load(Ordering::SeqCst))
    }));
    let ask = async || http.execute(request(&url, true)).await;
    for _ in 0..10 {
        assert_eq!(ask().await.unwrap().error_status, Some(503));
    }
    for _ in 0..5 {
        assert_eq!(json_of(&ask().await), json!("SUBGRAPH_UNAVAILABLE"));
    }
    let refused = http.subscribe(request(&url, false)).await;
    assert!(matches!(refused, Err(TransportError::Unavailable { .. })));
    assert_eq!(seen.lock().unwrap().len(), 10);
    // A probe fails, then probes succeed.
    seconds.store(5, Ordering::SeqCst);
    assert_eq!(ask().await.unwrap().error_status, Some(503));
    assert_eq!(json_of(&ask().await), json!("SUBGRAPH_UNAVAILABLE"));
    works.store(1, Ordering::SeqCst);
    seconds.store(10, Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(json_of(&ask().await), json!({ "data": { "a": 1 } }));
    }
}
