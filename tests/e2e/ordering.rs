//! Placing and changing orders.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use stoa_tests::Shop;
use stoa_tests::client::text;

use crate::support::*;

pub async fn one_query_crosses_all_services(shop: &Shop) {
    let ada = shop.sign_in("ada").await;
    // Events of the demo data may still be in delivery.
    eventually("there are notifications", || async {
        let data = ada
            .ok(
                "{ me { notifications(first: 1) { nodes { id } } } }",
                json!({}),
            )
            .await;
        !data["me"]["notifications"]["nodes"][0].is_null()
    })
    .await;
    let data = ada
        .ok(
            "{ me { firstName orders(first: 100) { totalCount nodes { number customer { email } lines { name subtotal { formatted } product { name stock category { name } } } } } notifications(first: 1) { nodes { title order { status } } } } }",
            json!({}),
        )
        .await;
    let me = &data["me"];
    assert_eq!(me["firstName"], "Ada");
    assert!(me["orders"]["totalCount"].as_i64().unwrap() >= 5);
    let orders = me["orders"]["nodes"].as_array().unwrap();
    let order = orders
        .iter()
        .find(|order| order["number"] == "S-100001")
        .unwrap();
    assert_eq!(order["customer"]["email"], "ada@stoa.test");
    assert!(order["lines"][0]["product"]["category"]["name"].is_string());
    assert!(me["notifications"]["nodes"][0]["order"]["status"].is_string());
    let history = ada.ok("{ me { orders(status: DELIVERED, first: 100) { nodes { number nextStatuses history { status previousStatus actor } } } } }", json!({})).await;
    let orders = history["me"]["orders"]["nodes"].as_array().unwrap();
    let delivered = orders
        .iter()
        .find(|order| order["number"] == "S-100001")
        .unwrap();
    assert_eq!(delivered["nextStatuses"], json!(["REFUNDED"]));
    assert_eq!(
        delivered["history"],
        json!([
            { "status": "PENDING", "previousStatus": null, "actor": "CUSTOMER" },
            { "status": "CONFIRMED", "previousStatus": "PENDING", "actor": "SYSTEM" },
            { "status": "SHIPPED", "previousStatus": "CONFIRMED", "actor": "ADMIN" },
            { "status": "DELIVERED", "previousStatus": "SHIPPED", "actor": "ADMIN" },
        ])
    );
}

pub async fn a_declined_payment_returns_the_units(shop: &Shop) {
    let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
    let product = new_product(&admin, 5).await;
    let order = place(&ada, &product, 2, "sandbox_decline").await;
    assert_eq!(stock_of(&ada, &product).await, 3, "placing has reserved");
    assert_eq!(settled(&ada, &order).await, "CANCELLED");
    eventually("the units are back", || async {
        stock_of(&ada, &product).await == 5
    })
    .await;
    let data = ada
        .ok(
            "query ($id: ID!) { order(id: $id) { nextStatuses history { reason } } }",
            json!({ "id": order }),
        )
        .await;
    assert_eq!(data["order"]["nextStatuses"], json!([]));
    assert_eq!(
        data["order"]["history"][1]["reason"],
        "the payment was declined"
    );
}

