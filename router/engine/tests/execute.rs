//! Executes plans against subgraphs whose responses each test defines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use apollo_compiler::ExecutableDocument;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{
    Execution, SubgraphRequest, SubgraphResponse, Transport, TransportError, execute,
};
use stoa_federation::{Subgraph, Supergraph, apollo_compiler, compose, plan};

const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key", "@inaccessible"])"#;
const PRODUCTS: &str = r#"
type Query { top: [Product] product: Product! size: Size count: Int id: ID any: Any float: Float }
type Product @key(fields: "id") { id: ID! name: String! related: [Product!] }
enum Size { S M L @inaccessible }
scalar Any
"#;
const REVIEWS: &str = r#"
type Query { newest: Review }
interface Review { stars: Int! }
type Short implements Review { stars: Int! }
type Long implements Review { stars: Int! text: String }
type Product @key(fields: "id") { id: ID! reviews: [Review!] rating: Int! score: Int }
"#;

/// Returns the given responses of each subgraph in turn and records the requests.
#[derive(Default)]
struct FakeTransport {
    answers: Mutex<HashMap<String, Vec<Result<Value, TransportError>>>>,
    asked: Mutex<Vec<(String, Value)>>,
}

#[async_trait]
impl Transport for FakeTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let name = request.subgraph.to_string();
        let mut answers = self.answers.lock().unwrap();
        let queue = answers
            .get_mut(&name)
            .unwrap_or_else(|| panic!("{name} was not to be asked"));
        self.asked
            .lock()
            .unwrap()
            .push((name, serde_json::from_slice(&request.variables).unwrap()));
        queue
            .remove(0)
            .map(|answer| SubgraphResponse::from_json(&answer))
    }

    async fn subscribe(&self, _request: SubgraphRequest) -> Result<Events, TransportError> {
        panic!("nothing subscribes here")
    }
}

/// Runs a query; returns the response and the requests to the subgraphs.
async fn run(
    query: &str,
    products: Vec<Result<Value, TransportError>>,
    reviews: Vec<Result<Value, TransportError>>,
) -> (Value, Vec<(String, Value)>) {
    let parse = |name: &str, sdl: &str| {
        Subgraph::parse(name, "http://x", &format!("{LINK}\n{sdl}")).unwrap()
    };
    let composed = compose(&[parse("products", PRODUCTS), parse("reviews", REVIEWS)]);
    let graph = Supergraph::parse(&composed.unwrap().supergraph_sdl).unwrap();
    let document =
        ExecutableDocument::parse_and_validate(graph.api(), query, "query.graphql").unwrap();
    let operation = document.operations.get(None).unwrap();
    let planned = plan::plan(&graph, &document, operation, &Default::default()).unwrap();
    let played = Arc::new(FakeTransport::default());
    *played.answers.lock().unwrap() =
        HashMap::from([("products".into(), products), ("reviews".into(), reviews)]);
    let execution = Execution {
        graph: Arc::new(graph),
        plan: Arc::new(planned),
        transport: played.clone(),
        variables: Arc::default(),
        introspection: Arc::new(Map::new()),
        headers: Arc::new(|| Arc::from(vec![])),
    };
    let response = execute(&execution).await;
    let answers = played.answers.lock().unwrap();
    assert!(
        answers.values().all(Vec::is_empty),
        "every answer was asked for"
    );
    let asked = played.asked.lock().unwrap().clone();
    (serde_json::from_slice(&response.to_json()).unwrap(), asked)
}

fn data(value: Value) -> Result<Value, TransportError> {
    Ok(json!({ "data": value }))
}

#[tokio::test]
async fn entities_are_asked_for_once_each_and_answered_everywhere() {
    let (answer, asked) = run(
        "{ top { id rating related { name score } } }",
        vec![data(json!({ "top": [
            { "id": 1, "related": [{ "id": "2", "name": "b" }] },
            null,
            { "id": "2", "related": null },
            { "id": 1, "related": [] },
        ] }))],
        vec![
            data(json!({ "_entities": [{ "rating": 5 }, { "rating": 4 }] })),
            data(json!({ "_entities": [{ "score": 7 }] })),
        ],
    )
    .await;
    assert_eq!(
        answer,
        json!({ "data": { "top": [
            { "id": "1", "rating": 5, "related": [{ "name": "b", "score": 7 }] },
            null,
            { "id": "2", "rating": 4, "related": null },
            { "id": "1", "rating": 5, "related": [] },
        ] } })
    );
    // Two of the three are the same product.
    assert_eq!(
        asked[1].1["_stoa_representations"],
        json!([{ "__typename": "Product", "id": 1 }, { "__typename": "Product", "id": "2" }])
    );
}

