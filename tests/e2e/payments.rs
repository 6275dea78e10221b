//! Payment methods, genuine webhooks and forged ones.

use reqwest::StatusCode;
use serde_json::{Value, json};
use stoa_tests::stripe::{self, FakeStripe};
use stoa_tests::{Client, Mode, Shop};

use crate::support::*;

pub async fn every_sandbox_method_ends_as_it_says(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, 100).await;
    let customer = new_customer(&shop.client()).await;
    let methods = [
        ("sandbox_approve", "CONFIRMED"),
        ("sandbox_decline", "CANCELLED"),
        ("sandbox_decline_capture", "CANCELLED"),
        ("sandbox_slow", "CONFIRMED"),
        ("sandbox_timeout", "CONFIRMED"),
        ("sandbox_webhook_first", "CONFIRMED"),
        ("sandbox_webhook_thrice", "CONFIRMED"),
        ("sandbox_webhook_disorder", "CONFIRMED"),
    ];
    let mut orders = Vec::new();
    for (method, outcome) in methods {
        let order = place(&customer, &product, 2, method).await;
        orders.push((order, method, outcome));
    }
    for (order, method, outcome) in &orders {
        assert_eq!(settled(&customer, order).await, *outcome, "{method}");
    }
    // The last webhooks are sent three seconds late.
    let late = std::time::Duration::from_millis(3_500);
    let (last, _, outcome) = &orders[orders.len() - 1];
    never_within("webhooks in disorder change it", late, async || {
        status_of(&customer, last).await != *outcome
    })
    .await;
    for (order, method, outcome) in &orders {
        let moves = history(&customer, order).await;
        assert_eq!(moves, ["PENDING", *outcome], "{method}");
    }
    eventually("units are back", || async {
        stock_of(&customer, &product).await == 100 - 2 * 6
    })
    .await;
}

pub async fn administrators_see_what_an_order_waits_for(shop: &Shop) {
    const PROGRESS: &str =
        "query ($id: ID!) { order(id: $id) { progress { step attempts lastError stuck since } } }";
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, 5).await;
    let customer = new_customer(&shop.client()).await;
    let order = place(&customer, &product, 1, "sandbox_slow").await;
    let id = json!({ "id": order });
    let data = admin.ok(PROGRESS, id.clone()).await;
    let steps = data["order"]["progress"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "{data}");
    assert_eq!(steps[0]["step"], "AUTHORISE");
    assert_eq!(steps[0]["attempts"], 0);
    assert_eq!(steps[0]["stuck"], false);
    let data = customer.ok(PROGRESS, id.clone()).await;
    assert!(data["order"]["progress"].is_null(), "for administrators");
    assert_eq!(settled(&customer, &order).await, "CONFIRMED");
    let data = admin.ok(PROGRESS, id).await;
    assert_eq!(data["order"]["progress"], json!([]));
    let stuck = "{ orders(stuck: true) { nodes { id progress { step lastError } } } }";
    let data = admin.ok(stuck, json!({})).await;
    let nodes = data["orders"]["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["id"] != order), "{data}");
    assert_eq!(customer.code(stuck, json!({})).await, "FORBIDDEN");
}

async fn history(client: &Client, order: &str) -> Vec<String> {
    let data = client
        .ok(
            "query ($id: ID!) { order(id: $id) { history { status } } }",
            json!({ "id": order }),
        )
        .await;
    let entries = data["order"]["history"].as_array().cloned();
    let entries = entries.unwrap_or_default().into_iter();
    entries
        .map(|entry| entry["status"].as_str().unwrap_or_default().to_owned())
        .collect()
}

pub async fn webhooks_of_others_are_refused(shop: &Shop) {
    let customer = new_customer(&shop.client()).await;
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, 10).await;
    let order = place(&customer, &product, 1, "sandbox_decline").await;
    let url = format!("{}/webhooks/payments/sandbox", shop.service_url("orders"));
    let event = json!({ "id": "forged", "type": "payment.decided", "reference": format!("sandbox_{order}") });
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let zeros = "0".repeat(64);
    for signature in [
        String::new(),
        "v1".to_owned(),
        format!("t={now},v1={zeros}"),
        format!("t={},v1={zeros}", now - 3_600),
    ] {
        let status = post(&url, &signature, &event).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{signature}");
    }
    let other = url.replace("sandbox", "stripe");
    assert_eq!(post(&other, "", &event).await, StatusCode::NOT_FOUND);
    let huge = json!({ "padding": "x".repeat(70_000) });
    assert_eq!(post(&url, "", &huge).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(settled(&customer, &order).await, "CANCELLED");
}