#[allow(clippy::too_many_lines, reason = "one scenario, step by step")]
pub async fn bad_orders_change_nothing(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let buyer = new_customer(&shop.client()).await;
    let product = new_product(&admin, 5).await;
    let archived = new_product(&admin, 5).await;
    admin
        .ok(
            "mutation ($id: ID!) { archiveProduct(id: $id) { userErrors { code } } }",
            json!({ "id": archived }),
        )
        .await;
    let lines = |lines: Value| json!({ "lines": lines, "shippingAddress": address(), "paymentMethod": "sandbox_approve" });
    let line = |id: &str, quantity: i64| json!({ "productId": id, "quantity": quantity });
    let with_address = |field: &str, value: Value| {
        let mut input = order_of(&product, 1, "sandbox_approve");
        input["shippingAddress"][field] = value;
        input
    };
    let many: Vec<_> = (0..51).map(|_| line(&product, 1)).collect();
    for (input, code, field) in [
        (lines(json!([])), "EMPTY_ORDER", json!(["input", "lines"])),
        (lines(json!(many)), "INVALID", json!(["input", "lines"])),
        (
            lines(json!([line(&product, 0)])),
            "INVALID",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            lines(json!([line(&product, -1)])),
            "INVALID",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            lines(json!([line(&product, 1_001)])),
            "INVALID",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            lines(json!([line(&product, 2_147_483_647)])),
            "INVALID",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            lines(json!([line("nope", 1)])),
            "PRODUCT_UNAVAILABLE",
            json!(["input", "lines", "0", "productId"]),
        ),
        (
            lines(json!([line(&product, 1), line(&key(), 1)])),
            "PRODUCT_UNAVAILABLE",
            json!(["input", "lines", "1", "productId"]),
        ),
        (
            lines(json!([line(&archived, 1)])),
            "PRODUCT_UNAVAILABLE",
            json!(["input", "lines", "0", "productId"]),
        ),
        (
            lines(json!([line(&product, 6)])),
            "INSUFFICIENT_STOCK",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            lines(json!([line(&product, 3), line(&product, 3)])),
            "INSUFFICIENT_STOCK",
            json!(["input", "lines", "0", "quantity"]),
        ),
        (
            with_address("line1", json!("")),
            "INVALID",
            json!(["input", "shippingAddress", "line1"]),
        ),
        (
            with_address("country", json!("Germany")),
            "INVALID",
            json!(["input", "shippingAddress", "country"]),
        ),
        (
            order_of(&product, 1, "cash"),
            "UNKNOWN_PAYMENT_METHOD",
            json!(["input", "paymentMethod"]),
        ),
    ] {
        let data = buyer
            .ok(PLACE, json!({ "input": input, "key": key() }))
            .await;
        let payload = &data["placeOrder"];
        assert!(payload["order"].is_null(), "{input}");
        assert_eq!(user_error(payload), code, "{input}");
        assert_eq!(payload["userErrors"][0]["field"], field, "{input}");
    }
    for bad in ["", &"k".repeat(129)] {
        let data = buyer
            .ok(
                PLACE,
                json!({ "input": order_of(&product, 1, "sandbox_approve"), "key": bad }),
            )
            .await;
        assert_eq!(
            data["placeOrder"]["userErrors"][0]["field"],
            json!(["idempotencyKey"])
        );
    }
    let anonymous = shop
        .client()
        .code(
            PLACE,
            json!({ "input": order_of(&product, 1, "sandbox_approve"), "key": key() }),
        )
        .await;
    assert_eq!(anonymous, "UNAUTHENTICATED");
    assert_eq!(stock_of(&buyer, &product).await, 5);
    let mine = buyer
        .ok(
            "{ me { orders { totalCount } notifications { totalCount } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        mine["me"],
        json!({ "orders": { "totalCount": 0 }, "notifications": { "totalCount": 0 } })
    );
}

pub async fn keys_are_good_for_one_order(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let buyer = new_customer(&shop.client()).await;
    let product = new_product(&admin, 20).await;
    let once = key();
    let input = order_of(&product, 2, "sandbox_approve");
    // Concurrent requests with one key create one order; others get it, or IN_PROGRESS.
    let tries = (0..8).map(|_| {
        let (buyer, variables) = (buyer.clone(), json!({ "input": input, "key": once }));
        tokio::spawn(async move { buyer.ok(PLACE, variables).await })
    });
    let mut ids = std::collections::HashSet::new();
    for answer in join_all(tries).await {
        let payload = answer.unwrap()["placeOrder"].take();
        if payload["order"].is_null() {
            assert_eq!(user_error(&payload), "IN_PROGRESS");
        } else {
            ids.insert(text(&payload, "/order/id"));
        }
    }
    assert_eq!(ids.len(), 1);
    let again = buyer
        .ok(PLACE, json!({ "input": input, "key": once }))
        .await;
    assert!(ids.contains(&text(&again, "/placeOrder/order/id")));
    assert_eq!(stock_of(&buyer, &product).await, 18);
    let other = buyer
        .ok(
            PLACE,
            json!({ "input": order_of(&product, 3, "sandbox_approve"), "key": once }),
        )
        .await;
    assert_eq!(user_error(&other["placeOrder"]), "IDEMPOTENCY_KEY_REUSED");
    // Keys are scoped to the caller: for another user the same key is new.
    let lin = shop.sign_in("lin").await;
    let fresh = lin.ok(PLACE, json!({ "input": input, "key": once })).await;
    assert!(!ids.contains(&text(&fresh, "/placeOrder/order/id")));
    assert_eq!(stock_of(&buyer, &product).await, 16);
}

