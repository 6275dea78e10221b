//! The process crashes at every failpoint of an order's saga and is restarted: the
//! whole shop in one process, and the orders service in a process of its own.

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::{Client, Mode, Servers, Shop, servers};

use crate::support::*;

/// The failpoint, the payment method of the order, and the order's final status.
const CRASHES: &[(&str, &str, &str)] = &[
    ("place.claimed", "sandbox_approve", "CONFIRMED"),
    ("place.reserved", "sandbox_approve", "CONFIRMED"),
    ("place.stored", "sandbox_approve", "CONFIRMED"),
    ("webhook.stored", "sandbox_approve", "CONFIRMED"),
    ("authorise.asked", "sandbox_approve", "CONFIRMED"),
    ("authorise.stored", "sandbox_approve", "CONFIRMED"),
    ("commit.asked", "sandbox_approve", "CONFIRMED"),
    ("commit.stored", "sandbox_approve", "CONFIRMED"),
    ("capture.asked", "sandbox_timeout", "CONFIRMED"),
    ("capture.stored", "sandbox_approve", "CONFIRMED"),
    ("fail.stored", "sandbox_decline", "CANCELLED"),
    ("void.asked", "sandbox_decline_capture", "CANCELLED"),
    ("void.stored", "sandbox_decline_capture", "CANCELLED"),
    ("release.asked", "sandbox_decline", "CANCELLED"),
    ("release.stored", "sandbox_decline", "CANCELLED"),
    // Cancelled once it is paid.
    ("refund.asked", "sandbox_approve", "CANCELLED"),
    ("refund.stored", "sandbox_approve", "CANCELLED"),
    // One of its two units refunded once it is paid.
    ("return.asked", "sandbox_approve", "CONFIRMED"),
    ("return.stored", "sandbox_approve", "CONFIRMED"),
];

const REFUND_ONE: &str = "mutation ($id: ID!, $key: ID!, $product: ID!) { refundOrder(orderId: $id, idempotencyKey: $key, refund: { lines: [{ productId: $product, quantity: 1 }] }) { order { id } userErrors { code message } } }";

const CANCEL: &str = "mutation ($id: ID!, $key: ID!) { cancelOrder(orderId: $id, idempotencyKey: $key) { order { id } userErrors { code message } } }";

pub fn every_step_of_the_saga() {
    every_step(Shop::start(Mode::One));
}

/// Only the orders service crashes; the others keep running.
pub fn every_step_of_the_saga_in_separate_processes() {
    every_step(Shop::start(Mode::Separate));
}

pub fn every_step_of_the_saga_on_postgresql() {
    if !servers::replicas_available() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("stoa-crash-{}", key()));
    let servers = Servers::start_some(&folder, &["postgres"]);
    every_step(on_postgresql(&servers));
    drop(servers);
    let _ = std::fs::remove_dir_all(&folder);
}

fn every_step(mut shop: Shop) {
    let named: Vec<_> = CRASHES.iter().map(|(point, _, _)| *point).collect();
    assert_eq!(
        named.len(),
        stoa_orders::app::saga::FAILPOINTS.len(),
        "each point is tried"
    );
    assert!(
        stoa_orders::app::saga::FAILPOINTS
            .iter()
            .all(|p| named.contains(p))
    );
    let product = block_on(async { new_product(&shop.sign_in("admin").await, 1_000).await });
    let mut placed: Vec<(Value, &str)> = Vec::new();
    for (point, method, outcome) in CRASHES {
        shop.restart_once_with("STOA_FAULT", point);
        let variables = json!({ "input": order_of(&product, 2, method), "key": key() });
        block_on(async {
            let ada = shop.sign_in("ada").await;
            // The response may be lost with the process.
            let answer = ada.try_query(PLACE, &variables).await;
            if point.starts_with("refund") {
                let id = text(&answer.unwrap(), "/data/placeOrder/order/id");
                assert_eq!(settled(&ada, &id).await, "CONFIRMED");
                let cancel = json!({ "id": id, "key": key() });
                let _ = ada.try_query(CANCEL, &cancel).await;
            } else if point.starts_with("return") {
                let id = text(&answer.unwrap(), "/data/placeOrder/order/id");
                assert_eq!(settled(&ada, &id).await, "CONFIRMED");
                let refund = json!({ "id": id, "key": key(), "product": product });
                let admin = shop.sign_in("admin").await;
                let _ = admin.try_query(REFUND_ONE, &refund).await;
            }
        });
        shop.wait_for_exit(match shop.mode {
            Mode::One => "up",
            _ => "orders",
        });
        assert!(shop.logs().contains(&format!("ends at {point}")), "{point}");
        // Unfinished work is completed before the next crash.
        shop.restart();
        // At these two the order is not stored yet: only the client's repeat creates it.
        if *point != "place.claimed" && *point != "place.reserved" {
            block_on(async {
                let ada = shop.sign_in("ada").await;
                let id = repeated(&ada, &variables).await;
                assert_eq!(settled(&ada, &id).await, *outcome, "{point}");
                eventually("only what the client must repeat is left", || async {
                    let said = shop.doctor();
                    said.contains(" 0 unfinished") || said.contains(" 1 unfinished")
                })
                .await;
            });
        }
        placed.push((variables, outcome));
    }
    block_on(async {
        let ada = shop.sign_in("ada").await;
        for (variables, outcome) in &placed {
            let id = repeated(&ada, variables).await;
            assert_eq!(settled(&ada, &id).await, *outcome, "{variables}");
        }
        // Each order exists once, and the stock matches.
        let confirmed = placed.iter().filter(|(_, outcome)| *outcome == "CONFIRMED");
        // Of two orders one unit each was refunded.
        let sold = 2 * i64::try_from(confirmed.count()).unwrap() - 2;
        eventually("units are back", || async {
            stock_of(&ada, &product).await == 1_000 - sold
        })
        .await;
        eventually("nothing is under way", || async {
            shop.doctor()
                .starts_with("doctor: 0 violations, 0 unfinished, 27 orders")
        })
        .await;
    });
}

/// Repeats the request until it gets a response, as a client does that got none.
async fn repeated(client: &Client, variables: &Value) -> String {
    // The crashed attempt may still hold its lease of half a minute.
    for _ in 0..100 {
        let answer = client.ok(PLACE, variables.clone()).await;
        let payload = &answer["placeOrder"];
        if payload["userErrors"][0]["code"] != "IN_PROGRESS" {
            return text(payload, "/order/id");
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("still in progress: {variables}");
}
