//! The cost of an operation: parse, validate, plan (cold), execute (hot).
//!
//! `cargo bench -p stoa-federation-tests` prints criterion's figures, and then
//! the hot path's time against a baseline of the same run: parsing the same subgraph
//! responses and serialising the client's response with serde_json.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apollo_compiler::ExecutableDocument;
use async_trait::async_trait;
use bytes::Bytes;
use criterion::Criterion;
use serde_json::{Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{
    Execution, SubgraphRequest, SubgraphResponse, Transport, TransportError, execute,
};
use stoa_federation::plan::{self, Decisions};
use stoa_federation::{Supergraph, apollo_compiler};
use stoa_federation_tests::Federation;

const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@external", "@requires", "@provides", "@shareable"])"#;
const PRODUCTS: &str = "type Query { topProducts: [Product!]! } type Product @key(fields: \"upc\") { upc: ID! name: String! price: Int weight: Int description: String }";
const INVENTORY: &str = "type Product @key(fields: \"upc\") { upc: ID! price: Int @external weight: Int @external inStock: Boolean! shippingEstimate: String @requires(fields: \"price weight\") }";
const REVIEWS: &str = "type Product @key(fields: \"upc\") { upc: ID! reviews: [Review!]! } type Review @key(fields: \"id\") { id: ID! body: String! stars: Int! author: User! product: Product! } type User @key(fields: \"id\") { id: ID! reviews: [Review!]! }";
const ACCOUNTS: &str =
    "type User @key(fields: \"id\") { id: ID! name: String! username: String! birthday: Int }";
const QUERY: &str = "query Shop { topProducts { upc name price description inStock shippingEstimate reviews { id body stars author { id name username birthday } product { upc name inStock } } } }";

const PRODUCT_COUNT: usize = 50;
const REVIEWS_EACH: usize = 5;

fn federation() -> Federation {
    let products: Vec<Value> = (0..PRODUCT_COUNT)
        .map(|n| json!({ "upc": format!("upc-{n}"), "name": format!("Product {n}"), "price": n * 10, "weight": n, "description": "A thing of beauty, said to be a joy forever. ".repeat(4) }))
        .collect();
    let top: Vec<Value> = products
        .iter()
        .map(|p| json!({ "upc": p["upc"] }))
        .collect();
    let stock: Vec<Value> = products
        .iter()
        .map(|p| json!({ "upc": p["upc"], "inStock": true, "shippingEstimate": "={price} by {weight}" }))
        .collect();
    let review = |p: usize, r: usize| {
        json!({ "id": format!("r-{p}-{r}"), "body": "Exactly what it says on the box; would buy again. ".repeat(2),
            "stars": r, "author": { "id": format!("u{}", (p * 7 + r) % 40) }, "product": { "upc": format!("upc-{p}") } })
    };
    let reviewed: Vec<Value> = (0..PRODUCT_COUNT)
        .map(|p| {
            let reviews: Vec<_> = (0..REVIEWS_EACH).map(|r| review(p, r)).collect();
            json!({ "upc": format!("upc-{p}"), "reviews": reviews })
        })
        .collect();
    let users: Vec<Value> = (0..40)
        .map(|n| json!({ "id": format!("u{n}"), "name": format!("User {n}"), "username": format!("@user{n}"), "birthday": 1900 + n }))
        .collect();
    let part =
        |name: &str, sdl: &str, data: Value| (name.to_owned(), format!("{LINK}\n{sdl}"), data);
    Federation::compose(&[
        part(
            "products",
            PRODUCTS,
            json!({ "Query": { "topProducts": top }, "Product": products }),
        ),
        part("inventory", INVENTORY, json!({ "Product": stock })),
        part("reviews", REVIEWS, json!({ "Product": reviewed })),
        part("accounts", ACCOUNTS, json!({ "User": users })),
    ])
    .unwrap_or_else(|error| panic!("{error}"))
}

/// Replays recorded responses.
#[derive(Default)]
struct ReplayTransport {
    source: Option<Arc<dyn Transport>>,
    answers: Mutex<HashMap<(String, Vec<u8>), Bytes>>,
}

#[async_trait]
impl Transport for ReplayTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let key = (request.text.to_string(), request.variables.clone());
        let known = self.answers.lock().unwrap().get(&key).cloned();
        let body = match (known, &self.source) {
            (Some(body), _) => body,
            (None, Some(source)) => {
                let body = source.execute(request).await?.body;
                self.answers.lock().unwrap().insert(key, body.clone());
                body
            }
            (None, None) => panic!("not recorded"),
        };
        Ok(SubgraphResponse {
            body,
            ..SubgraphResponse::default()
        })
    }

    async fn subscribe(&self, _request: SubgraphRequest) -> Result<Events, TransportError> {
        panic!("nothing subscribes here")
    }
}

