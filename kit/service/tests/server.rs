//! What a subgraph's HTTP surface takes and refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::{Caller, IDENTITY_HEADER, IdentityKey, Role};
use stoa_service::context::CallContext;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::peer::{PeerError, PeerHandler};
use stoa_service::server::router;
use stoa_service::service::Service;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const SECRET: &str = "a secret of at least thirty-two characters";
const MEGABYTE: usize = 1024 * 1024;

struct Query;

#[Object]
impl Query {
    async fn length(&self, text: String) -> usize {
        text.len()
    }
}

struct Length;

#[async_trait]
impl PeerHandler for Length {
    async fn call(
        &self,
        _context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        match (method, message.as_str()) {
            ("length", Some(text)) => Ok(json!(text.len())),
            ("length", None) => Err(PeerError::BadMessage("not a text".to_owned())),
            ("broken", _) => Err(PeerError::Unreachable {
                service: "products".to_owned(),
                cause: "an internal address".to_owned(),
            }),
            _ => Err(PeerError::UnknownMethod(method.to_owned())),
        }
    }
}

struct Server {
    router: Router,
    key: IdentityKey,
    _folder: TempDir,
}

impl Server {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let service = Service {
            name: "test",
            graphql: Service::graphql(Schema::new(Query, EmptyMutation, EmptySubscription)),
            peer: Arc::new(Length),
            database: Database::connect(&url, &PoolOptions::default())
                .await
                .unwrap(),
            routes: Router::new(),
            tasks: Vec::new(),
            checks: Vec::new(),
        };
        let key = IdentityKey::new(SECRET, Clock::system());
        Self {
            router: router(&service, key.clone(), CancellationToken::new()),
            key,
            _folder: folder,
        }
    }

    /// Returns the status and the body, which must be JSON or empty.
    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), MEGABYTE).await.unwrap();
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).unwrap(),
        };
        (status, body)
    }

    async fn graphql(&self, content_type: &str, body: String) -> (StatusCode, Value) {
        let request = Request::post("/graphql").header(header::CONTENT_TYPE, content_type);
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn peer(&self, caller: &Caller, length: usize) -> (StatusCode, Value) {
        let message = json!("x".repeat(length));
        self.peer_call(caller, "length", &message).await
    }

    async fn peer_call(
        &self,
        caller: &Caller,
        method: &str,
        message: &Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::post(format!("/internal/peer/{method}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(identity) = self.key.sign(caller) {
            request = request.header(IDENTITY_HEADER, identity);
        }
        let body = message.to_string();
        self.send(request.body(body.into()).unwrap()).await
    }
}

fn service() -> Caller {
    Caller::Service {
        name: "orders".to_owned(),
    }
}

fn code(body: &Value) -> &Value {
    &body["errors"][0]["extensions"]["code"]
}

fn with_length(length: usize) -> String {
    let variables = json!({ "text": "x".repeat(length) });
    json!({ "query": "query($text: String!) { length(text: $text) }", "variables": variables })
        .to_string()
}

#[tokio::test]
async fn a_query_is_a_json_object_in_a_post() {
    let server = Server::new().await;
    for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
        let (status, body) = server.graphql(content_type, with_length(3)).await;
        assert_eq!(
            (status, body),
            (StatusCode::OK, json!({ "data": { "length": 3 } }))
        );
    }
    let get = Request::get("/graphql?query=%7B__typename%7D");
    let (status, _) = server.send(get.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn what_is_no_single_json_request_is_refused() {
    let server = Server::new().await;
    let batch = format!("[{},{}]", with_length(1), with_length(2));
    let cases = [
        ("application/json", batch, StatusCode::BAD_REQUEST),
        ("application/json", "{".to_owned(), StatusCode::BAD_REQUEST),
        (
            "multipart/form-data; boundary=x",
            "--x--".to_owned(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            "text/plain",
            with_length(1),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ];
    for (content_type, body, expected) in cases {
        let (status, refusal) = server.graphql(content_type, body.clone()).await;
        assert_eq!(status, expected, "{body}");
        assert_eq!(code(&refusal), "BAD_REQUEST", "{refusal}");
    }
}

#[tokio::test]
async fn bodies_are_limited_to_16_megabytes() {
    let server = Server::new().await;
    let (status, _) = server
        .graphql("application/json", with_length(15 * MEGABYTE))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, refusal) = server
        .graphql("application/json", with_length(17 * MEGABYTE))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{refusal}");

    let (status, body) = server.peer(&service(), 15 * MEGABYTE).await;
    assert_eq!((status, body), (StatusCode::OK, json!(15 * MEGABYTE)));
    let (status, refusal) = server.peer(&service(), 17 * MEGABYTE).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{refusal}");
}

#[tokio::test]
async fn only_services_make_peer_calls() {
    let server = Server::new().await;
    let admin = Caller::User {
        id: "a user's id".to_owned(),
        role: Role::Admin,
    };
    for caller in [Caller::Anonymous, admin] {
        let (status, refusal) = server.peer(&caller, 1).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{caller:?}");
        assert_eq!(code(&refusal), "FORBIDDEN");
    }
}

#[tokio::test]
async fn a_peer_call_that_fails_has_its_status_and_code() {
    let server = Server::new().await;
    let cases = [
        ("unknown", json!("x"), StatusCode::NOT_FOUND, "NOT_FOUND"),
        ("length", json!(7), StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        (
            "broken",
            json!("x"),
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
        ),
    ];
    for (method, message, expected, error_code) in cases {
        let (status, refusal) = server.peer_call(&service(), method, &message).await;
        assert_eq!(status, expected, "{refusal}");
        assert_eq!(code(&refusal), error_code, "{refusal}");
        let shown = refusal.to_string();
        assert!(!shown.contains("an internal address"), "{shown}");
    }
}

#[tokio::test]
async fn a_forged_identity_is_refused_before_the_body_is_read() {
    let server = Server::new().await;
    let forged = IdentityKey::new("another secret of thirty-two characters", Clock::system());
    for path in ["/graphql", "/internal/peer/length"] {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(IDENTITY_HEADER, forged.sign(&service()).unwrap());
        let body = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, String>>());
        let (status, refusal) = server.send(request.body(body).unwrap()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(code(&refusal), "UNAUTHENTICATED");
    }
}
