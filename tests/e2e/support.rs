//! Helpers that several scenarios share.

use std::time::Duration;

use serde_json::{Value, json};
use stoa_tests::client::text;
pub use stoa_tests::poll::{eventually, never_within};
use stoa_tests::{Client, Mode, Servers, Shop};

pub const PLACE: &str = "mutation ($input: PlaceOrderInput!, $key: ID!) { placeOrder(input: $input, idempotencyKey: $key) { order { id number status total { amountMinor } } userErrors { field code message } } }";

pub fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub fn address() -> Value {
    json!({ "fullName": "Ada Marlow", "line1": "12 Canal Street", "city": "Amsterdam", "postalCode": "1015 DZ", "country": "NL" })
}

pub fn order_of(product: &str, quantity: i64, method: &str) -> Value {
    json!({ "lines": [{ "productId": product, "quantity": quantity }], "shippingAddress": address(), "paymentMethod": method })
}

/// Registers a new customer; the client is signed in.
pub async fn new_customer(anonymous: &Client) -> Client {
    let email = format!("{}@example.test", key());
    let input = json!({ "email": email, "password": "a long enough secret", "firstName": "New", "lastName": "Customer" });
    let data = anonymous
        .ok(
            "mutation ($input: RegisterInput!) { register(input: $input) { user { id } session { accessToken } userErrors { code message } } }",
            json!({ "input": input }),
        )
        .await;
    Client {
        token: Some(text(&data, "/register/session/accessToken")),
        user_id: text(&data, "/register/user/id"),
        ..anonymous.clone()
    }
}

/// Creates a product with this much stock; returns its id.
pub async fn new_product(admin: &Client, stock: i64) -> String {
    let input = json!({
        "name": "Test Thing", "sku": format!("T-{}", key()), "description": "For a test",
        "price": { "amountMinor": 1250, "currencyCode": "EUR" }, "stock": stock,
    });
    let data = admin
        .ok(
            "mutation ($input: CreateProductInput!) { createProduct(input: $input) { product { id } userErrors { code message } } }",
            json!({ "input": input }),
        )
        .await;
    text(&data, "/createProduct/product/id")
}

pub async fn stock_of(client: &Client, product: &str) -> i64 {
    let data = client
        .ok(
            "query ($id: ID!) { product(id: $id) { stock } }",
            json!({ "id": product }),
        )
        .await;
    data["product"]["stock"].as_i64().expect("a number")
}

pub async fn status_of(client: &Client, order: &str) -> String {
    let data = client
        .ok(
            "query ($id: ID!) { order(id: $id) { status } }",
            json!({ "id": order }),
        )
        .await;
    text(&data, "/order/status")
}

/// Places an order that must succeed; returns its id.
pub async fn place(client: &Client, product: &str, quantity: i64, method: &str) -> String {
    let data = client
        .ok(
            PLACE,
            json!({ "input": order_of(product, quantity, method), "key": key() }),
        )
        .await;
    text(&data, "/placeOrder/order/id")
}

/// Waits for an order to leave PENDING; returns its status.
pub async fn settled(client: &Client, order: &str) -> String {
    for _ in 0..400 {
        let status = status_of(client, order).await;
        if status != "PENDING" {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("order {order} is never settled");
}

/// Changes an order; `verb` is `ship`, `deliver`, `refund` or `cancel`. Returns the
/// response.
pub async fn change(client: &Client, verb: &str, order: &str) -> Value {
    change_with(client, verb, order, &key()).await
}

pub async fn change_with(client: &Client, verb: &str, order: &str, key: &str) -> Value {
    let query = format!(
        "mutation ($id: ID!, $key: ID!) {{ done: {verb}Order(orderId: $id, idempotencyKey: $key) {{ order {{ status nextStatuses }} userErrors {{ field code message }} }} }}"
    );
    client
        .query(&query, json!({ "id": order, "key": key }))
        .await
}

pub fn user_error(payload: &Value) -> String {
    text(payload, "/userErrors/0/code")
}

pub fn block_on<T>(scenario: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(scenario)
}

/// A shop in one process, over PostgreSQL.
pub fn on_postgresql(servers: &Servers) -> Shop {
    let names = ["users", "products", "orders", "notifications"];
    let mut settings = vec![("STOA_RATE_LIMIT".to_owned(), "off".to_owned())];
    settings.extend(names.map(|name| {
        let variable = format!("STOA_{}_DATABASE_URL", name.to_uppercase());
        (variable, servers.database(name))
    }));
    let settings: Vec<_> = (settings.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Shop::start_with(Mode::One, &settings)
}
