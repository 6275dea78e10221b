//! The table of invalid inputs to each mutation. One file, however long: the scenario
//! compares it as a whole with the mutations of the schema.

use serde_json::{Value, json};
use stoa_tests::Client;
use stoa_tests::client::text;

use super::Who::{Ada, Admin, Lin, Nobody};
use super::{Case, Who, absent, long, mutation};
use crate::support::*;

/// The code of a variable that does not match its type.
const BAD: &str = "BAD_USER_INPUT";
const FORBIDDEN: &str = "FORBIDDEN";
const UNAUTHENTICATED: &str = "UNAUTHENTICATED";

/// The objects that the cases refer to.
struct Things {
    product: String,
    /// Ada's, paid.
    paid: String,
    /// Ada's, and delivered.
    delivered: String,
    key: String,
    category: String,
    address: String,
    cart: Value,
    code: String,
}

async fn things(people: &[(Who, Client)]) -> Things {
    let client = |who: Who| &people.iter().find(|(known, _)| *known == who).unwrap().1;
    let (ada, admin) = (client(Ada), client(Admin));
    let product = new_product(admin, 50).await;
    let mut orders = Vec::new();
    let once = key();
    for attempt in [once.clone(), key()] {
        let input = order_of(&product, 2, "sandbox_approve");
        let placed = ada
            .ok(PLACE, json!({ "input": input, "key": attempt }))
            .await;
        let id = text(&placed, "/placeOrder/order/id");
        assert_eq!(settled(ada, &id).await, "CONFIRMED");
        orders.push(id);
    }
    change(admin, "ship", &orders[1]).await;
    change(admin, "deliver", &orders[1]).await;
    let category = admin
        .ok(
            "mutation { done: createCategory(input: { name: \"Tables\" }) { category { id } } }",
            json!({}),
        )
        .await;
    let saved = ada
        .ok(
            "mutation ($input: AddressInput!) { done: addAddress(input: $input) { address { id } } }",
            json!({ "input": address() }),
        )
        .await;
    let cart = ada
        .ok(
            "mutation ($id: ID!) { done: cartLinesAdd(lines: [{ productId: $id, quantity: 1 }]) { cart { id version } } }",
            json!({ "id": product }),
        )
        .await;
    let code = format!("BAD-{}", key());
    let made = admin
        .ok(
            "mutation ($code: String!) { done: createDiscountCode(input: { code: $code, percentage: 5 }) { userErrors { code } } }",
            json!({ "code": code }),
        )
        .await;
    assert_eq!(made["done"]["userErrors"], json!([]));
    Things {
        product,
        paid: orders.remove(0),
        delivered: orders.remove(0),
        key: once,
        category: text(&category, "/done/category/id"),
        address: text(&saved, "/done/address/id"),
        cart: cart["done"]["cart"].clone(),
        code,
    }
}

pub async fn cases(people: &[(Who, Client)]) -> Vec<Case> {
    let things = things(people).await;
    [
        accounts(&things),
        catalogue(&things),
        orders(&things),
        changes(&things),
        carts(&things),
    ]
    .into_iter()
    .flatten()
    .collect()
}

type Wrong = Vec<(&'static str, Value, &'static str)>;