async fn post(url: &str, signature: &str, event: &Value) -> StatusCode {
    reqwest::Client::new()
        .post(url)
        .header("stoa-signature", signature)
        .json(event)
        .send()
        .await
        .unwrap()
        .status()
}

/// The shop with Stripe as provider, against the mock of its API.
pub fn stripe_takes_and_returns_the_money() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stripe = FakeStripe::default();
    let url = runtime.block_on(stripe.serve());
    let shop = Shop::start_with(
        Mode::One,
        &[
            ("STOA_RATE_LIMIT", "off"),
            ("STOA_PAYMENTS", "stripe"),
            ("STOA_STRIPE_URL", &url),
            ("STOA_STRIPE_SECRET_KEY", stripe::SECRET_KEY),
            ("STOA_STRIPE_WEBHOOK_SECRET", stripe::WEBHOOK_SECRET),
        ],
    );
    stripe.set_webhook_url(&format!("{}/webhooks/payments/stripe", shop.url));
    runtime.block_on(async {
        let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
        let product = new_product(&admin, 100).await;
        let kept = |order: &str| {
            let intent = stripe.intent_of_order(order).unwrap();
            (intent.status, intent.captured - intent.refunded)
        };
        // Approved, decided later, and declined.
        for (method, outcome) in [
            ("pm_card_visa", "CONFIRMED"),
            ("pm_slow", "CONFIRMED"),
            ("pm_card_chargeDeclined", "CANCELLED"),
            ("pm_unknown", "CANCELLED"),
        ] {
            let order = place(&ada, &product, 2, method).await;
            assert_eq!(settled(&ada, &order).await, outcome, "{method}");
            if outcome == "CONFIRMED" {
                assert_eq!(kept(&order), ("succeeded".to_owned(), 2_500));
            }
        }
        let bad = order_of(&product, 1, "sandbox_approve");
        let refused = ada.ok(PLACE, json!({ "input": bad, "key": key() })).await;
        assert_eq!(user_error(&refused["placeOrder"]), "UNKNOWN_PAYMENT_METHOD");
        // Whichever response is lost, the payment is captured and refunded once.
        for path in ["/v1/payment_intents", "/confirm", "/capture"] {
            stripe.lose(path);
            let order = place(&ada, &product, 2, "pm_card_visa").await;
            assert_eq!(settled(&ada, &order).await, "CONFIRMED", "{path}");
            assert_eq!(kept(&order).1, 2_500);
        }
        stripe.lose("/v1/refunds");
        let order = place(&ada, &product, 2, "pm_card_visa").await;
        assert_eq!(settled(&ada, &order).await, "CONFIRMED");
        change(&ada, "cancel", &order).await;
        eventually("the money is back", || async { kept(&order).1 == 0 }).await;
        // Cancelled at once: the payment is either voided or refunded.
        let order = place(&ada, &product, 2, "pm_slow").await;
        change(&ada, "cancel", &order).await;
        eventually("nothing is kept", || async {
            let said = shop.doctor();
            said.starts_with("doctor: 0 violations, 0 unfinished")
        })
        .await;
        if stripe.intent_of_order(&order).is_some() {
            assert_eq!(kept(&order).1, 0);
        }
        // A webhook without Stripe's signature is rejected.
        let url = format!("{}/webhooks/payments/stripe", shop.url);
        let event = json!({ "id": "evt_forged", "type": "x", "data": { "object": {} } });
        let sent = reqwest::Client::new()
            .post(&url)
            .header("Stripe-Signature", format!("t=1,v1={}", "0".repeat(64)));
        let status = sent.json(&event).send().await.unwrap().status();
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
}