#[tokio::test]
async fn nulls_travel_to_the_nearest_nullable_parent() {
    let rating = |rating: Value| {
        run(
            "{ top { name rating } count }",
            vec![data(
                json!({ "top": [{ "id": "1", "name": "a" }, { "id": "2", "name": "b" }], "count": 3 }),
            )],
            vec![Ok(
                json!({ "data": { "_entities": [{ "rating": 5 }, rating] } }),
            )],
        )
    };
    let (answer, _) = rating(Value::Null).await;
    assert_eq!(
        answer["data"],
        json!({ "top": [{ "name": "a", "rating": 5 }, null], "count": 3 })
    );
    assert_eq!(answer["errors"][0]["path"], json!(["top", 1, "rating"]));
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "SUBGRAPH_INVALID_VALUE"
    );
    // Up to the root, where nothing is nullable on the way.
    let (answer, _) = run(
        "{ product { name } }",
        vec![data(json!({ "product": { "name": null } }))],
        vec![],
    )
    .await;
    assert_eq!(answer["data"], Value::Null);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 1);
    // A null that an error explains gets no second error.
    let explained = json!({ "data": null, "errors": [{ "message": "no", "path": ["product"], "locations": null, "extensions": null }] });
    let (answer, _) = run("{ product { name } }", vec![Ok(explained)], vec![]).await;
    assert_eq!(
        answer,
        json!({ "data": null, "errors": [{ "message": "no", "path": ["product"] }] })
    );
}

#[tokio::test]
async fn entity_errors_stand_at_the_clients_path() {
    let top = json!({ "top": [{ "id": "1", "name": "a" }, { "id": "2", "name": "b" }] });
    for (errors, entities, path) in [
        // As the specification says: with an index.
        (
            json!(["_entities", 1, "score"]),
            json!([{ "score": 1 }, { "score": null }]),
            json!(["top", 1, "score"]),
        ),
        // As async-graphql responds: without one; then it is for the entity
        // without the field.
        (
            json!(["_entities", "score"]),
            json!([{ "score": 1 }, {}]),
            json!(["top", 1, "score"]),
        ),
        (
            json!(["_entities"]),
            json!([null, { "score": 1 }]),
            json!(["top", 0]),
        ),
        (
            json!(["_entities"]),
            json!([{ "score": 1 }, { "score": 1 }]),
            json!(["top"]),
        ),
    ] {
        let reply = json!({ "data": { "_entities": entities }, "errors": [{ "message": "no", "path": errors, "locations": [{ "line": 1, "column": 2 }] }] });
        let (answer, _) = run(
            "{ top { name score } }",
            vec![data(top.clone())],
            vec![Ok(reply)],
        )
        .await;
        assert_eq!(answer["errors"], json!([{ "message": "no", "path": path }]));
        assert_eq!(answer["data"]["top"][0]["name"], "a");
    }
}

#[tokio::test]
async fn a_failing_subgraph_takes_down_its_own_data_alone() {
    let unreachable = || TransportError::Unreachable {
        subgraph: "reviews".into(),
        cause: "connection refused at 10.0.0.1".into(),
    };
    let (answer, _) = run(
        "{ top { name score } newest { stars } }",
        vec![data(json!({ "top": [{ "id": "1", "name": "a" }] }))],
        vec![Err(unreachable()), Err(unreachable())],
    )
    .await;
    assert_eq!(
        answer["data"],
        json!({ "top": [{ "name": "a", "score": null }], "newest": null })
    );
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert_eq!(
            error["extensions"],
            json!({ "code": "SUBGRAPH_UNREACHABLE", "service": "reviews" })
        );
        assert!(
            !error.to_string().contains("10.0.0.1"),
            "causes stay in the log"
        );
    }
}

