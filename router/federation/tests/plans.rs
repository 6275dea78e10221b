//! Snapshot tests of plans over a small graph.
//! `INSTA_UPDATE=always cargo test -p stoa-federation` rewrites them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use apollo_compiler::ExecutableDocument;
use apollo_compiler::Name;
use insta::assert_snapshot;
use stoa_federation::{Subgraph, Supergraph, apollo_compiler, compose, operation, plan};

const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key", "@shareable", "@external", "@requires", "@provides", "@inaccessible"])"#;

const ACCOUNTS: &str = r#"
directive @trace(v: String) repeatable on FIELD
directive @op on QUERY
type Query { me: User user(id: ID!): User }
type Mutation { rename(name: String!): User }
type User @key(fields: "id") @key(fields: "email") { id: ID! email: String! name: String @shareable secret: String @inaccessible }
"#;
const REVIEWS: &str = r#"
directive @trace(v: String) repeatable on FIELD
directive @op on QUERY
type Query { latest(first: Int = 3): [Review!]! feed: [Media!]! }
type Mutation { review(body: String!): Review }
type Subscription { reviewed: Review! }
type Review @key(fields: "id") { id: ID! body: String author: User @provides(fields: "name") product: Product }
type User @key(fields: "id") { id: ID! name: String @external reviews: [Review!]! }
type Product @key(fields: "upc region { code }") { upc: ID! region: Region! reviews: [Review!]! }
type Region @shareable { code: String! }
interface Media { id: ID! }
type Book implements Media @key(fields: "id") { id: ID! pages: Int }
type Film implements Media @key(fields: "id") { id: ID! minutes: Int }
"#;
const PRODUCTS: &str = r#"
directive @trace(v: String) repeatable on FIELD
directive @op on QUERY
type Query { product(upc: ID!): Product }
type Product @key(fields: "upc region { code }") @key(fields: "upc", resolvable: false) { upc: ID! region: Region! name: String weight: Int }
type Region @shareable { code: String! }
type Book @key(fields: "id") { id: ID! price: Int @shareable }
type Film @key(fields: "id") { id: ID! price: Int @shareable }
"#;
const SHIPPING: &str = r#"
directive @trace(v: String) repeatable on FIELD
directive @op on QUERY
type Product @key(fields: "upc region { code }") { upc: ID! region: Region! weight: Int @external estimate(zone: String): Int @requires(fields: "weight") }
type Region @shareable { code: String! }
"#;

