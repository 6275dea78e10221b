//! Carts, from a guest's to an order with a discount, and the address book.

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::{Client, Shop};

use crate::support::*;

const CART: &str = "cart { id version totalQuantity lines { product { id } quantity unitPrice { amountMinor } } subtotal { amountMinor } warnings { code message product { id } } }";

async fn add(client: &Client, cart: &Value, product: &str, quantity: i64) -> Value {
    let query = format!(
        "mutation ($cart: ID, $token: String, $lines: [CartLineInput!]!) {{ done: cartLinesAdd(cartId: $cart, token: $token, lines: $lines) {{ token {CART} userErrors {{ code message field }} }} }}"
    );
    let variables = json!({ "cart": cart["id"], "token": cart["token"], "lines": [{ "productId": product, "quantity": quantity }] });
    client.ok(&query, variables).await["done"].take()
}

async fn update(client: &Client, version: i64, product: &str, quantity: i64) -> Value {
    let query = format!(
        "mutation ($version: Int!, $lines: [CartLineInput!]!) {{ done: cartLinesUpdate(version: $version, lines: $lines) {{ {CART} userErrors {{ code message field }} }} }}"
    );
    let variables =
        json!({ "version": version, "lines": [{ "productId": product, "quantity": quantity }] });
    client.ok(&query, variables).await["done"].take()
}

async fn checkout(client: &Client, version: i64, code: Option<&str>, key: &str) -> Value {
    let query = "mutation ($version: Int!, $input: CheckoutInput!, $key: ID!) { done: checkout(version: $version, input: $input, idempotencyKey: $key) { order { id status discountCode subtotal { amountMinor } discount { amountMinor } shipping { amountMinor } tax { amountMinor } total { amountMinor } } userErrors { code message field } } }";
    let input = json!({ "shippingAddress": address(), "paymentMethod": "sandbox_approve", "discountCode": code });
    let variables = json!({ "version": version, "input": input, "key": key });
    client.ok(query, variables).await["done"].take()
}

fn version(payload: &Value) -> i64 {
    payload["cart"]["version"].as_i64().expect("a version")
}

#[allow(clippy::too_many_lines, reason = "one scenario, step by step")]
pub async fn a_cart_from_guest_to_order(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let guest = shop.client();
    let (one, two) = (new_product(&admin, 10).await, new_product(&admin, 3).await);
    // A guest's cart is accessible only with its token.
    let made = add(&guest, &Value::Null, &one, 2).await;
    let opened = json!({ "id": made["cart"]["id"], "token": made["token"] });
    assert!(text(&made, "/token").len() >= 32);
    let more = add(&guest, &opened, &two, 1).await;
    assert_eq!(more["cart"]["totalQuantity"], 3, "{more}");
    assert!(more["token"].is_null(), "it is shown once");
    let stranger = json!({ "id": opened["id"], "token": "0".repeat(64) });
    assert_eq!(
        user_error(&add(&guest, &stranger, &one, 1).await),
        "CART_NOT_FOUND"
    );
    // After sign-in it is merged into the customer's own cart.
    let customer = new_customer(&shop.client()).await;
    let own = add(&customer, &Value::Null, &one, 1).await;
    assert!(own["token"].is_null());
    let merge = format!(
        "mutation ($id: ID!, $token: String!) {{ done: cartMerge(cartId: $id, token: $token) {{ {CART} userErrors {{ code }} }} }}"
    );
    let merged = customer.ok(&merge, opened.clone()).await["done"].take();
    assert_eq!(merged["cart"]["totalQuantity"], 4, "{merged}");
    let again = customer.ok(&merge, opened.clone()).await["done"].take();
    assert_eq!(user_error(&again), "CART_NOT_FOUND");
    assert_eq!(
        again["cart"]["totalQuantity"], 4,
        "nothing twice, nothing lost"
    );
    let closed = add(&guest, &opened, &one, 1).await;
    assert_eq!(user_error(&closed), "CART_NOT_FOUND");
    // Of two tabs the later one gets an error, with the current cart.
    let seen = version(&merged);
    let first = update(&customer, seen, &one, 2).await;
    assert_eq!(version(&first), seen + 1);
    let late = update(&customer, seen, &two, 0).await;
    assert_eq!(user_error(&late), "CART_CHANGED");
    assert_eq!(version(&late), seen + 1);
    // A price change is reported as a warning, and not charged without consent.
    let change = "mutation ($input: UpdateProductInput!) { updateProduct(input: $input) { userErrors { code message } } }";
    let price = json!({ "amountMinor": 2_000, "currencyCode": "EUR" });
    let changed = admin
        .ok(change, json!({ "input": { "id": one, "price": price } }))
        .await;
    assert_eq!(changed["updateProduct"]["userErrors"], json!([]));
    let many = update(&customer, seen + 1, &two, 9).await;
    let codes: Vec<_> = many["cart"]["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(
        codes.iter().map(|w| text(w, "/code")).collect::<Vec<_>>(),
        ["PRICE_CHANGED", "INSUFFICIENT_STOCK"],
        "{many}"
    );
    let short = checkout(&customer, seen + 2, None, &key()).await;
    assert_eq!(user_error(&short), "INSUFFICIENT_STOCK");
    update(&customer, seen + 2, &two, 1).await;
    let dear = checkout(&customer, seen + 3, None, &key()).await;
    assert_eq!(user_error(&dear), "PRICE_CHANGED", "{dear}");
    eventually("the units are back", || async {
        stock_of(&admin, &one).await == 10 && stock_of(&admin, &two).await == 3
    })
    .await;
    let accepted = update(&customer, seen + 3, &one, 2).await;
    assert_eq!(accepted["cart"]["warnings"], json!([]), "{accepted}");
    assert_eq!(accepted["cart"]["subtotal"]["amountMinor"], "5250");
    // Ten percent off, once per customer.
    let code = format!("TENTH-{}", key());
    let create = "mutation ($input: CreateDiscountCodeInput!) { done: createDiscountCode(input: $input) { discountCode { code percentage } userErrors { code field } } }";
    let input = json!({ "code": code.to_lowercase(), "percentage": 10, "customerLimit": 1, "totalLimit": 5 });
    let created = admin.ok(create, json!({ "input": input })).await;
    assert_eq!(created["done"]["discountCode"]["percentage"], 10.0);
    let taken = admin.ok(create, json!({ "input": input })).await;
    assert_eq!(user_error(&taken["done"]), "DISCOUNT_CODE_TAKEN");
    assert_eq!(
        customer.code(create, json!({ "input": input })).await,
        "FORBIDDEN"
    );
    let unknown = checkout(&customer, seen + 4, Some("NO-SUCH"), &key()).await;
    assert_eq!(user_error(&unknown), "DISCOUNT_UNKNOWN");
    let once = key();
    let placed = checkout(&customer, seen + 4, Some(&code), &once).await;
    let order = &placed["order"];
    assert_eq!(order["discount"]["amountMinor"], "525", "{placed}");
    assert_eq!(order["total"]["amountMinor"], "4725");
    let repeated = checkout(&customer, seen + 4, Some(&code), &once).await;
    assert_eq!(repeated["order"]["id"], order["id"]);
    let id = text(order, "/id");
    assert_eq!(settled(&customer, &id).await, "CONFIRMED");
    // The order closes the cart; the next one is empty.
    let read = format!("{{ {CART} me {{ cart {{ id }} }} }}");
    let empty = customer.ok(&read, json!({})).await;
    assert!(empty["cart"].is_null() && empty["me"]["cart"].is_null());
    let next = add(&customer, &Value::Null, &two, 1).await;
    let spent = checkout(&customer, version(&next), Some(&code), &key()).await;
    assert_eq!(user_error(&spent), "DISCOUNT_EXHAUSTED", "{spent}");
    // Cancelling an order frees its use of the discount code.
    change_with(&customer, "cancel", &id, &key()).await;
    let next = checkout(&customer, version(&next), Some(&code), &key()).await;
    assert_eq!(next["order"]["discount"]["amountMinor"], "125", "{next}");
    let off = "mutation ($code: ID!) { done: updateDiscountCode(code: $code, isActive: false) { discountCode { isActive used } userErrors { code } } }";
    let off = admin.ok(off, json!({ "code": code })).await;
    assert_eq!(
        off["done"]["discountCode"],
        json!({ "isActive": false, "used": 1 })
    );
    let all = "{ discountCodes(first: 100) { nodes { code } } }";
    assert_eq!(customer.code(all, json!({})).await, "FORBIDDEN");
    assert!(admin.ok(all, json!({})).await["discountCodes"]["nodes"].is_array());
}

