//! Live updates.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stoa_tests::client::{Event, text};
use stoa_tests::{Events, Shop};

use crate::support::*;

const WATCH: &str = "subscription ($id: ID!, $after: String) { orderStatusChanged(orderId: $id, after: $after) { cursor orderId status previousStatus occurredAt order { number customer { email } lines { product { name } } } } }";
const STATUS: &str = "/data/orderStatusChanged/status";

pub async fn an_order_from_click_to_door(shop: &Shop) {
    let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
    let product = new_product(&admin, 5).await;
    let order = place(&ada, &product, 1, "sandbox_approve").await;
    let mut events = ada.subscribe(WATCH, json!({ "id": order })).await;
    let first = events.next().await.value.unwrap();
    let update = &first["data"]["orderStatusChanged"];
    assert_eq!(
        (
            &update["status"],
            &update["previousStatus"],
            &update["orderId"]
        ),
        (&json!("PENDING"), &Value::Null, &json!(order))
    );
    // The other selected fields are fetched from the other subgraphs.
    assert_eq!(update["order"]["customer"]["email"], "ada@stoa.test");
    assert_eq!(update["order"]["lines"][0]["product"]["name"], "Test Thing");
    assert_eq!(events.next_text(STATUS).await, "CONFIRMED");
    for (verb, status) in [("ship", "SHIPPED"), ("deliver", "DELIVERED")] {
        change(&admin, verb, &order).await;
        assert_eq!(events.next_text(STATUS).await, status);
    }
    assert!(events.is_silent(Duration::from_millis(300)).await);
    // An administrator may subscribe too, and gets all events from the first.
    let mut watched = admin.subscribe(WATCH, json!({ "id": order })).await;
    for status in ["PENDING", "CONFIRMED", "SHIPPED", "DELIVERED"] {
        assert_eq!(watched.next_text(STATUS).await, status);
    }
}

async fn all(events: &mut Events, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(events.next().await);
    }
    seen
}

pub async fn resuming_misses_and_repeats_nothing(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let buyer = new_customer(&shop.client()).await;
    let product = new_product(&admin, 50).await;
    let mine = "subscription ($after: String) { myOrderUpdates(after: $after) { status orderId } }";
    let mut live = buyer.subscribe(mine, json!({})).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(place(&buyer, &product, 1, "sandbox_approve").await);
    }
    for order in &orders {
        assert_eq!(settled(&buyer, order).await, "CONFIRMED");
    }
    // The router selects the cursor for the event's id, but returns it only if the client
    // selected it.
    let whole = all(&mut live, 10).await;
    assert!(whole.iter().all(|event| event.id.is_some()));
    assert!(
        whole[0].value.as_ref().unwrap()["data"]["myOrderUpdates"]
            .get("cursor")
            .is_none()
    );
    for cut in 0..9 {
        let id = whole[cut].id.clone().unwrap();
        // The cursor as header, as an EventSource sends it, and as argument.
        let mut by_header = buyer.subscribe_after(mine, json!({}), Some(&id)).await;
        let mut by_argument = buyer.subscribe(mine, json!({ "after": id })).await;
        // An explicit `after` wins over the header.
        let last = whole[8].id.clone().unwrap();
        let mut both = buyer
            .subscribe_after(mine, json!({ "after": id }), Some(&last))
            .await;
        let rest: Vec<_> = whole[cut + 1..]
            .iter()
            .map(|event| event.value.clone())
            .collect();
        for stream in [&mut by_header, &mut by_argument, &mut both] {
            let seen: Vec<_> = all(stream, rest.len())
                .await
                .into_iter()
                .map(|event| event.value)
                .collect();
            assert_eq!(seen, rest, "cut after {cut}");
            assert!(stream.is_silent(Duration::from_millis(30)).await);
        }
    }
    // Reconnect again and again while orders are placed and confirmed: the pieces together
    // equal the whole stream.
    let start = whole[9].id.clone().unwrap();
    // An order is placed for each event that was read, and two before: events of one
    // piece always come while others are read.
    let may_place = Arc::new(tokio::sync::Semaphore::new(2));
    let placing = {
        let (buyer, product, may_place) = (buyer.clone(), product.clone(), may_place.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                may_place.acquire().await.unwrap().forget();
                place(&buyer, &product, 1, "sandbox_approve").await;
            }
        })
    };
    let (mut at, mut pieces) = (start.clone(), Vec::new());
    while pieces.len() < 20 {
        let mut piece = buyer.subscribe_after(mine, json!({}), Some(&at)).await;
        let take = 1 + pieces.len() % 3;
        for event in all(&mut piece, take.min(20 - pieces.len())).await {
            at = event.id.clone().unwrap();
            pieces.push(event.value);
            may_place.add_permits(1);
        }
    }
    placing.await.unwrap();
    let mut again = buyer.subscribe_after(mine, json!({}), Some(&start)).await;
    let whole: Vec<_> = all(&mut again, 20)
        .await
        .into_iter()
        .map(|event| event.value)
        .collect();
    assert_eq!(pieces, whole);
}