pub async fn illegal_moves_name_the_legal_ones(shop: &Shop) {
    let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
    let product = new_product(&admin, 5).await;
    let order = place(&ada, &product, 1, "sandbox_approve").await;
    assert_eq!(settled(&ada, &order).await, "CONFIRMED");
    let early = change(&admin, "deliver", &order).await;
    assert_eq!(user_error(&early["data"]["done"]), "ILLEGAL_STATUS");
    assert!(
        text(&early, "/data/done/userErrors/0/message")
            .contains("SHIPPED or CANCELLED or REFUNDED")
    );
    // The same key again: the first result is returned, without a second change.
    let once = key();
    for _ in 0..2 {
        let shipped = change_with(&admin, "ship", &order, &once).await;
        assert_eq!(
            shipped["data"]["done"]["order"]["status"], "SHIPPED",
            "{shipped}"
        );
    }
    let cancel = change(&ada, "cancel", &order).await;
    assert_eq!(user_error(&cancel["data"]["done"]), "ILLEGAL_STATUS");
    let twice = change(&admin, "ship", &order).await;
    assert_eq!(user_error(&twice["data"]["done"]), "ILLEGAL_STATUS");
    let unknown = change(&admin, "ship", &key()).await;
    assert_eq!(user_error(&unknown["data"]["done"]), "NOT_FOUND");
    for verb in ["ship", "deliver", "refund"] {
        assert_eq!(
            change(&ada, verb, &order).await["errors"][0]["extensions"]["code"],
            "FORBIDDEN"
        );
    }
    assert_eq!(status_of(&ada, &order).await, "SHIPPED");
}

pub async fn cancelling_and_refunding(shop: &Shop) {
    let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
    let product = new_product(&admin, 10).await;
    // Cancelled before it is paid: either this or the payment may win the race.
    let pending = place(&ada, &product, 3, "sandbox_approve").await;
    let cancelled = change(&ada, "cancel", &pending).await;
    assert_eq!(
        cancelled["data"]["done"]["order"]["status"], "CANCELLED",
        "{cancelled}"
    );
    eventually("the units are back", || async {
        stock_of(&ada, &product).await == 10
    })
    .await;
    let late = Duration::from_millis(1_200);
    never_within("a late payment revives it", late, async || {
        status_of(&ada, &pending).await != "CANCELLED"
    })
    .await;
    assert_eq!(stock_of(&ada, &product).await, 10);

    let paid = place(&ada, &product, 3, "sandbox_approve").await;
    assert_eq!(settled(&ada, &paid).await, "CONFIRMED");
    change(&ada, "cancel", &paid).await;
    eventually("the units are back", || async {
        stock_of(&ada, &product).await == 10
    })
    .await;

    let delivered = place(&ada, &product, 3, "sandbox_approve").await;
    assert_eq!(settled(&ada, &delivered).await, "CONFIRMED");
    change(&admin, "ship", &delivered).await;
    change(&admin, "deliver", &delivered).await;
    let refunded = change(&admin, "refund", &delivered).await;
    assert_eq!(
        refunded["data"]["done"]["order"],
        json!({ "status": "REFUNDED", "nextStatuses": [] })
    );
    assert_eq!(
        stock_of(&ada, &product).await,
        7,
        "what was delivered does not come back by itself"
    );
}

