//! Fuzz targets for SDL, query text and subgraph responses. No input may make these
//! panic, hang or use unbounded memory.
//!
//! `cargo fuzz` calls them from `fuzz/`; the test `fuzz` calls them on the
//! committed corpus and random mutations of it.

use std::sync::Arc;

use apollo_compiler::parser::Parser;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;
use stoa_engine::transport::Events;
use stoa_engine::{Execution, SubgraphRequest, SubgraphResponse, Transport, TransportError};
use stoa_federation::plan::{self, Decisions, PlanError};
use stoa_federation::{QueryPlan, Subgraph, Supergraph, compose};

/// A loaded graph.
pub type Graph = Supergraph;

/// The router's parser limits.
const TOKENS: usize = 5_000;
const RECURSION: usize = 200;

const GRAPH: &[(&str, &str)] = &[
    (
        "a",
        "type Query { user(id: ID): User search: [Hit!] } type User @key(fields: \"id\") { id: ID! name: String friends: [User!] } union Hit = User | Post type Post @key(fields: \"id\") { id: ID! size: Int } enum Kind { X Y }",
    ),
    (
        "b",
        "type User @key(fields: \"id\") { id: ID! posts(first: Int): [Post!]! best: Post kind: Kind } type Post @key(fields: \"id\") { id: ID! title: String! } enum Kind { X Y }",
    ),
];

const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key", "@shareable", "@external", "@requires", "@provides", "@override", "@inaccessible", "@interfaceObject"])"#;

/// The graph for fuzzed queries and responses.
///
/// # Panics
/// If it does not compose.
pub fn graph() -> Supergraph {
    let parsed: Vec<Subgraph> = GRAPH
        .iter()
        .map(|(name, sdl)| Subgraph::parse(name, "", &format!("{LINK}\n{sdl}")))
        .collect::<Result<_, _>>()
        .unwrap_or_else(|errors| panic!("{errors}"));
    let composed = compose(&parsed).unwrap_or_else(|errors| panic!("{errors}"));
    Supergraph::parse(&composed.supergraph_sdl).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Parses text as a subgraph, composes it with another one, and loads it as a supergraph.
pub fn sdl(text: &str) {
    if text.len() > 16_384 {
        return;
    }
    let fixed = Subgraph::parse("fixed", "", &format!("{LINK}\ntype Query {{ fixed: Int }}"));
    if let (Ok(subgraph), Ok(fixed)) = (Subgraph::parse("fuzzed", "", text), fixed)
        && let Ok(composed) = compose(&[subgraph, fixed])
    {
        // A composed supergraph loads, or is rejected with an error; it must not panic.
        let _ = Supergraph::parse(&composed.supergraph_sdl);
    }
    let _ = Supergraph::parse(text);
}

/// Plans a client's query: the number of fetches of each operation, or why it has no
/// plan; empty if the query is invalid.
pub fn query(graph: &Supergraph, text: &str) -> Vec<Result<usize, PlanError>> {
    let mut parser = Parser::new().token_limit(TOKENS).recursion_limit(RECURSION);
    let Ok(document) = parser.parse_ast(text, "query") else {
        return Vec::new();
    };
    let Ok(document) = document.to_executable_validate(graph.api()) else {
        return Vec::new();
    };
    let planned = |operation| {
        let plan = plan::plan(graph, &document, operation, &Decisions::default())?;
        Ok(plan.fetches.len())
    };
    document
        .operations
        .iter()
        .map(|operation| planned(operation))
        .collect()
}

/// The plan whose fetches get fuzzed responses.
///
/// # Panics
/// If its query is invalid.
pub fn answered_plan(graph: &Supergraph) -> Arc<QueryPlan> {
    let query = "{ user(id: 1) { id name friends { id posts { id title size } kind } } search { __typename ... on Post { title } ... on User { best { id title } } } }";
    let document = apollo_compiler::ExecutableDocument::parse_and_validate(graph.api(), query, "q")
        .unwrap_or_else(|invalid| panic!("{}", invalid.errors));
    let operation = document.operations.iter().next();
    let plan = operation.map(|operation| {
        plan::plan(graph, &document, operation, &Decisions::default())
            .unwrap_or_else(|error| panic!("{error}"))
    });
    Arc::new(plan.unwrap_or_else(|| panic!("no operation")))
}

struct FixedResponse(Bytes);

#[async_trait]
impl Transport for FixedResponse {
    async fn execute(&self, _request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        Ok(SubgraphResponse {
            body: self.0.clone(),
            ..SubgraphResponse::default()
        })
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        Err(TransportError::Unreachable {
            subgraph: request.subgraph,
            cause: "no events here".to_owned(),
        })
    }
}

/// Executes the plan with the same fuzzed response from every subgraph.
///
/// # Panics
/// If the client's response is not JSON.
pub async fn answer(graph: &Arc<Supergraph>, plan: &Arc<QueryPlan>, bytes: &[u8]) {
    let execution = Execution {
        graph: graph.clone(),
        plan: plan.clone(),
        transport: Arc::new(FixedResponse(Bytes::copy_from_slice(bytes))),
        variables: Arc::new(Map::new()),
        introspection: Arc::default(),
        headers: Arc::new(|| Arc::from(vec![])),
    };
    let text = stoa_engine::execute(&execution).await.to_json();
    let parsed = serde_json::from_slice::<serde_json::Value>(&text);
    assert!(
        parsed.is_ok(),
        "the answer is not JSON: {}",
        String::from_utf8_lossy(&text)
    );
}
