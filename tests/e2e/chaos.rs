//! Every process and server is killed once while twenty customers order and watch.
//! Afterwards every order is in a legal state, every subscriber has received every event
//! of its orders once, and the stock adds up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::process::wait_until;
use stoa_tests::{Client, Mode, Shop, servers};

use crate::support::*;

const CUSTOMERS: usize = 20;
const UNITS: i64 = 100_000;
/// How long a customer retries a request.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(100);
const METHODS: [&str; 4] = [
    "sandbox_approve",
    "sandbox_decline",
    "sandbox_timeout",
    "sandbox_decline_capture",
];

/// An event as a subscriber sees it: the order's id and its new status.
type Seen = (String, String);

pub fn kill_everything_while_customers_order_and_watch() {
    if !servers::replicas_available() {
        return;
    }
    let shop = Arc::new(Shop::start(Mode::Real));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(scenario(shop));
}

async fn scenario(shop: Arc<Shop>) {
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, UNITS).await;
    let stop = Arc::new(AtomicBool::new(false));
    let placed = Arc::new(AtomicUsize::new(0));
    let mut customers = Vec::new();
    for index in 0..CUSTOMERS {
        let client = new_customer(&shop.client()).await;
        let start = text(&client.ok("{ liveCursor }", json!({})).await, "/liveCursor");
        let watching = watch(client.clone(), start);
        let ordering = tokio::spawn(order(
            client.clone(),
            product.clone(),
            index,
            stop.clone(),
            placed.clone(),
        ));
        customers.push((client, ordering, watching));
    }
    let killing = {
        let (shop, stop, placed) = (shop.clone(), stop.clone(), placed.clone());
        tokio::task::spawn_blocking(move || {
            let mut victims: Vec<String> = ["nats", "postgres", "redis"].map(str::to_owned).into();
            victims.extend(shop.process_names());
            // Before each kill, and after the last, orders must succeed.
            let orders_succeed = || {
                let before = placed.load(Ordering::SeqCst);
                wait_until("orders succeed", PATIENCE, || {
                    placed.load(Ordering::SeqCst) >= before + CUSTOMERS / 2
                });
            };
            for victim in victims {
                orders_succeed();
                shop.kill_and_restart(&victim, Duration::from_millis(500));
            }
            orders_succeed();
            stop.store(true, Ordering::SeqCst);
        })
    };
    killing.await.unwrap();

    let mut sold = 0;
    let mut orders = 0;
    for (client, ordering, watching) in customers {
        let mine: BTreeSet<String> = ordering.await.unwrap().into_iter().collect();
        assert!(!mine.is_empty());
        orders += mine.len();
        let mut expected = BTreeSet::new();
        let known = settled_orders(&client).await;
        for order in &known {
            let id = text(order, "/id");
            if order["status"] == "CONFIRMED" {
                sold += order["lines"][0]["quantity"].as_i64().unwrap();
            } else {
                assert_eq!(order["status"], "CANCELLED");
            }
            for change in order["history"].as_array().unwrap() {
                expected.insert((id.clone(), text(change, "/status")));
            }
        }
        // No order exists that its customer does not know of.
        let known: BTreeSet<String> = known.iter().map(|order| text(order, "/id")).collect();
        assert_eq!(known, mine);
        let seen = tokio::time::timeout(PATIENCE, watching.until(expected.len()))
            .await
            .unwrap_or_else(|_| panic!("a subscriber waits for events of {mine:?}"));
        let distinct: BTreeSet<Seen> = seen.iter().cloned().collect();
        assert_eq!(distinct, expected, "every event");
        assert_eq!(seen.len(), expected.len(), "each once");
        for id in &mine {
            let of_order: Vec<&str> = seen
                .iter()
                .filter(|(order, _)| order == id)
                .map(|(_, status)| status.as_str())
                .collect();
            assert_eq!(of_order[0], "PENDING", "in order");
        }
        eventually("the inbox holds a message for each event", || async {
            let inbox = client
                .ok("{ me { notifications { totalCount } } }", json!({}))
                .await;
            inbox["me"]["notifications"]["totalCount"] == expected.len()
        })
        .await;
    }
    let doctor = shop.clone();
    eventually("the shop adds up", || async {
        // `doctor` panics if it finds a violation.
        let doctor = doctor.clone();
        let said = tokio::task::spawn_blocking(move || doctor.doctor());
        said.await.unwrap().contains(" 0 unfinished,")
    })
    .await;
    assert_eq!(stock_of(&admin, &product).await, UNITS - sold);
    assert_eq!(shop.command(&["events", "dead"]).trim(), "no dead letters");
    println!("chaos: {orders} orders, {sold} units sold");
}