pub async fn cursors_open_nothing_else(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let (one, two) = (
        new_customer(&shop.client()).await,
        new_customer(&shop.client()).await,
    );
    let product = new_product(&admin, 5).await;
    let order = place(&one, &product, 1, "sandbox_approve").await;
    let mut events = one.subscribe(WATCH, json!({ "id": order })).await;
    let cursor = events.next_text("/data/orderStatusChanged/cursor").await;
    let mine = "subscription ($after: String) { myOrderUpdates(after: $after) { status } }";
    let mut forged = cursor.clone();
    forged.replace_range(
        4..5,
        if forged.as_bytes()[4] == b'A' {
            "B"
        } else {
            "A"
        },
    );
    for (client, query, variables, code) in [
        (
            &one,
            WATCH,
            json!({ "id": order, "after": "nonsense" }),
            "CURSOR_INVALID",
        ),
        (
            &one,
            WATCH,
            json!({ "id": order, "after": forged }),
            "CURSOR_INVALID",
        ),
        (&one, mine, json!({ "after": cursor }), "FORBIDDEN"),
        (&two, mine, json!({ "after": cursor }), "FORBIDDEN"),
        (
            &two,
            WATCH,
            json!({ "id": order, "after": cursor }),
            "FORBIDDEN",
        ),
        (&one, WATCH, json!({ "id": key() }), "NOT_FOUND"),
        (&shop.client(), mine, json!({}), "UNAUTHENTICATED"),
        (
            &one,
            "subscription { nope }",
            json!({}),
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ] {
        // Every error is sent as an event, then the stream completes.
        let mut stream = client.subscribe(query, variables.clone()).await;
        assert_eq!(
            stream.next_text("/errors/0/extensions/code").await,
            code,
            "{query} {variables}"
        );
        assert_eq!(stream.next().await.value, None);
    }
}

pub async fn the_live_cursor_closes_the_gap(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let buyer = new_customer(&shop.client()).await;
    let product = new_product(&admin, 5).await;
    let cursor = text(&buyer.ok("{ liveCursor }", json!({})).await, "/liveCursor");
    // The order is placed between reading the cursor and subscribing.
    let order = place(&buyer, &product, 1, "sandbox_approve").await;
    assert_eq!(settled(&buyer, &order).await, "CONFIRMED");
    let mut events = buyer
        .subscribe(
            "subscription ($after: String) { myOrderUpdates(after: $after) { status } }",
            json!({ "after": cursor }),
        )
        .await;
    for status in ["PENDING", "CONFIRMED"] {
        assert_eq!(
            events.next_text("/data/myOrderUpdates/status").await,
            status
        );
    }
    assert_eq!(
        shop.client().code("{ liveCursor }", json!({})).await,
        "UNAUTHENTICATED"
    );
}

pub async fn the_inbox(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let buyer = new_customer(&shop.client()).await;
    let product = new_product(&admin, 5).await;
    let mut received = buyer.subscribe("subscription { notificationReceived { cursor notification { id title order { number } } } }", json!({})).await;
    let order = place(&buyer, &product, 1, "sandbox_approve").await;
    let first = received.next().await.value.unwrap();
    let notification = &first["data"]["notificationReceived"]["notification"];
    assert!(text(notification, "/title").ends_with("received"));
    assert!(notification["order"]["number"].is_string());
    let second = received
        .next_text("/data/notificationReceived/notification/title")
        .await;
    assert!(second.ends_with("confirmed"), "{second}");
    assert_eq!(settled(&buyer, &order).await, "CONFIRMED");
    let inbox = buyer
        .ok(
            "{ me { notifications { totalCount nodes { id title isRead } } } }",
            json!({}),
        )
        .await;
    assert_eq!(inbox["me"]["notifications"]["totalCount"], 2);
    assert!(
        text(&inbox, "/me/notifications/nodes/0/title").ends_with("confirmed"),
        "the newest first"
    );
    let id = text(&inbox, "/me/notifications/nodes/0/id");
    let read = "mutation ($id: ID!) { markNotificationRead(id: $id) { notification { isRead readAt } userErrors { code } } }";
    let done = buyer.ok(read, json!({ "id": id })).await;
    assert_eq!(done["markNotificationRead"]["notification"]["isRead"], true);
    let again = buyer.ok(read, json!({ "id": id })).await;
    assert_eq!(again, done, "the first time counts");
    let other = shop
        .sign_in("lin")
        .await
        .ok(read, json!({ "id": id }))
        .await;
    assert_eq!(user_error(&other["markNotificationRead"]), "NOT_FOUND");
}

/// `graphql-ws` and `graphql-sse` from npm, driven by `tests/clients/live.mjs`.
pub async fn clients_that_we_did_not_write(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, 50).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    assert!(
        folder.join("node_modules").exists(),
        "run `npm ci` in tests/clients first; `cargo xtask test` does"
    );
    let url = shop.url.clone();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("node")
            .args(["live.mjs", &url, &product])
            .current_dir(folder)
            .output()
    })
    .await
    .unwrap()
    .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
