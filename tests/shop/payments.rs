//! What the payment provider tells by itself, and what others would like to.

use reqwest::StatusCode;
use serde_json::{Value, json};
use stoa_tests::{Client, Shop};

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
    // The last webhooks come three seconds late.
    tokio::time::sleep(std::time::Duration::from_millis(3_500)).await;
    for (order, method, outcome) in &orders {
        let moves = history(&customer, order).await;
        assert_eq!(moves, ["PENDING", *outcome], "{method}");
    }
    eventually("units are back", || async {
        stock_of(&customer, &product).await == 100 - 2 * 6
    })
    .await;
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