/// Places orders until stopped; each request is retried until its result is known.
async fn order(
    client: Client,
    product: String,
    index: usize,
    stop: Arc<AtomicBool>,
    placed: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut orders = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let method = METHODS[(orders.len() + index) % METHODS.len()];
        let variables =
            json!({ "input": order_of(&product, 1 + index as i64 % 3, method), "key": key() });
        let payload = insist(&client, PLACE, &variables, "placeOrder").await;
        let id = text(&payload, "/order/id");
        if orders.len() % 5 == 4 {
            cancel(&client, &id).await;
        }
        orders.push(id);
        placed.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    orders
}

/// Cancels, or learns that it is too late.
async fn cancel(client: &Client, order: &str) {
    const CANCEL: &str = "mutation ($id: ID!, $key: ID!) { cancelOrder(orderId: $id, idempotencyKey: $key) { order { status } userErrors { code message } } }";
    let variables = json!({ "id": order, "key": key() });
    let payload = insist(client, CANCEL, &variables, "cancelOrder").await;
    let code = payload
        .pointer("/userErrors/0/code")
        .and_then(Value::as_str);
    assert!(matches!(code, None | Some("ILLEGAL_STATUS")), "{payload:#}");
}

/// Retries a mutation, with its idempotency key, until it gets a response.
async fn insist(client: &Client, query: &str, variables: &Value, field: &str) -> Value {
    let started = Instant::now();
    loop {
        let answer = client.try_query(query, variables).await;
        let payload = answer.as_ref().map(|answer| &answer["data"][field]);
        if let Ok(payload) = payload
            && payload.is_object()
            && payload["userErrors"][0]["code"] != "IN_PROGRESS"
        {
            return payload.clone();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{field} is never answered: {answer:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// All orders of a customer, once none of them is pending.
async fn settled_orders(client: &Client) -> Vec<Value> {
    const ALL: &str = "{ me { orders(first: 100) { totalCount nodes { id status lines { quantity } history { status } } } } }";
    for _ in 0..400 {
        let data = client.ok(ALL, json!({})).await;
        let orders = data["me"]["orders"]["nodes"].as_array().unwrap();
        assert_eq!(
            data["me"]["orders"]["totalCount"],
            orders.len(),
            "on one page"
        );
        if orders.iter().all(|order| order["status"] != "PENDING") {
            return orders.clone();
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("the orders of a customer are never settled");
}

/// A subscriber that reconnects with its last cursor after every failure.
struct Watching {
    seen: Arc<std::sync::Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watching {
    async fn until(self, count: usize) -> Vec<Seen> {
        while self.seen.lock().unwrap().len() < count {
            tokio::time::sleep(PAUSE).await;
        }
        let soon = Duration::from_millis(300);
        never_within("a duplicate arrives", soon, async || {
            self.seen.lock().unwrap().len() > count
        })
        .await;
        self.task.abort();
        self.seen.lock().unwrap().clone()
    }
}

fn watch(client: Client, start: String) -> Watching {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = seen.clone();
    let task = tokio::spawn(async move {
        const MINE: &str =
            "subscription ($after: String) { myOrderUpdates(after: $after) { orderId status } }";
        let mut cursor = start;
        loop {
            let stream = client
                .try_subscribe(MINE, &json!({ "after": cursor }))
                .await;
            if let Ok(mut events) = stream {
                while let Some(event) = events.try_next().await {
                    let (Some(id), Some(value)) = (event.id, event.value) else {
                        break;
                    };
                    let update = &value["data"]["myOrderUpdates"];
                    let event = (text(update, "/orderId"), text(update, "/status"));
                    kept.lock().unwrap().push(event);
                    cursor = id;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Watching { seen, task }
}
