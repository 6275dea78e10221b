//! A subscription can outlast a signed identity, but not its access token.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use futures_util::StreamExt;
use serde_json::{Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{SubgraphRequest, SubgraphResponse, Transport, TransportError};
use stoa_federation::{Subgraph, Supergraph, compose};
use stoa_router::Config;
use stoa_router::auth::Principal;
use stoa_router::operation::{Client, GraphqlRequest};
use stoa_router::pipeline::Pipeline;
use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_runtime::identity::{Caller, IdentityKey, Role};

const LINK: &str =
    r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key"])"#;
const TICKS: &str = "type Query { a: Int } type Subscription { tick: Thing } type Thing @key(fields: \"id\") { id: ID! }";
const THINGS: &str = "type Thing @key(fields: \"id\") { id: ID! who: String }";
const START: Micros = 1_800_000_000_000_000;

/// Sends an event every fifty seconds of the manual clock; `who` is the caller.
struct FakeTransport {
    key: IdentityKey,
    clock: Clock,
    silent: bool,
}

#[async_trait]
impl Transport for FakeTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let who = match self.key.verify(&request.headers) {
            Ok(Caller::User { id, .. }) => id.to_string(),
            other => format!("{other:?}"),
        };
        Ok(SubgraphResponse::from_json(
            &json!({ "data": { "_entities": [{ "who": who }] } }),
        ))
    }

    async fn subscribe(&self, _request: SubgraphRequest) -> Result<Events, TransportError> {
        if self.silent {
            return Ok(futures_util::stream::pending().boxed());
        }
        let clock = self.clock.clone();
        Ok(futures_util::stream::iter(0..5)
            .map(move |_| {
                clock.advance(Duration::from_secs(50));
                Ok(SubgraphResponse::from_json(
                    &json!({ "data": { "tick": { "id": "1" } } }),
                ))
            })
            .boxed())
    }
}

fn setup(silent: bool) -> (Pipeline, Clock) {
    let parse = |name: &str, sdl: &str| {
        Subgraph::parse(name, "http://x", &format!("{LINK}\n{sdl}")).unwrap()
    };
    let composed = compose(&[parse("ticks", TICKS), parse("things", THINGS)]).unwrap();
    let graph = Arc::new(Supergraph::parse(&composed.supergraph_sdl).unwrap());
    let clock = Clock::manual(START);
    let key = IdentityKey::new("a secret of more than thirty-two bytes", clock.clone());
    let transport = Arc::new(FakeTransport {
        key: key.clone(),
        clock: clock.clone(),
        silent,
    });
    let pipeline = Pipeline::new(
        graph,
        transport,
        Some(key),
        Config::default(),
        clock.clone(),
    );
    (pipeline, clock)
}

fn client(expires_in: Duration) -> (Client, String) {
    let id = uuid::Uuid::now_v7().to_string();
    let client = Client {
        principal: Principal {
            caller: Caller::User {
                id: id.clone(),
                role: Role::Customer,
            },
            expires_at: Some(START + micros(expires_in)),
            grants: None,
        },
        correlation_id: "test".into(),
        headers: Arc::new(HeaderMap::new()),
        last_event_id: None,
    };
    (client, id.to_string())
}

fn request() -> GraphqlRequest {
    GraphqlRequest {
        query: "subscription { tick { who } }".into(),
        ..GraphqlRequest::default()
    }
}

#[tokio::test]
async fn each_event_is_resolved_with_a_fresh_identity() {
    let (pipeline, _) = setup(false);
    let (client, id) = client(Duration::from_secs(900));
    let prepared = pipeline.prepare(&request()).unwrap();
    let events: Vec<Value> = pipeline
        .subscribe(&prepared, &request(), &client)
        .await
        .unwrap_or_else(|_| panic!("it starts"))
        .map(|event| serde_json::from_slice(&event.to_json()).unwrap())
        .collect()
        .await;
    assert_eq!(
        events,
        vec![json!({ "data": { "tick": { "who": id } } }); 5]
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_subscription_ends_with_its_token() {
    let (pipeline, _) = setup(true);
    let (client, _) = client(Duration::from_secs(900));
    let prepared = pipeline.prepare(&request()).unwrap();
    let began = tokio::time::Instant::now();
    let mut events = pipeline
        .subscribe(&prepared, &request(), &client)
        .await
        .unwrap_or_else(|_| panic!("it starts"));
    let last = events.next().await.unwrap();
    assert_eq!(last.errors[0].code(), Some("TOKEN_EXPIRED"));
    assert!(events.next().await.is_none(), "and is then complete");
    assert_eq!(began.elapsed().as_secs(), 900);
}

#[tokio::test]
async fn nothing_starts_with_a_token_that_has_ended() {
    let (pipeline, clock) = setup(true);
    let (client, _) = client(Duration::from_secs(900));
    clock.advance(Duration::from_secs(900));
    let prepared = pipeline.prepare(&request()).unwrap();
    let refused = pipeline.subscribe(&prepared, &request(), &client).await;
    assert_eq!(
        refused.err().unwrap().errors[0].code(),
        Some("TOKEN_EXPIRED")
    );
    let query = GraphqlRequest {
        query: "{ a }".into(),
        ..GraphqlRequest::default()
    };
    let prepared = pipeline.prepare(&query).unwrap();
    let answer = pipeline.execute(&prepared, &query, &client).await;
    assert_eq!(answer.errors[0].code(), Some("TOKEN_EXPIRED"));
}