pub async fn an_address_book(shop: &Shop) {
    let customer = new_customer(&shop.client()).await;
    let add = "mutation ($input: AddressInput!, $first: Boolean) { done: addAddress(input: $input, isDefault: $first) { address { id isDefault address { city country } } userErrors { code field } } }";
    let one = customer.ok(add, json!({ "input": address() })).await;
    assert_eq!(one["done"]["address"]["isDefault"], true, "{one}");
    let two = customer
        .ok(add, json!({ "input": address(), "first": true }))
        .await;
    let (one, two) = (
        text(&one, "/done/address/id"),
        text(&two, "/done/address/id"),
    );
    let read = "{ me { addresses { id isDefault } } }";
    let book = customer.ok(read, json!({})).await;
    assert_eq!(
        book["me"]["addresses"],
        json!([{ "id": one, "isDefault": false }, { "id": two, "isDefault": true }])
    );
    let mut bad = address();
    bad["country"] = json!("Germany");
    let refused = customer.ok(add, json!({ "input": bad })).await;
    assert_eq!(
        refused["done"]["userErrors"][0]["field"],
        json!(["input", "country"])
    );
    // Another user's address is not found.
    let remove = "mutation ($id: ID!) { done: removeAddress(id: $id) { address { id } userErrors { code } } }";
    let lin = shop.sign_in("lin").await;
    let others = lin.ok(remove, json!({ "id": one })).await;
    assert_eq!(user_error(&others["done"]), "NOT_FOUND");
    let gone = customer.ok(remove, json!({ "id": two })).await;
    assert_eq!(text(&gone, "/done/address/id"), two);
    let update = "mutation ($id: ID!) { done: updateAddress(id: $id, isDefault: true) { address { isDefault } userErrors { code } } }";
    let updated = customer.ok(update, json!({ "id": one })).await;
    assert_eq!(updated["done"]["address"]["isDefault"], true);
    assert_eq!(
        shop.client().code(add, json!({ "input": address() })).await,
        "UNAUTHENTICATED"
    );
    // At most twenty addresses.
    for _ in 0..19 {
        customer.ok(add, json!({ "input": address() })).await;
    }
    let many = customer.ok(add, json!({ "input": address() })).await;
    assert_eq!(user_error(&many["done"]), "INVALID");
}
