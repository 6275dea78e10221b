//! One trace covers an order from the client's request to the notification, across all
//! processes that took part.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message;
use serde_json::json;
use stoa_tests::client::text;
use stoa_tests::{Mode, Shop};

use crate::support::*;

/// The parts of a span that the test checks.
#[derive(Debug, Clone)]
struct Span {
    service: String,
    name: String,
    id: String,
    parent: String,
    trace: String,
    attributes: HashMap<String, String>,
}

type Received = Arc<Mutex<Vec<Span>>>;

/// Starts a collector of OTLP over HTTP; returns its URL.
async fn collector(received: Received) -> String {
    let app = Router::new()
        .route("/v1/traces", post(collect))
        .with_state(received);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn collect(State(received): State<Received>, body: Bytes) {
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let string = |value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>| match value
        .and_then(|value| value.value)
    {
        Some(Any::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    for resource in export.resource_spans {
        let service = resource
            .resource
            .into_iter()
            .flat_map(|resource| resource.attributes)
            .find(|attribute| attribute.key == "service.name")
            .map(|attribute| string(attribute.value))
            .unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            received.lock().unwrap().push(Span {
                service: service.clone(),
                name: span.name,
                id: HEXLOWER.encode(&span.span_id),
                parent: HEXLOWER.encode(&span.parent_span_id),
                trace: HEXLOWER.encode(&span.trace_id),
                attributes: span
                    .attributes
                    .into_iter()
                    .map(|attribute| (attribute.key, string(attribute.value)))
                    .collect(),
            });
        }
    }
}

pub fn an_order_is_one_trace() {
    for mode in [Mode::Separate, Mode::One] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let received = Received::default();
        let url = runtime.block_on(collector(received.clone()));
        let shop = Shop::start_with(
            mode,
            &[
                ("STOA_RATE_LIMIT", "off"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
                ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ],
        );
        runtime.block_on(trace_of_an_order(&shop, &received));
    }
}

async fn trace_of_an_order(shop: &Shop, received: &Received) {
    const CLICK: &str = "00f067aa0ba902b7";
    let trace_id = uuid::Uuid::now_v7().simple().to_string();
    let correlation_id = format!("trace-{trace_id}");
    let (admin, buyer) = (
        shop.sign_in("admin").await,
        new_customer(&shop.client()).await,
    );
    let product = new_product(&admin, 5).await;
    let answer: serde_json::Value = buyer
        .http
        .post(format!("{}/graphql", shop.url))
        .bearer_auth(buyer.token.as_deref().unwrap())
        .header("traceparent", format!("00-{trace_id}-{CLICK}-01"))
        .header("x-correlation-id", &correlation_id)
        .json(&json!({
            "query": PLACE.replace("mutation (", "mutation Buy("),
            "variables": { "input": order_of(&product, 1, "sandbox_approve"), "key": key() },
        }))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let order = text(&answer, "/data/placeOrder/order/id");
    assert_eq!(settled(&buyer, &order).await, "CONFIRMED");
    let of_trace = || -> Vec<Span> {
        let all = received.lock().unwrap();
        all.iter()
            .filter(|span| span.trace == trace_id)
            .cloned()
            .collect()
    };
    let count = |name: &str| of_trace().iter().filter(|span| span.name == name).count();
    // The order has two events; each is published and notified to the customer.
    eventually("the notifications are traced", || async {
        count("notify") == 2 && count("publish") >= 2 && count("mutation Buy") == 1
    })
    .await;
    let spans = of_trace();
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in [
        "mutation Buy",
        "subgraph",
        "peer_call",
        "publish",
        "order_work",
        "notify",
    ] {
        assert!(names.contains(name), "{name} is among {names:?}");
    }
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let expected: &[&str] = match shop.mode {
        Mode::One => &["stoa-up"],
        _ => &[
            "stoa-notifications",
            "stoa-orders",
            "stoa-products",
            "stoa-router",
        ],
    };
    assert_eq!(services, expected.iter().copied().collect());
    // Each span's parent is another span of the trace, or the client's own span.
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    for span in &spans {
        assert!(
            span.parent == CLICK || ids.contains(span.parent.as_str()),
            "{span:#?} has a parent"
        );
        assert_eq!(
            span.attributes.get("correlation_id"),
            Some(&correlation_id),
            "{span:#?} bears the correlation id"
        );
    }
    let click = spans.iter().filter(|span| span.parent == CLICK);
    assert_eq!(click.count(), 1, "the router's span alone is the click's");
    // The log lines of the request carry its correlation id.
    let lines = shop.logs();
    let about: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains(&correlation_id))
        .collect();
    for what in ["\"operation\"", "customer notified"] {
        assert!(
            about.iter().any(|line| line.contains(what)),
            "{what} is logged with the correlation id"
        );
    }
}
