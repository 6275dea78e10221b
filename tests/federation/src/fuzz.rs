//! Fuzz targets for SDL, query text and subgraph responses. No input may make these
//! panic, hang or use unbounded memory, and:
//!
//! - what composes loads as a supergraph, and its schema for clients prints to a text
//!   that parses to the same schema;
//! - a query that parses prints to a text that parses to the same query, and every fetch
//!   of its plan is valid in its subgraph's schema;
//! - whatever a subgraph responds, the client's response is JSON whose data has the types
//!   of the schema.
//!
//! `cargo fuzz` calls them from `fuzz/`; the test `fuzz` calls them on the
//! committed corpus and random mutations of it.

use std::sync::Arc;

use apollo_compiler::ast::Type;
use apollo_compiler::executable::{Field, Selection, SelectionSet};
use apollo_compiler::parser::Parser;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name, Schema};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use stoa_engine::transport::Events;
use stoa_engine::{Execution, SubgraphRequest, SubgraphResponse, Transport, TransportError};
use stoa_federation::plan::{self, Decisions, PlanError};
use stoa_federation::{QueryPlan, Subgraph, Supergraph, compose};

use crate::federation::Federation;

type Conforms = Result<(), String>;

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
pub fn graph() -> Federation {
    let subgraphs: Vec<_> = GRAPH
        .iter()
        .map(|(name, sdl)| ((*name).to_owned(), format!("{LINK}\n{sdl}"), Value::Null))
        .collect();
    Federation::compose(&subgraphs).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Parses text as a subgraph, composes it with another one, and loads it as a supergraph.
///
/// # Panics
/// If what was composed does not load, or prints to another schema.
pub fn sdl(text: &str) {
    if text.len() > 16_384 {
        return;
    }
    let fixed = Subgraph::parse("fixed", "", &format!("{LINK}\ntype Query {{ fixed: Int }}"));
    if let (Ok(subgraph), Ok(fixed)) = (Subgraph::parse("fuzzed", "", text), fixed)
        && let Ok(composed) = compose(&[subgraph, fixed])
    {
        let sdl = &composed.supergraph_sdl;
        let loaded = Supergraph::parse(sdl);
        let graph = loaded.unwrap_or_else(|errors| panic!("composed, but: {errors}\n{sdl}"));
        assert_prints_alike(graph.api());
    }
    if let Ok(graph) = Supergraph::parse(text) {
        assert_prints_alike(graph.api());
    }
}

fn assert_prints_alike(schema: &Valid<Schema>) {
    let printed = schema.to_string();
    let parsed = Schema::parse_and_validate(&printed, "printed.graphql");
    let parsed = parsed.unwrap_or_else(|invalid| panic!("{}\n{printed}", invalid.errors));
    assert_eq!(parsed.to_string(), printed);
}

/// Plans a client's query: the number of fetches of each operation, or why it has no
/// plan; empty if the query is invalid.
///
/// # Panics
/// If it prints to another query, or a fetch is invalid in its subgraph.
pub fn query(federation: &Federation, text: &str) -> Vec<Result<usize, PlanError>> {
    let graph = &*federation.graph;
    let mut parser = Parser::new().token_limit(TOKENS).recursion_limit(RECURSION);
    let Ok(document) = parser.parse_ast(text, "query") else {
        return Vec::new();
    };
    let printed = document.to_string();
    match Parser::new().parse_ast(&printed, "printed") {
        Ok(again) => assert_eq!(again.to_string(), printed, "it prints to another query"),
        Err(invalid) => panic!("it prints to an invalid query: {}", invalid.errors),
    }
    let Ok(document) = document.to_executable_validate(graph.api()) else {
        return Vec::new();
    };
    let planned = |operation| {
        let plan = plan::plan(graph, &document, operation, &Decisions::default())?;
        assert_fetches_are_valid(federation, &plan);
        Ok(plan.fetches.len())
    };
    document
        .operations
        .iter()
        .map(|operation| planned(operation))
        .collect()
}

fn assert_fetches_are_valid(federation: &Federation, plan: &QueryPlan) {
    for fetch in &plan.fetches {
        let name = &federation.graph.subgraph(fetch.subgraph).name;
        let schema = federation.subgraphs[&**name].schema();
        let valid = ExecutableDocument::parse_and_validate(schema, &*fetch.text, "fetch");
        if let Err(invalid) = valid {
            panic!("a fetch from {name}: {}\n{}", invalid.errors, fetch.text);
        }
    }
}

/// A client's query and its plan, whose fetches get fuzzed responses.
pub struct Answered {
    document: Valid<ExecutableDocument>,
    plan: Arc<QueryPlan>,
}

/// The query whose fetches get fuzzed responses.
///
/// # Panics
/// If it is invalid.
pub fn answered(graph: &Supergraph) -> Answered {
    let query = "{ user(id: 1) { id name friends { id posts { id title size } kind } } search { __typename ... on Post { title } ... on User { best { id title } } } }";
    let document = ExecutableDocument::parse_and_validate(graph.api(), query, "q")
        .unwrap_or_else(|invalid| panic!("{}", invalid.errors));
    let operation = document.operations.iter().next();
    let plan = operation.map(|operation| {
        plan::plan(graph, &document, operation, &Decisions::default())
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let plan = Arc::new(plan.unwrap_or_else(|| panic!("no operation")));
    Answered { document, plan }
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
/// If the client's response is not JSON, or its data not of the schema's types.
pub async fn answer(graph: &Arc<Supergraph>, query: &Answered, bytes: &[u8]) {
    let execution = Execution {
        graph: graph.clone(),
        plan: query.plan.clone(),
        transport: Arc::new(FixedResponse(Bytes::copy_from_slice(bytes))),
        variables: Arc::default(),
        introspection: Arc::default(),
        headers: Arc::new(|| Arc::from(vec![])),
    };
    let text = stoa_engine::execute(&execution).await.to_json();
    let response: Value = serde_json::from_slice(&text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&text);
        panic!("the response is not JSON: {error}: {text}")
    });
    let errors = response["errors"].as_array();
    let described = |error: &Value| error["message"].is_string();
    assert!(errors.is_none_or(|errors| errors.iter().all(described)));
    match response.get("data") {
        None | Some(Value::Null) => assert!(errors.is_some_and(|errors| !errors.is_empty())),
        Some(data) => {
            for operation in query.document.operations.iter() {
                let selections = &operation.selection_set;
                conforms_to(graph, selections, data)
                    .unwrap_or_else(|problem| panic!("{problem} in {response}"));
            }
        }
    }
}

/// Whether an object has the fields of the selection that apply to its type, each of its
/// type. Written for the query above: no fragment is named, and no field is merged.
fn conforms_to(graph: &Supergraph, selections: &SelectionSet, object: &Value) -> Conforms {
    let object = object.as_object().ok_or("no object")?;
    for selection in &selections.selections {
        match selection {
            Selection::Field(field) => {
                let key = field.response_key().as_str();
                let value = object.get(key).ok_or_else(|| format!("{key} is missing"))?;
                value_conforms_to(graph, field, field.ty(), value)
                    .map_err(|problem| format!("{key}: {problem}"))?;
            }
            Selection::InlineFragment(fragment) => {
                let condition = fragment.type_condition.as_ref().map(Name::as_str);
                if condition == object.get("__typename").and_then(Value::as_str) {
                    conforms_to(
                        graph,
                        &fragment.selection_set,
                        &Value::Object(object.clone()),
                    )?;
                }
            }
            Selection::FragmentSpread(spread) => return Err(spread.fragment_name.to_string()),
        }
    }
    Ok(())
}

fn value_conforms_to(graph: &Supergraph, field: &Field, ty: &Type, value: &Value) -> Conforms {
    if value.is_null() {
        return match ty.is_non_null() {
            true => Err("null".to_owned()),
            false => Ok(()),
        };
    }
    if ty.is_list() {
        let items = value.as_array().ok_or("no list")?;
        return items
            .iter()
            .try_for_each(|item| value_conforms_to(graph, field, ty.item_type(), item));
    }
    let text = value.as_str();
    let fits = match ty.inner_named_type().as_str() {
        "Int" => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        "String" | "ID" => text.is_some(),
        other => match graph.api().types.get(other) {
            Some(ExtendedType::Enum(kind)) => {
                text.is_some_and(|text| kind.values.contains_key(text))
            }
            _ => return conforms_to(graph, &field.selection_set, value),
        },
    };
    match fits {
        true => Ok(()),
        false => Err(format!("{value} is no {ty}")),
    }
}