#[tokio::test]
async fn wrong_values_are_errors_and_not_passed_on() {
    for (field, value, expected) in [
        ("size", json!("S"), Some(json!("S"))),
        ("size", json!("X"), None),
        ("size", json!(1), None),
        ("count", json!(1), Some(json!(1))),
        ("count", json!(2_147_483_648_i64), None),
        ("count", json!(1.5), None),
        ("count", json!("1"), None),
        ("count", json!([1]), None),
        ("id", json!(7), Some(json!("7"))),
        ("id", json!(true), None),
        ("float", json!(1), Some(json!(1))),
        ("float", json!("1"), None),
        (
            "any",
            json!({ "a": [1, null] }),
            Some(json!({ "a": [1, null] })),
        ),
    ] {
        let (answer, _) = run(
            &format!("{{ {field} }}"),
            vec![data(json!({ field: value }))],
            vec![],
        )
        .await;
        assert_eq!(
            answer["data"][field],
            expected.clone().unwrap_or_default(),
            "{field} {value}"
        );
        assert_eq!(
            answer.get("errors").is_some(),
            expected.is_none(),
            "{field} {value}"
        );
    }
    // An inaccessible value is null, and no error.
    let (answer, _) = run("{ size }", vec![data(json!({ "size": "L" }))], vec![]).await;
    assert_eq!(answer, json!({ "data": { "size": null } }));
}

#[tokio::test]
async fn abstract_types_answer_by_their_own_type() {
    let newest = |review: Value| {
        run(
            "{ newest { kind: __typename ... on Long { text stars } stars } }",
            vec![],
            vec![data(json!({ "newest": review }))],
        )
    };
    let (answer, _) = newest(json!({ "__typename": "Long", "stars": 5, "text": "well" })).await;
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"data":{"newest":{"kind":"Long","text":"well","stars":5}}}"#,
        "in the order asked for"
    );
    let (answer, _) = newest(json!({ "__typename": "Short", "stars": 1 })).await;
    assert_eq!(
        answer["data"]["newest"],
        json!({ "kind": "Short", "stars": 1 })
    );
    let (answer, _) = newest(json!({ "__typename": "Unheard", "stars": 1 })).await;
    assert_eq!(answer["data"]["newest"], Value::Null);
    assert_eq!(answer["errors"][0]["path"], json!(["newest"]));
}

#[tokio::test]
async fn a_batch_that_leaves_entities_out_is_no_answer() {
    let top = json!({ "top": [{ "id": "1", "name": "a" }, { "id": "2", "name": "b" }] });
    let (short, _) = run(
        "{ top { name score } }",
        vec![data(top.clone())],
        vec![data(json!({ "_entities": [{ "score": 1 }] }))],
    )
    .await;
    assert_eq!(
        short["data"]["top"][1],
        json!({ "name": "b", "score": null })
    );
    assert_eq!(
        short["errors"][0]["extensions"]["code"],
        "SUBGRAPH_INVALID_RESPONSE"
    );
    // The subgraph's own errors are at the path of the batch's first object.
    let (denied, _) = run(
        "{ top { name score } }",
        vec![data(top)],
        vec![Ok(
            json!({ "data": null, "errors": [{ "message": "denied" }] }),
        )],
    )
    .await;
    assert_eq!(
        denied["errors"],
        json!([{ "message": "denied", "path": ["top", 0] }])
    );
}

#[tokio::test]
async fn a_large_batch_is_split_and_each_part_fails_alone() {
    let top: Vec<Value> = (0..1_500)
        .map(|n| json!({ "id": n.to_string(), "name": "x" }))
        .collect();
    let first: Vec<Value> = (0..1_000).map(|n| json!({ "score": n })).collect();
    let (answer, asked) = run(
        "{ top { score } }",
        vec![data(json!({ "top": top }))],
        vec![
            data(json!({ "_entities": first })),
            Ok(json!({ "data": null, "errors": [{ "message": "no" }] })),
        ],
    )
    .await;
    assert_eq!(asked.len(), 3);
    assert_eq!(answer["data"]["top"][999]["score"], 999);
    assert_eq!(answer["data"]["top"][1_000]["score"], Value::Null);
    assert_eq!(
        answer["errors"],
        json!([{ "message": "no", "path": ["top", 1_000] }])
    );
}