fn case(
    by: Who,
    query: String,
    fine: Value,
    wrong: Wrong,
    forbidden: &[(Who, &'static str)],
) -> Case {
    Case {
        query,
        fine,
        wrong,
        forbidden: forbidden.to_vec(),
        by,
    }
}

/// Invalid address fields, at the given JSON pointers.
fn addresses(at: [&'static str; 7]) -> Wrong {
    vec![
        (at[0], json!(""), "INVALID"),
        (at[0], long(201), "INVALID"),
        (at[0], Value::Null, BAD),
        (at[0], absent(), BAD),
        (at[1], json!("  "), "INVALID"),
        (at[2], long(21), "INVALID"),
        (at[3], json!("de"), "INVALID"),
        (at[3], json!("DEU"), "INVALID"),
        (at[4], long(201), "INVALID"),
        (at[5], json!("a\u{0}b"), "INVALID"),
        (at[6], long(101), "INVALID"),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn accounts(things: &Things) -> Vec<Case> {
    let register = json!({ "input": { "email": "new@example.test", "password": "a long enough secret", "firstName": "A", "lastName": "B" } });
    let login = json!({ "input": { "email": "ada@stoa.test", "password": "stoa-demo-password" } });
    vec![
        case(
            Nobody,
            mutation("register", &[("input", "RegisterInput!")]),
            register,
            vec![
                ("/input", absent(), BAD),
                ("/input/email", Value::Null, BAD),
                ("/input/email", json!(""), "INVALID"),
                ("/input/email", json!("no address"), "INVALID"),
                ("/input/email", long(300), "INVALID"),
                ("/input/email", json!("ada@stoa.test"), "EMAIL_TAKEN"),
                ("/input/password", json!("short"), "WEAK_PASSWORD"),
                ("/input/password", long(201), "WEAK_PASSWORD"),
                ("/input/firstName", json!(" "), "INVALID"),
                ("/input/lastName", long(101), "INVALID"),
            ],
            &[],
        ),
        case(
            Nobody,
            mutation("login", &[("input", "LoginInput!")]),
            login,
            vec![
                ("/input/password", json!("wrong"), "INVALID_CREDENTIALS"),
                ("/input/password", json!(""), "INVALID_CREDENTIALS"),
                ("/input/password", absent(), BAD),
                (
                    "/input/email",
                    json!("nobody@stoa.test"),
                    "INVALID_CREDENTIALS",
                ),
                ("/input/email", long(5_000), "INVALID_CREDENTIALS"),
            ],
            &[],
        ),
        case(
            Nobody,
            mutation("refreshSession", &[("refreshToken", "String")]),
            json!({ "refreshToken": "x" }),
            vec![
                ("/refreshToken", json!("x"), "INVALID_REFRESH_TOKEN"),
                ("/refreshToken", json!(""), "INVALID_REFRESH_TOKEN"),
                ("/refreshToken", long(5_000), "INVALID_REFRESH_TOKEN"),
                ("/refreshToken", absent(), "INVALID_REFRESH_TOKEN"),
            ],
            &[],
        ),
        case(
            Nobody,
            // Logging out with an unknown token succeeds.
            mutation("logout", &[("refreshToken", "String")]),
            json!({ "refreshToken": "x" }),
            vec![("/refreshToken", json!(7), BAD)],
            &[],
        ),
        case(
            Ada,
            mutation("updateProfile", &[("input", "UpdateProfileInput!")]),
            json!({ "input": { "firstName": "Ada" } }),
            vec![
                ("/input", Value::Null, BAD),
                ("/input/firstName", json!(""), "INVALID"),
                ("/input/firstName", long(101), "INVALID"),
                ("/input/lastName", json!("a\nb"), "INVALID"),
            ],
            &[(Nobody, UNAUTHENTICATED)],
        ),
        case(
            Nobody,
            mutation("deleteAccount", &[]),
            json!({}),
            vec![],
            &[(Nobody, UNAUTHENTICATED)],
        ),
        case(
            Ada,
            mutation("addAddress", &[("input", "AddressInput!")]),
            json!({ "input": address() }),
            addresses([
                "/input/line1",
                "/input/city",
                "/input/postalCode",
                "/input/country",
                "/input/fullName",
                "/input/line2",
                "/input/region",
            ]),
            &[(Nobody, UNAUTHENTICATED)],
        ),
        case(
            Ada,
            mutation("updateAddress", &[("id", "ID!"), ("input", "AddressInput")]),
            json!({ "id": things.address, "input": address() }),
            vec![
                ("/id", Value::Null, BAD),
                ("/id", json!(""), "NOT_FOUND"),
                ("/id", long(500), "NOT_FOUND"),
                ("/input/city", json!(""), "INVALID"),
            ],
            &[(Nobody, UNAUTHENTICATED), (Lin, "NOT_FOUND")],
        ),
        case(
            Ada,
            mutation("removeAddress", &[("id", "ID!")]),
            json!({ "id": things.address }),
            vec![("/id", absent(), BAD), ("/id", json!("\u{0}"), "NOT_FOUND")],
            &[(Nobody, UNAUTHENTICATED), (Lin, "NOT_FOUND")],
        ),
        case(
            Ada,
            mutation("markNotificationRead", &[("id", "ID!")]),
            json!({ "id": key() }),
            vec![
                ("/id", json!(""), "NOT_FOUND"),
                ("/id", json!(key()), "NOT_FOUND"),
                ("/id", Value::Null, BAD),
            ],
            &[(Nobody, UNAUTHENTICATED)],
        ),
    ]
}

const NOT_ADMIN: [(Who, &str); 2] = [(Nobody, UNAUTHENTICATED), (Ada, FORBIDDEN)];

#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn catalogue(things: &Things) -> Vec<Case> {
    let product = json!({ "input": {
        "name": "A", "sku": format!("T-{}", key()), "description": "",
        "price": { "amountMinor": 1, "currencyCode": "EUR" }, "stock": 1, "categoryId": things.category,
    } });
    let update = json!({ "input": { "id": things.product, "name": "A" } });
    let adjust = json!({ "input": { "productId": things.product, "delta": 1, "reason": "found" }, "key": key() });
    vec![
        case(
            Admin,
            mutation("createProduct", &[("input", "CreateProductInput!")]),
            product,
            vec![
                ("/input/name", json!(""), "INVALID"),
                ("/input/name", long(201), "INVALID"),
                ("/input/name", Value::Null, BAD),
                ("/input/sku", json!("a b"), "INVALID"),
                ("/input/sku", long(65), "INVALID"),
                ("/input/description", long(5_001), "INVALID"),
                ("/input/price/amountMinor", json!(-1), "INVALID"),
                (
                    "/input/price/amountMinor",
                    json!("99999999999999999999"),
                    BAD,
                ),
                ("/input/price/currencyCode", json!("XXX"), "INVALID"),
                ("/input/stock", json!(-1), "INVALID"),
                ("/input/stock", json!(3_000_000_000_i64), BAD),
                ("/input/categoryId", json!(key()), "NOT_FOUND"),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation("updateProduct", &[("input", "UpdateProductInput!")]),
            update,
            vec![
                ("/input/id", json!(key()), "NOT_FOUND"),
                ("/input/id", absent(), BAD),
                ("/input/name", json!("  "), "INVALID"),
                ("/input/sku", json!(""), "INVALID"),
                (
                    "/input/price",
                    json!({ "amountMinor": -5, "currencyCode": "EUR" }),
                    "INVALID",
                ),
                ("/input/categoryId", json!(key()), "NOT_FOUND"),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation("archiveProduct", &[("id", "ID!")]),
            json!({ "id": things.product }),
            vec![
                ("/id", json!(key()), "NOT_FOUND"),
                ("/id", json!(""), "NOT_FOUND"),
                ("/id", Value::Null, BAD),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation(
                "adjustStock",
                &[("input", "AdjustStockInput!"), ("key", "ID!")],
            )
            .replace("key: $key", "idempotencyKey: $key"),
            adjust,
            vec![
                ("/input/productId", json!(key()), "NOT_FOUND"),
                ("/input/delta", json!(0), "INVALID"),
                ("/input/delta", json!(-1_000), "INSUFFICIENT_STOCK"),
                ("/input/delta", json!(i32::MAX), "INVALID"),
                ("/input/reason", json!(""), "INVALID"),
                ("/input/reason", long(501), "INVALID"),
                ("/key", json!(""), "INVALID"),
                ("/key", long(129), "INVALID"),
                ("/key", absent(), BAD),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation("createCategory", &[("input", "CreateCategoryInput!")]),
            json!({ "input": { "name": "A" } }),
            vec![
                ("/input/name", json!(""), "INVALID"),
                ("/input/name", long(101), "INVALID"),
                ("/input/name", absent(), BAD),
                ("/input/parentId", json!(key()), "NOT_FOUND"),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation("updateCategory", &[("input", "UpdateCategoryInput!")]),
            json!({ "input": { "id": things.category, "name": "A" } }),
            vec![
                ("/input/id", json!(key()), "NOT_FOUND"),
                ("/input/name", json!(""), "INVALID"),
                ("/input/parentId", json!(things.category), "CATEGORY_CYCLE"),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation("deleteCategory", &[("id", "ID!")]),
            json!({ "id": things.category }),
            vec![
                ("/id", json!(key()), "NOT_FOUND"),
                ("/id", Value::Null, BAD),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation(
                "createDiscountCode",
                &[("input", "CreateDiscountCodeInput!")],
            ),
            json!({ "input": { "code": format!("C-{}", key()), "percentage": 10 } }),
            vec![
                ("/input/code", json!(""), "INVALID"),
                ("/input/code", long(65), "INVALID"),
                ("/input/code", json!("a b"), "INVALID"),
                ("/input/code", json!(things.code), "DISCOUNT_CODE_TAKEN"),
                ("/input/percentage", json!(0), "INVALID"),
                ("/input/percentage", json!(100.01), "INVALID"),
                ("/input/percentage", json!(1.234), "INVALID"),
                ("/input/percentage", json!(1e300), "INVALID"),
                ("/input/percentage", absent(), "INVALID"),
                (
                    "/input/amount",
                    json!({ "amountMinor": 1, "currencyCode": "EUR" }),
                    "INVALID",
                ),
                (
                    "/input/minimum",
                    json!({ "amountMinor": -1, "currencyCode": "EUR" }),
                    "INVALID",
                ),
                (
                    "/input/minimum",
                    json!({ "amountMinor": 1, "currencyCode": "XXX" }),
                    "INVALID",
                ),
                ("/input/totalLimit", json!(0), "INVALID"),
                ("/input/customerLimit", json!(-1), "INVALID"),
            ],
            &NOT_ADMIN,
        ),
        case(
            Admin,
            mutation(
                "updateDiscountCode",
                &[("code", "ID!"), ("isActive", "Boolean!")],
            ),
            json!({ "code": things.code, "isActive": false }),
            vec![
                ("/code", json!("NO-SUCH"), "DISCOUNT_UNKNOWN"),
                ("/code", json!("\u{0}"), "DISCOUNT_UNKNOWN"),
                ("/isActive", Value::Null, BAD),
            ],
            &NOT_ADMIN,
        ),
    ]
}

fn orders(things: &Things) -> Vec<Case> {
    let place = mutation(
        "placeOrder",
        &[("input", "PlaceOrderInput!"), ("key", "ID!")],
    );
    let place = place.replace("key: $key", "idempotencyKey: $key");
    let fine =
        json!({ "input": order_of(&things.product, 1, "sandbox_approve"), "key": things.key });
    // Each attempt needs its own key, or it would repeat the previous one.
    let mut wrong = vec![
        ("/input/lines", json!([]), "EMPTY_ORDER"),
        ("/input/lines", Value::Null, BAD),
        ("/input/lines/0/quantity", json!(0), "INVALID"),
        ("/input/lines/0/quantity", json!(-1), "INVALID"),
        ("/input/lines/0/quantity", json!(1_001), "INVALID"),
        ("/input/lines/0/quantity", json!(51), "INSUFFICIENT_STOCK"),
        ("/input/lines/0/quantity", json!(1.5), BAD),
        (
            "/input/lines/0/productId",
            json!(key()),
            "PRODUCT_UNAVAILABLE",
        ),
        ("/input/lines/0/productId", json!(""), "PRODUCT_UNAVAILABLE"),
        (
            "/input/paymentMethod",
            json!("cash"),
            "UNKNOWN_PAYMENT_METHOD",
        ),
        ("/input/paymentMethod", absent(), BAD),
        ("/input/discountCode", json!("NO-SUCH"), "DISCOUNT_UNKNOWN"),
        ("/input/discountCode", long(5_000), "DISCOUNT_UNKNOWN"),
    ];
    wrong.extend(addresses([
        "/input/shippingAddress/line1",
        "/input/shippingAddress/city",
        "/input/shippingAddress/postalCode",
        "/input/shippingAddress/country",
        "/input/shippingAddress/fullName",
        "/input/shippingAddress/line2",
        "/input/shippingAddress/region",
    ]));
    let keys = vec![
        // `things.key` was used for an order of two units.
        (
            "/input/paymentMethod",
            json!("sandbox_slow"),
            "IDEMPOTENCY_KEY_REUSED",
        ),
        ("/key", json!(" "), "INVALID"),
        ("/key", long(129), "INVALID"),
        ("/key", json!("a\nb"), "INVALID"),
        ("/key", Value::Null, BAD),
    ];
    let nobody = [(Nobody, UNAUTHENTICATED)];
    let mut cases = vec![case(Ada, place.clone(), fine.clone(), keys, &nobody)];
    for one in wrong {
        let mut fine = fine.clone();
        fine["key"] = json!(key());
        cases.push(case(Ada, place.clone(), fine, vec![one], &[]));
    }
    cases
}

fn changes(things: &Things) -> Vec<Case> {
    let order = |name: &str, extra: &[(&str, &str)]| {
        let mut arguments = vec![("orderId", "ID!"), ("key", "ID!"), ("reason", "String")];
        arguments.extend(extra);
        mutation(name, &arguments).replace("key: $key", "idempotencyKey: $key")
    };
    let of = |id: &str| json!({ "orderId": id, "key": key(), "reason": "because" });
    let common = || {
        vec![
            ("/orderId", json!(key()), "NOT_FOUND"),
            ("/orderId", json!(""), "NOT_FOUND"),
            ("/orderId", json!("\u{0}"), "NOT_FOUND"),
            ("/orderId", absent(), BAD),
            ("/reason", long(501), "INVALID"),
            ("/reason", json!("a\u{7}b"), "INVALID"),
            ("/key", json!(""), "INVALID"),
            ("/key", long(129), "INVALID"),
            ("/key", Value::Null, BAD),
        ]
    };
    let with = |extra: Wrong| common().into_iter().chain(extra).collect::<Vec<_>>();
    let line = |quantity: i64| json!([{ "productId": things.product, "quantity": quantity }]);
    let unknown = json!([{ "productId": key(), "quantity": 1 }]);
    let mut ship = of(&things.paid);
    ship["shipment"] = json!({ "carrier": "DHL", "trackingNumber": "1", "lines": line(1) });
    let mut refund = of(&things.paid);
    refund["refund"] = json!({ "lines": line(1), "shipping": false });
    vec![
        case(
            Ada,
            order("cancelOrder", &[]),
            of(&things.paid),
            with(vec![(
                "/orderId",
                json!(things.delivered),
                "ILLEGAL_STATUS",
            )]),
            &[(Nobody, UNAUTHENTICATED), (Lin, FORBIDDEN)],
        ),
        case(
            Admin,
            order("shipOrder", &[("shipment", "ShipmentInput")]),
            ship,
            with(vec![
                ("/orderId", json!(things.delivered), "ILLEGAL_STATUS"),
                ("/shipment/carrier", long(101), "INVALID"),
                ("/shipment/trackingNumber", json!("a\nb"), "INVALID"),
                ("/shipment/lines", json!([]), "INVALID"),
                ("/shipment/lines", unknown.clone(), "NOT_FOUND"),
                ("/shipment/lines/0/quantity", json!(0), "INVALID"),
                ("/shipment/lines/0/quantity", json!(3), "TOO_MANY_UNITS"),
                (
                    "/shipment/lines/0/quantity",
                    json!(i32::MAX),
                    "TOO_MANY_UNITS",
                ),
                ("/shipment/lines/0/quantity", Value::Null, BAD),
            ]),
            &NOT_ADMIN,
        ),
        case(
            Admin,
            order("deliverOrder", &[]),
            of(&things.paid),
            with(vec![("/reason", json!("too soon"), "ILLEGAL_STATUS")]),
            &NOT_ADMIN,
        ),
        case(
            Admin,
            order("refundOrder", &[("refund", "RefundInput")]),
            refund,
            with(vec![
                ("/refund/lines", json!([]), "INVALID"),
                ("/refund/lines", unknown, "NOT_FOUND"),
                ("/refund/lines/0/quantity", json!(-1), "INVALID"),
                ("/refund/lines/0/quantity", json!(3), "TOO_MANY_UNITS"),
                ("/refund/lines/0/restock", json!("yes"), BAD),
            ]),
            &NOT_ADMIN,
        ),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn carts(things: &Things) -> Vec<Case> {
    let place = [("cartId", "ID"), ("token", "String"), ("version", "Int!")];
    let arguments = |first: (&'static str, &'static str), version: &'static str| {
        let mut all = vec![first];
        all.extend(place);
        all[3].1 = version;
        all
    };
    let lines = json!([{ "productId": things.product, "quantity": 1 }]);
    let fine = |name: &str, value: &Value| {
        let mut fine = json!({ "cartId": things.cart["id"], "version": things.cart["version"] });
        fine[name] = value.clone();
        fine
    };
    let elsewhere = || {
        vec![
            ("/cartId", json!(key()), "CART_NOT_FOUND"),
            ("/cartId", json!("\u{0}"), "CART_NOT_FOUND"),
            ("/cartId", long(500), "CART_NOT_FOUND"),
            ("/version", json!(7_000), "CART_CHANGED"),
        ]
    };
    let with = |extra: Wrong| elsewhere().into_iter().chain(extra).collect::<Vec<_>>();
    let others = [(Nobody, "CART_NOT_FOUND"), (Lin, "CART_NOT_FOUND")];
    let wrong_lines = || {
        vec![
            ("/lines", json!([]), "INVALID"),
            ("/lines", Value::Null, BAD),
            ("/lines/0/quantity", json!(-1), "INVALID"),
            ("/lines/0/quantity", json!(1_001), "INVALID"),
            ("/lines/0/productId", json!("none"), "PRODUCT_UNAVAILABLE"),
            ("/lines/0/productId", json!(key()), "PRODUCT_UNAVAILABLE"),
        ]
    };
    let checkout = mutation(
        "checkout",
        &[
            ("input", "CheckoutInput!"),
            place[0],
            place[1],
            place[2],
            ("key", "ID!"),
        ],
    )
    .replace("key: $key", "idempotencyKey: $key");
    let order = json!({ "shippingAddress": address(), "paymentMethod": "sandbox_approve" });
    let mut cases = vec![
        case(
            Ada,
            mutation(
                "cartLinesAdd",
                &arguments(("lines", "[CartLineInput!]!"), "Int"),
            ),
            fine("lines", &lines),
            with(wrong_lines()),
            &others,
        ),
        case(
            Ada,
            mutation(
                "cartLinesUpdate",
                &arguments(("lines", "[CartLineInput!]!"), "Int!"),
            ),
            fine("lines", &lines),
            with(wrong_lines()),
            &others,
        ),
        case(
            Ada,
            mutation(
                "cartLinesRemove",
                &arguments(("productIds", "[ID!]!"), "Int!"),
            ),
            fine("productIds", &json!([things.product])),
            with(vec![
                ("/productIds", json!([]), "INVALID"),
                ("/productIds", json!([key()]), "NOT_FOUND"),
                ("/productIds", json!(["none"]), "PRODUCT_UNAVAILABLE"),
            ]),
            &others,
        ),
        case(
            Ada,
            mutation("cartMerge", &[("cartId", "ID!"), ("token", "String!")]),
            json!({ "cartId": key(), "token": "x" }),
            vec![
                ("/cartId", json!(key()), "CART_NOT_FOUND"),
                ("/cartId", things.cart["id"].clone(), "CART_NOT_FOUND"),
                ("/token", long(5_000), "CART_NOT_FOUND"),
                ("/token", Value::Null, BAD),
            ],
            &[(Nobody, UNAUTHENTICATED)],
        ),
    ];
    for wrong in with(vec![
        ("/input/paymentMethod", json!(""), "UNKNOWN_PAYMENT_METHOD"),
        ("/input/discountCode", json!("NO-SUCH"), "DISCOUNT_UNKNOWN"),
        ("/input/shippingAddress/city", json!(""), "INVALID"),
        ("/key", json!(""), "INVALID"),
        ("/key", absent(), BAD),
    ]) {
        let mut fine = fine("input", &order);
        fine["key"] = json!(key());
        let nobody = [(Nobody, UNAUTHENTICATED)];
        cases.push(case(Ada, checkout.clone(), fine, vec![wrong], &nobody));
    }
    cases
}