pub async fn orders_of_others_are_closed(shop: &Shop) {
    let (admin, ada, lin) = (
        shop.sign_in("admin").await,
        shop.sign_in("ada").await,
        shop.sign_in("lin").await,
    );
    let product = new_product(&admin, 5).await;
    let order = place(&ada, &product, 1, "sandbox_approve").await;
    let read = "query ($id: ID!) { order(id: $id) { id } }";
    assert_eq!(lin.code(read, json!({ "id": order })).await, "FORBIDDEN");
    assert_eq!(
        shop.client().code(read, json!({ "id": order })).await,
        "UNAUTHENTICATED"
    );
    assert!(admin.ok(read, json!({ "id": order })).await["order"]["id"].is_string());
    assert!(lin.ok(read, json!({ "id": key() })).await["order"].is_null());
    let cancel = change(&lin, "cancel", &order).await;
    assert_eq!(cancel["errors"][0]["extensions"]["code"], "FORBIDDEN");
    let watch = "subscription ($id: ID!) { orderStatusChanged(orderId: $id) { status } }";
    let mut events = lin.subscribe(watch, json!({ "id": order })).await;
    assert_eq!(
        events.next_text("/errors/0/extensions/code").await,
        "FORBIDDEN"
    );
    assert_eq!(events.next().await.value, None);
    assert_eq!(settled(&ada, &order).await, "CONFIRMED");
}

pub async fn sixty_four_buyers_of_ten_units(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let mut buyers = Vec::new();
    for _ in 0..4 {
        buyers.push(new_customer(&shop.client()).await);
    }
    for round in 0..20 {
        let product = new_product(&admin, 10).await;
        let orders = (0..64).map(|index| {
            let buyer = buyers[index % buyers.len()].clone();
            let variables =
                json!({ "input": order_of(&product, 1, "sandbox_approve"), "key": key() });
            tokio::spawn(async move { (buyer.ok(PLACE, variables).await, buyer) })
        });
        let mut placed = Vec::new();
        for done in join_all(orders).await {
            let (data, buyer) = done.unwrap();
            let payload = &data["placeOrder"];
            if payload["order"].is_null() {
                assert_eq!(
                    user_error(payload),
                    "INSUFFICIENT_STOCK",
                    "round {round}: {payload}"
                );
            } else {
                placed.push((text(payload, "/order/id"), buyer));
            }
        }
        assert_eq!(placed.len(), 10, "round {round}");
        for (order, buyer) in &placed {
            assert_eq!(settled(buyer, order).await, "CONFIRMED", "round {round}");
        }
        assert_eq!(stock_of(&admin, &product).await, 0, "round {round}");
    }
}

const SHIP: &str = "mutation ($id: ID!, $key: ID!, $shipment: ShipmentInput) { done: shipOrder(orderId: $id, idempotencyKey: $key, shipment: $shipment, reason: \"packed\") { order { status shipments { carrier trackingNumber lines { quantity product { id } } } lines { shippedQuantity } } userErrors { field code message } } }";
const REFUND: &str = "mutation ($id: ID!, $key: ID!, $refund: RefundInput) { done: refundOrder(orderId: $id, idempotencyKey: $key, refund: $refund, reason: \"damaged\") { order { status refunded { amountMinor } refunds { amount { amountMinor } lines { quantity returnedToStock } } lines { refundedQuantity } } userErrors { field code message } } }";