fn supergraph() -> Supergraph {
    let parse = |name: &str, sdl: &str| {
        Subgraph::parse(name, &format!("http://{name}"), &format!("{LINK}\n{sdl}")).unwrap()
    };
    let composed = compose(&[
        parse("accounts", ACCOUNTS),
        parse("reviews", REVIEWS),
        parse("products", PRODUCTS),
        parse("shipping", SHIPPING),
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    Supergraph::parse(&composed.supergraph_sdl).unwrap_or_else(|errors| panic!("{errors}"))
}

fn planned_with(query: &str, conditions: &[(&str, bool)]) -> String {
    let graph = supergraph();
    let document = ExecutableDocument::parse_and_validate(graph.api(), query, "query.graphql")
        .unwrap_or_else(|invalid| panic!("{}", invalid.errors));
    let operation = document.operations.get(None).unwrap();
    let conditions: BTreeMap<_, _> = conditions
        .iter()
        .map(|(name, value)| (Name::new(name).unwrap(), *value))
        .collect();
    assert_eq!(
        operation::condition_variables(&document, operation),
        conditions.keys().cloned().collect()
    );
    let decisions = plan::Decisions {
        conditions,
        ..Default::default()
    };
    match plan::plan(&graph, &document, operation, &decisions) {
        Ok(plan) => plan.display(&graph).to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn planned(query: &str) -> String {
    planned_with(query, &[])
}

#[test]
fn one_subgraph() {
    assert_snapshot!(planned("{ me { id name } }"));
}

#[test]
fn roots_of_two_subgraphs_run_side_by_side() {
    assert_snapshot!(planned("{ me { name } latest { body } }"));
}

#[test]
fn through_entities_and_back() {
    assert_snapshot!(planned(
        "query Tour { me { name reviews { body product { name reviews { author { email } } } } } }"
    ));
}

#[test]
fn composite_key_and_requires() {
    assert_snapshot!(planned(
        "query Estimate($zone: String) { product(upc: 1) { name estimate(zone: $zone) } }"
    ));
}

#[test]
fn requires_from_a_third_subgraph() {
    assert_snapshot!(planned("{ latest { product { estimate } } }"));
}

#[test]
fn provided_fields_need_no_fetch() {
    assert_snapshot!(planned("{ latest { author { name } } }"));
}

#[test]
fn aliases_never_collide_with_keys() {
    assert_snapshot!(planned(
        "{ me { id: name _stoa_id: name __typename: name reviews { id product { upc: name region: name } } } }"
    ));
}

#[test]
fn implementations_share_one_entity_fetch() {
    assert_snapshot!(planned(
        "{ feed { __typename id ... on Book { pages price } ... on Film { price } } }"
    ));
}

#[test]
fn mutations_keep_their_order() {
    assert_snapshot!(planned(
        r#"mutation { a: rename(name: "a") { id } b: review(body: "b") { author { email } } c: rename(name: "c") { name } d: rename(name: "d") { name } }"#
    ));
}

#[test]
fn subscription_with_entities() {
    assert_snapshot!(planned(
        "subscription { reviewed { body author { email } product { name } } }"
    ));
}

#[test]
fn conditions_are_decided_in_the_plan() {
    let query = "query ($deep: Boolean!) { me { name reviews @include(if: $deep) { body } email @skip(if: $deep) } }";
    assert_snapshot!("deep", planned_with(query, &[("deep", true)]));
    assert_snapshot!("flat", planned_with(query, &[("deep", false)]));
}

#[test]
fn fragments_that_explode_are_refused() {
    let mut query = "{ me { ...f0 } }".to_owned();
    for level in 0..20 {
        query.push_str(&format!(
            " fragment f{level} on User {{ reviews {{ a: author {{ ...f{n} }} b: author {{ ...f{n} }} }} }}",
            n = level + 1
        ));
    }
    query.push_str(" fragment f20 on User { id }");
    assert!(planned(&query).contains("too large"));
}

#[test]
fn the_public_schema_hides_what_is_inaccessible() {
    let api = supergraph().api().to_string();
    assert!(!api.contains("secret") && !api.contains("join__"), "{api}");
}

#[test]
fn composed_supergraph() {
    let sdl = [
        ("accounts", ACCOUNTS),
        ("shipping", SHIPPING),
        ("products", PRODUCTS),
    ]
    .map(|(name, sdl)| Subgraph::parse(name, "http://x", &format!("{LINK}\n{sdl}")).unwrap());
    assert_snapshot!(compose(&sdl).unwrap().supergraph_sdl);
}

#[test]
fn names_that_planning_adds_are_reserved() {
    let query = "query ($_stoa_after: ID!) { user(id: $_stoa_after) { name } }";
    assert!(planned(query).contains("reserved"), "{query}");
    // A client may use the name `representations` itself.
    assert_snapshot!(planned(
        "query ($representations: ID!) { user(id: $representations) { reviews { body } } }"
    ));
}

/// Composition rejects such a graph, but a file from another composer may have it.
#[test]
fn a_cycle_of_requires_is_refused() {
    let graph = Supergraph::parse(
        r#"
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION) { query: Query }
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE
directive @join__type(graph: join__Graph!, key: join__FieldSet) repeatable on OBJECT
directive @join__field(graph: join__Graph, requires: join__FieldSet, external: Boolean) repeatable on FIELD_DEFINITION
scalar join__FieldSet
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
enum join__Graph { A @join__graph(name: "a", url: "") B @join__graph(name: "b", url: "") }
type Query @join__type(graph: A) @join__type(graph: B) { p: P @join__field(graph: A) }
type P @join__type(graph: A, key: "id") @join__type(graph: B, key: "id") {
  id: ID!
  x: Int @join__field(graph: A, requires: "y") @join__field(graph: B, external: true)
  y: Int @join__field(graph: A, external: true) @join__field(graph: B, requires: "x")
}
"#,
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let document =
        ExecutableDocument::parse_and_validate(graph.api(), "{ p { x } }", "query.graphql")
            .unwrap();
    let operation = document.operations.get(None).unwrap();
    let planned = plan::plan(&graph, &document, operation, &Default::default());
    assert!(matches!(
        planned,
        Err(plan::PlanError::RequiresCycle { .. })
    ));
}

#[test]
fn executable_directives_go_to_the_subgraphs_that_resolve_the_field() {
    let query = r#"query O($v: String) @op { me @trace(v: $v) { name nick: name @trace reviews @trace(v: "x") @trace(v: "y") { body } } }"#;
    assert_snapshot!(planned(query), @r#"
    #0 accounts
        me @trace(v: $v) {
          name
          _stoa_name_1: name @trace
          id
        }
    #1 reviews after #0
      me of User by id
        _entities(representations: $_stoa_representations) {
          ... on User {
            reviews @trace(v: "x") @trace(v: "y") {
              body
            }
          }
        }
    "#);
    // The operation's own directives go to operations of the same type.
    let texts = |query: &str| {
        let graph = supergraph();
        let document = ExecutableDocument::parse_and_validate(graph.api(), query, "q").unwrap();
        let operation = document.operations.get(None).unwrap();
        let plan = plan::plan(&graph, &document, operation, &Default::default()).unwrap();
        let texts = plan.fetches.iter().map(|fetch| fetch.text.to_string());
        texts.collect::<Vec<_>>()
    };
    for text in texts(query) {
        assert!(text.contains(") @op{"), "{text}");
    }
    let mutation = r#"mutation { rename(name: "x") @trace { reviews { body } } }"#;
    assert!(texts(mutation)[0].contains(r#"rename(name:"x") @trace{"#));
}
