//! The committed SDL equals what the code serves, and query plans equal their
//! snapshots. `cargo xtask schema` regenerates the SDL;
//! `INSTA_UPDATE=always cargo test -p stoa-tests --test schema` the snapshots.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use stoa_federation::apollo_compiler::ExecutableDocument;
use stoa_federation::{CostFormula, Supergraph, plan};

fn committed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schema/{name}.graphql"));
    std::fs::read_to_string(&path).unwrap_or_default()
}

#[tokio::test]
async fn committed_sdl_is_generated_from_the_code() {
    let sdls = stoa::schema::service_sdls().await.unwrap();
    for (name, sdl) in &sdls {
        assert_eq!(
            committed(name.as_str()),
            *sdl,
            "schema/{}.graphql differs from the code: run `cargo xtask schema`",
            name.as_str()
        );
    }
    assert_eq!(
        committed("supergraph"),
        stoa::schema::supergraph(&sdls).unwrap(),
        "schema/supergraph.graphql differs from the code: run `cargo xtask schema`"
    );
}

fn planned(query: &str) -> String {
    let graph = Supergraph::parse(&committed("supergraph")).unwrap_or_else(|e| panic!("{e}"));
    let document = ExecutableDocument::parse_and_validate(graph.api(), query, "query.graphql")
        .unwrap_or_else(|invalid| panic!("{}", invalid.errors));
    let operation = document.operations.get(None).unwrap();
    let planned = plan::plan(&graph, &document, operation, &Default::default()).unwrap();
    planned.display(&graph).to_string()
}

#[test]
fn product_page() {
    insta::assert_snapshot!(planned(include_str!("../operations/product-page.graphql")));
}

#[test]
fn my_shop() {
    insta::assert_snapshot!(planned(include_str!("../operations/my-shop.graphql")));
}

#[test]
fn order_status() {
    insta::assert_snapshot!(planned(include_str!("../operations/order-status.graphql")));
}

#[test]
fn checkout() {
    insta::assert_snapshot!(planned(include_str!("../operations/checkout.graphql")));
}

/// All of our own operations cost at most a third of what anybody may ask for.
#[test]
fn our_operations_are_cheap() {
    let graph = Supergraph::parse(&committed("supergraph")).unwrap_or_else(|e| panic!("{e}"));
    let limits = stoa_router::CostLimits::default();
    for (name, query) in [
        (
            "product-page",
            include_str!("../operations/product-page.graphql"),
        ),
        ("my-shop", include_str!("../operations/my-shop.graphql")),
        (
            "order-status",
            include_str!("../operations/order-status.graphql"),
        ),
        ("checkout", include_str!("../operations/checkout.graphql")),
    ] {
        let document =
            ExecutableDocument::parse_and_validate(graph.api(), query, "q.graphql").unwrap();
        let operation = document.operations.get(None).unwrap();
        let formula = CostFormula::of(&graph, &document, operation);
        // Pages as large as they may be.
        let cost = formula.cost(&graph, limits.list_size, &|_| Some("100"));
        let cost = cost.unwrap();
        println!("{name}: {cost}");
        assert!(cost > 0 && cost <= limits.anonymous / 3, "{name}: {cost}");
    }
}
