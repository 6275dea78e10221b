//! Load test: many clients order while calls fail, then `stoa doctor` checks the result:
//! `cargo xtask load`, or `load one|real [ORDERS] [CLIENTS] [FAULT_RATE]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stoa_tests::client::{code, text};
use stoa_tests::{Client, Mode, Shop};

const PLACE: &str = "mutation ($input: PlaceOrderInput!, $key: ID!) { placeOrder(input: $input, idempotencyKey: $key) { order { id } userErrors { code } } }";
const PRODUCTS: usize = 20;
/// How long the shop may take to settle all orders.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The payment methods in use; most are approved.
const METHODS: [&str; 20] = [
    "sandbox_decline",
    "sandbox_decline_capture",
    "sandbox_timeout",
    "sandbox_webhook_thrice",
    "sandbox_webhook_disorder",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
    "sandbox_approve",
];

fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = match arguments.next().as_deref() {
        Some("one") => Mode::One,
        Some("real") => Mode::Real,
        _ => {
            eprintln!("load: say \"one\" (SQLite) or \"real\" (PostgreSQL, NATS, Redis)");
            std::process::exit(2);
        }
    };
    let mut number = |default: usize| {
        let given = arguments.next().and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let (orders, clients) = (number(10_000), number(50));
    let rate = arguments.next().unwrap_or_else(|| "0.01".to_owned());
    let mut shop = Shop::start(mode);
    // Inject faults only now: the demo data had to be created without them.
    shop.restart_once_with("STOA_FAULT_RATE", &rate);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fine = runtime.block_on(run(&shop, orders, clients));
    drop(shop);
    std::process::exit(i32::from(!fine));
}

/// What one client measured.
struct ClientStats {
    waited: Vec<Duration>,
    repeats: usize,
}

async fn run(shop: &Shop, orders: usize, clients: usize) -> bool {
    let admin = shop.sign_in("admin").await;
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        products.push(product(&admin).await);
    }
    let products = Arc::new(products);
    let mut customers = Vec::new();
    for _ in 0..clients {
        customers.push(customer(&shop.client()).await);
    }
    // Clients take order numbers from one counter, so a slow client orders less.
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = customers
        .into_iter()
        .map(|client| {
            let (products, next) = (products.clone(), next.clone());
            tokio::spawn(async move { buy(&client, &products, &next, orders).await })
        })
        .collect();
    let mut waited = Vec::new();
    let mut repeats = 0;
    for task in tasks {
        let done = task.await.expect("a client ends well");
        waited.extend(done.waited);
        repeats += done.repeats;
    }
    let placing = started.elapsed();
    while !decided(&admin).await && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let settled = started.elapsed();
    // Orders are decided, but refunds and stock tasks may still be in progress.
    let mut said = String::new();
    let mut fine = false;
    for _ in 0..120 {
        let (adds_up, all) = shop.try_command(&["doctor"]);
        said = all.lines().last().unwrap_or_default().to_owned();
        fine = adds_up && said.contains(" 0 unfinished");
        if fine {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    waited.sort_unstable();
    let at = |share: f64| {
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let index = (waited.len() as f64 * share) as usize;
        waited.get(index).copied().unwrap_or_default().as_millis()
    };
    let per_second = |during: Duration| orders as f64 / during.as_secs_f64();
    println!(
        "load {}: {orders} orders by {clients} clients, {repeats} repeats; placed {:.0}/s, settled {:.0}/s; placeOrder p50 {} ms, p99 {} ms, max {} ms",
        shop.mode.name(),
        per_second(placing),
        per_second(settled),
        at(0.5),
        at(0.99),
        at(1.0 - 1.0 / orders as f64),
    );
    println!("{said}");
    fine
}

/// Whether no order is pending any more.
async fn decided(admin: &Client) -> bool {
    let pending = "{ orders(first: 0, status: PENDING) { totalCount } }";
    let answer = admin.try_query(pending, &Value::Null).await;
    answer.is_ok_and(|answer| answer["data"]["orders"]["totalCount"] == 0)
}

async fn product(admin: &Client) -> String {
    let input = json!({
        "name": "Load Thing", "sku": format!("L-{}", key()), "description": "",
        "price": { "amountMinor": 1_990, "currencyCode": "EUR" }, "stock": 1_000_000,
    });
    let data = admin
        .ok(
            "mutation ($input: CreateProductInput!) { createProduct(input: $input) { product { id } } }",
            json!({ "input": input }),
        )
        .await;
    text(&data, "/createProduct/product/id")
}

async fn customer(anonymous: &Client) -> Client {
    let input = json!({ "email": format!("{}@example.test", key()), "password": "a long enough secret", "firstName": "Load", "lastName": "Client" });
    let data = anonymous
        .ok(
            "mutation ($input: RegisterInput!) { register(input: $input) { session { accessToken } } }",
            json!({ "input": input }),
        )
        .await;
    Client {
        token: Some(text(&data, "/register/session/accessToken")),
        ..anonymous.clone()
    }
}

/// Places orders until the total is reached; each is retried with its idempotency key
/// until it gets a response.
async fn buy(
    client: &Client,
    products: &[String],
    next: &AtomicUsize,
    orders: usize,
) -> ClientStats {
    let mut done = ClientStats {
        waited: Vec::new(),
        repeats: 0,
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= orders {
            return done;
        }
        let lines: Vec<Value> = (0..=number % 3)
            .map(|line| json!({ "productId": products[(number * 7 + line * 3) % products.len()], "quantity": 1 + line }))
            .collect();
        let input = json!({
            "lines": lines,
            "shippingAddress": { "line1": "1 Stoa", "city": "Athens", "postalCode": "10551", "country": "GR" },
            "paymentMethod": METHODS[number % METHODS.len()],
        });
        let variables = json!({ "input": input, "key": key() });
        let started = Instant::now();
        while !placed(client, &variables).await {
            done.repeats += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        done.waited.push(started.elapsed());
    }
}

/// Whether the order was placed; `false` means retry, and a rejection ends the run.
async fn placed(client: &Client, variables: &Value) -> bool {
    let Ok(answer) = client.try_query(PLACE, variables).await else {
        return false;
    };
    if code(&answer).is_some_and(|code| code == "UNAVAILABLE") {
        return false;
    }
    let payload = &answer["data"]["placeOrder"];
    if payload["userErrors"][0]["code"] == "IN_PROGRESS" {
        return false;
    }
    assert!(payload["order"]["id"].is_string(), "{answer}");
    true
}