pub async fn shipments_and_partial_refunds(shop: &Shop) {
    let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
    let product = new_product(&admin, 10).await;
    let order = place(&ada, &product, 4, "sandbox_approve").await;
    assert_eq!(settled(&ada, &order).await, "CONFIRMED");
    let units = |quantity: i64| json!([{ "productId": product, "quantity": quantity }]);
    let ship = async |lines: Value, number: &str| {
        let shipment = json!({ "carrier": "DHL", "trackingNumber": number, "lines": lines });
        let variables = json!({ "id": order, "key": key(), "shipment": shipment });
        admin.ok(SHIP, variables).await["done"].take()
    };
    let refund = async |refund: Value| {
        let variables = json!({ "id": order, "key": key(), "refund": refund });
        admin.ok(REFUND, variables).await["done"].take()
    };
    let number = key();
    let sent = ship(units(1), &number).await;
    assert_eq!(sent["order"]["status"], "CONFIRMED", "{sent}");
    assert_eq!(sent["order"]["lines"][0]["shippedQuantity"], 1);
    assert_eq!(sent["order"]["shipments"][0]["trackingNumber"], number);
    assert_eq!(user_error(&ship(units(4), "x").await), "TOO_MANY_UNITS");
    // A partly shipped order cannot be cancelled, but its remaining units can be refunded.
    let cancel = change(&ada, "cancel", &order).await;
    assert_eq!(user_error(&cancel["data"]["done"]), "ILLEGAL_STATUS");
    let back = refund(json!({ "lines": units(1) })).await;
    assert_eq!(back["order"]["status"], "CONFIRMED", "{back}");
    assert_eq!(back["order"]["refunded"]["amountMinor"], "1250");
    assert_eq!(
        back["order"]["refunds"][0]["lines"][0]["returnedToStock"],
        1
    );
    eventually("the unit is back", || async {
        stock_of(&ada, &product).await == 7
    })
    .await;
    let rest = ship(Value::Null, &key()).await;
    assert_eq!(rest["order"]["status"], "SHIPPED", "{rest}");
    assert_eq!(rest["order"]["lines"][0]["shippedQuantity"], 3);
    // Two of three shipped units are refunded, and one of them is restocked.
    let lines = json!([{ "productId": product, "quantity": 1, "restock": true }]);
    assert_eq!(
        refund(json!({ "lines": lines })).await["order"]["status"],
        "SHIPPED"
    );
    assert_eq!(
        refund(json!({ "lines": units(1) })).await["order"]["status"],
        "SHIPPED"
    );
    assert_eq!(
        user_error(&refund(json!({ "lines": units(2) })).await),
        "TOO_MANY_UNITS"
    );
    let all = refund(Value::Null).await;
    assert_eq!(all["order"]["status"], "REFUNDED", "{all}");
    assert_eq!(all["order"]["refunded"]["amountMinor"], "5000");
    assert_eq!(all["order"]["lines"][0]["refundedQuantity"], 4);
    eventually("one of them is for sale again", || async {
        stock_of(&ada, &product).await == 8
    })
    .await;
    let read = "query ($id: ID!) { order(id: $id) { history { kind status actor reason } refunds { done } } }";
    let history = ada.ok(read, json!({ "id": order })).await;
    let kinds: Vec<_> = history["order"]["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}", text(entry, "/kind"), text(entry, "/status")))
        .collect();
    assert_eq!(
        kinds,
        [
            "STATUS PENDING",
            "STATUS CONFIRMED",
            "SHIPMENT CONFIRMED",
            "REFUND CONFIRMED",
            "STATUS SHIPPED",
            "REFUND SHIPPED",
            "REFUND SHIPPED",
            "STATUS REFUNDED"
        ]
    );
    // An administrator finds it by the shipment's tracking number.
    let find = "query ($search: String, $status: OrderStatus) { orders(filter: { search: $search }, status: $status) { nodes { id } totalCount } }";
    for (search, status, found) in [
        (number.as_str(), Value::Null, 1),
        (&number, json!("REFUNDED"), 1),
        (&number, json!("PENDING"), 0),
        ("100%", Value::Null, 0),
    ] {
        let variables = json!({ "search": search, "status": status });
        let data = admin.ok(find, variables).await;
        assert_eq!(data["orders"]["totalCount"], found, "{search} {status}");
    }
    let long = json!({ "search": "x".repeat(101) });
    assert_eq!(admin.code(find, long).await, "BAD_USER_INPUT");
}
