//! Which fetches may be sent again when their response is lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use apollo_compiler::ExecutableDocument;
use stoa_federation::plan::Decisions;
use stoa_federation::{Subgraph, Supergraph, apollo_compiler, compose, plan};

const LINK: &str = r#"extend schema
  @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@shareable", "@composeDirective"])
  @link(url: "https://stoa.dev/specs/idempotent/v1.0", import: ["@idempotent"])
  @composeDirective(name: "@idempotent")
directive @idempotent(key: String!) on FIELD_DEFINITION
"#;
const A: &str = r#"
type Query { a: Int }
type Mutation {
  pay(amount: Int, idempotencyKey: ID!): Int @idempotent(key: "idempotencyKey")
  ship(key: ID): Int @idempotent(key: "key")
  wrong(key: ID!): Int @idempotent(key: "other")
  plain(idempotencyKey: ID!): Int
  shared(key: ID!): Int @shareable @idempotent(key: "key")
}
"#;
const B: &str = r#"
type Query { b: Int }
type Mutation {
  shared(key: ID!): Int @shareable
  other(key: ID!): Int @idempotent(key: "key")
}
"#;

/// Whether each fetch of the plan may be sent again.
fn repeatable(query: &str) -> Vec<bool> {
    let parse =
        |name: &str, sdl: &str| Subgraph::parse(name, "http://x", &format!("{LINK}{sdl}")).unwrap();
    let composed =
        compose(&[parse("a", A), parse("b", B)]).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(
        composed
            .supergraph_sdl
            .contains("@idempotent(key: \"idempotencyKey\")")
    );
    let graph = Supergraph::parse(&composed.supergraph_sdl).unwrap();
    // Clients see it, and may repeat as well.
    assert!(graph.api().directive_definitions.contains_key("idempotent"));
    let document = ExecutableDocument::parse_and_validate(graph.api(), query, "query").unwrap();
    let operation = document.operations.iter().next().unwrap();
    let plan = plan::plan(&graph, &document, operation, &Decisions::default()).unwrap();
    plan.fetches
        .iter()
        .map(|fetch| fetch.is_repeatable)
        .collect()
}

#[test]
fn queries_may_be_repeated_and_mutations_that_are_idempotent() {
    for (query, expected) in [
        ("{ a b }", vec![true, true]),
        ("mutation { pay(idempotencyKey: 1) }", vec![true]),
        ("mutation($k: ID!) { pay(idempotencyKey: $k) }", vec![true]),
        (
            "mutation { x: pay(idempotencyKey: 1) y: pay(idempotencyKey: 2) }",
            vec![true],
        ),
        (
            "mutation { pay(idempotencyKey: 1) other(key: 2) }",
            vec![true, true],
        ),
        // One that is not makes the whole request so.
        (
            "mutation { pay(idempotencyKey: 1) plain(idempotencyKey: 1) }",
            vec![false],
        ),
        (
            "mutation { plain(idempotencyKey: 1) other(key: 1) }",
            vec![false, true],
        ),
        // Without a key, or perhaps without.
        ("mutation { ship }", vec![false]),
        ("mutation { ship(key: null) }", vec![false]),
        ("mutation($k: ID) { ship(key: $k) }", vec![false]),
        ("mutation { ship(key: 1) }", vec![true]),
        // The key is no argument; another subgraph may not have declared it.
        ("mutation { wrong(key: 1) }", vec![false]),
        ("mutation { shared(key: 1) }", vec![false]),
    ] {
        assert_eq!(repeatable(query), expected, "{query}");
    }
}