fn planned(graph: &Supergraph, query: &str) -> plan::QueryPlan {
    let document = ExecutableDocument::parse_and_validate(graph.api(), query, "q").unwrap();
    let operation = document.operations.iter().next().unwrap();
    plan::plan(graph, &document, operation, &Decisions::default()).unwrap()
}

fn main() {
    let federation = federation();
    let graph = federation.graph.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    // Replayed responses keep the cost of the mock subgraphs out of the measurement.
    let recorded = Arc::new(ReplayTransport {
        source: Some(federation.in_process()),
        ..ReplayTransport::default()
    });
    let execution = Execution {
        graph: graph.clone(),
        plan: Arc::new(planned(&graph, QUERY)),
        transport: recorded.clone(),
        variables: Arc::default(),
        introspection: Arc::default(),
        headers: Arc::new(|| Arc::from(vec![])),
    };
    let answer = runtime.block_on(execute(&execution)).to_json();
    let bodies: Vec<Bytes> = recorded.answers.lock().unwrap().values().cloned().collect();
    let received: usize = bodies.iter().map(Bytes::len).sum();
    println!(
        "answer of {} bytes from {} fetches to 4 subgraphs, {received} bytes received",
        answer.len(),
        execution.plan.fetches.len(),
    );

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("parse", |b| {
        b.iter(|| apollo_compiler::ast::Document::parse(black_box(QUERY), "q").unwrap());
    });
    criterion.bench_function("parse and validate", |b| {
        b.iter(|| {
            ExecutableDocument::parse_and_validate(graph.api(), black_box(QUERY), "q").unwrap()
        });
    });
    let document = ExecutableDocument::parse_and_validate(graph.api(), QUERY, "q").unwrap();
    let operation = document.operations.iter().next().unwrap();
    criterion.bench_function("plan, cold", |b| {
        b.iter(|| plan::plan(&graph, &document, operation, &Decisions::default()).unwrap());
    });
    let shop = Supergraph::parse(include_str!("../../../schema/supergraph.graphql")).unwrap();
    let largest = include_str!("../../operations/my-shop.graphql");
    let shop_document = ExecutableDocument::parse_and_validate(shop.api(), largest, "q").unwrap();
    let shop_operation = shop_document.operations.iter().next().unwrap();
    criterion.bench_function("plan, cold, the shop's largest query", |b| {
        b.iter(|| {
            plan::plan(&shop, &shop_document, shop_operation, &Decisions::default()).unwrap()
        });
    });
    criterion.bench_function("execute, hot", |b| {
        b.iter(|| runtime.block_on(execute(&execution)).to_json());
    });
    let parsed: Value = serde_json::from_slice(&answer).unwrap();
    let naive = || {
        for body in &bodies {
            black_box(serde_json::from_slice::<Value>(body).unwrap());
        }
        black_box(serde_json::to_vec(&parsed).unwrap());
    };
    criterion.bench_function("baseline: serde_json reads and writes", |b| b.iter(naive));
    criterion.final_summary();

    let hot = time(|| {
        black_box(runtime.block_on(execute(&execution)).to_json());
    });
    let baseline = time(naive);
    println!(
        "execute, hot: {hot:.1?}; serde_json alone: {baseline:.1?}; ratio {:.2}",
        hot.as_secs_f64() / baseline.as_secs_f64()
    );
}

/// The mean duration of a round, over one second.
fn time(mut round: impl FnMut()) -> Duration {
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(1) {
        round();
        rounds += 1;
    }
    started.elapsed() / rounds
}
