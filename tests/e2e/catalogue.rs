//! The catalogue.

use serde_json::{Value, json};
use stoa_tests::Shop;
use stoa_tests::client::text;

use crate::support::{key, new_product, stock_of, user_error};

#[allow(clippy::too_many_lines, reason = "one scenario, step by step")]
pub async fn lists_search_and_pages(shop: &Shop) {
    let client = shop.client();
    let all = "query ($after: String) { products(first: 100, after: $after, sort: NAME_ASC, filter: { isActive: false }) { totalCount nodes { id name } pageInfo { hasNextPage endCursor } } }";
    let (mut after, mut names, mut ids) =
        (Value::Null, Vec::new(), std::collections::HashSet::new());
    loop {
        // Only administrators see inactive products, whatever the filter says.
        let page = client.ok(all, json!({ "after": after })).await;
        let page = &page["products"];
        assert!(page["totalCount"].as_i64().unwrap() >= 200);
        for node in page["nodes"].as_array().unwrap() {
            names.push(text(node, "/name"));
            assert!(ids.insert(text(node, "/id")), "no product twice");
        }
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert!(names.len() >= 228 && names.is_sorted());

    let search = |words: &'static str| {
        let client = client.clone();
        async move {
            let data = client
                .ok(
                    "query ($q: String) { products(query: $q, first: 50) { nodes { name sku } } }",
                    json!({ "q": words }),
                )
                .await;
            data["products"]["nodes"].as_array().unwrap().clone()
        }
    };
    assert_eq!(search("classic espres").await.len(), 1);
    assert_eq!(search("COF-00").await.len(), 9);
    assert!(
        !search("\"classic\" OR NEAR(*) -- ;")
            .await
            .iter()
            .any(|n| n["sku"] == "COF-001")
    );
    assert!(search("zzzz").await.is_empty());
    // Search ignores diacritics on Latin letters, on either database.
    let admin = shop.sign_in("admin").await;
    let unique = key().replace('-', "");
    let input = json!({
        "name": format!("Café Крем й{unique}"), "sku": format!("T-{}", key()), "description": "a/b x@y.test",
        "price": { "amountMinor": 1250, "currencyCode": "EUR" }, "stock": 1,
    });
    admin
        .ok(
            "mutation ($input: CreateProductInput!) { createProduct(input: $input) { product { id } userErrors { code message } } }",
            json!({ "input": input }),
        )
        .await;
    for words in ["café", "CAFE", "крем", "test b", "cafe крем y"] {
        let words = format!("{words} й{unique}");
        let data = client
            .ok(
                "query ($q: String) { products(query: $q) { nodes { name } } }",
                json!({ "q": words }),
            )
            .await;
        assert_eq!(
            data["products"]["nodes"].as_array().unwrap().len(),
            1,
            "{words}"
        );
    }

    let kitchen = client.ok("{ categories { id name children { id name products(first: 2, sort: PRICE_DESC) { totalCount nodes { price { amountMinor } } } } products { totalCount } } }", json!({})).await;
    let kitchen = kitchen["categories"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == "Kitchen")
        .unwrap()
        .clone();
    assert_eq!(kitchen["products"]["totalCount"], 48);
    assert_eq!(kitchen["children"].as_array().unwrap().len(), 4);
    let one = client.ok("{ productBySku(sku: \"COF-001\") { id name price { amountMinor currencyCode exponent formatted } category { name parent { name } } } }", json!({})).await;
    assert_eq!(
        one["productBySku"]["price"],
        json!({ "amountMinor": "1290", "currencyCode": "EUR", "exponent": 2, "formatted": "€12.90" })
    );
    assert_eq!(one["productBySku"]["category"]["parent"]["name"], "Kitchen");
    for (first, code) in [(101, "BAD_USER_INPUT"), (-1, "BAD_USER_INPUT")] {
        assert_eq!(
            client
                .code(
                    "query ($n: Int) { products(first: $n) { totalCount } }",
                    json!({ "n": first })
                )
                .await,
            code
        );
    }
    assert_eq!(
        client
            .code(
                "{ products(after: \"nonsense\") { totalCount } }",
                json!({})
            )
            .await,
        "BAD_USER_INPUT"
    );
    assert_eq!(
        client
            .ok(
                "{ product(id: \"nope\") { id } category(id: \"nope\") { id } }",
                json!({})
            )
            .await,
        json!({ "product": null, "category": null })
    );
}

pub async fn administrators_keep_it(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let anonymous = shop.client();
    let top = admin.ok("mutation { createCategory(input: { name: \"Test Shelf\" }) { category { id } userErrors { code } } }", json!({})).await;
    let top = text(&top, "/createCategory/category/id");
    let product = new_product(&admin, 5).await;
    let changed = admin
        .ok(
            "mutation ($id: ID!, $c: ID) { updateProduct(input: { id: $id, name: \"Renamed Zeppelin\", categoryId: $c, price: { amountMinor: \"999\", currencyCode: \"USD\" } }) { product { name stock price { formatted } category { name } } userErrors { code } } }",
            json!({ "id": product, "c": top }),
        )
        .await;
    assert_eq!(
        changed["updateProduct"]["product"],
        json!({ "name": "Renamed Zeppelin", "stock": 5, "price": { "formatted": "$9.99" }, "category": { "name": "Test Shelf" } })
    );
    let found = anonymous
        .ok(
            "{ products(query: \"zeppel\") { nodes { id } } }",
            json!({}),
        )
        .await;
    assert_eq!(found["products"]["nodes"], json!([{ "id": product }]));

    let adjust = "mutation ($id: ID!, $d: Int!, $k: ID!) { adjustStock(input: { productId: $id, delta: $d, reason: \"count\" }, idempotencyKey: $k) { product { stock } userErrors { field code } } }";
    let once = key();
    for _ in 0..3 {
        let done = admin
            .ok(adjust, json!({ "id": product, "d": 7, "k": once }))
            .await;
        assert_eq!(done["adjustStock"]["product"]["stock"], 12);
    }
    let reused = admin
        .ok(adjust, json!({ "id": product, "d": 8, "k": once }))
        .await;
    assert_eq!(user_error(&reused["adjustStock"]), "IDEMPOTENCY_KEY_REUSED");
    let too_many = admin
        .ok(adjust, json!({ "id": product, "d": -13, "k": key() }))
        .await;
    assert_eq!(user_error(&too_many["adjustStock"]), "INSUFFICIENT_STOCK");
    assert_eq!(stock_of(&anonymous, &product).await, 12);

    let in_use = admin.ok("mutation ($id: ID!) { deleteCategory(id: $id) { category { id } userErrors { code } } }", json!({ "id": top })).await;
    assert_eq!(user_error(&in_use["deleteCategory"]), "CATEGORY_IN_USE");
    admin.ok("mutation ($id: ID!) { archiveProduct(id: $id) { product { isActive } userErrors { code } } }", json!({ "id": product })).await;
    let found = anonymous
        .ok("{ products(query: \"zeppel\") { totalCount } }", json!({}))
        .await;
    assert_eq!(found["products"]["totalCount"], 0);
    admin.ok("mutation ($id: ID!) { updateProduct(input: { id: $id, categoryId: null }) { product { id } userErrors { code } } }", json!({ "id": product })).await;
    let deleted = admin.ok("mutation ($id: ID!) { deleteCategory(id: $id) { category { name } userErrors { code } } }", json!({ "id": top })).await;
    assert_eq!(deleted["deleteCategory"]["category"]["name"], "Test Shelf");
}

pub async fn bad_input_changes_nothing(shop: &Shop) {
    let admin = shop.sign_in("admin").await;
    let create = "mutation ($input: CreateProductInput!) { createProduct(input: $input) { product { id } userErrors { field code } } }";
    let count = || async {
        admin
            .ok(
                "{ products(filter: { isActive: true }) { totalCount } }",
                json!({}),
            )
            .await
    };
    let good = json!({ "name": "Good", "sku": format!("G-{}", key()), "description": "", "price": { "amountMinor": 1, "currencyCode": "EUR" }, "stock": 1 });
    let with = |field: &str, value: Value| {
        let mut input = good.clone();
        input[field] = value;
        input
    };
    let _ = count().await;
    for (input, code, field) in [
        (
            with("name", json!(" ")),
            "INVALID",
            json!(["input", "name"]),
        ),
        (
            with("name", json!("x".repeat(201))),
            "INVALID",
            json!(["input", "name"]),
        ),
        (
            with("sku", json!("no spaces")),
            "INVALID",
            json!(["input", "sku"]),
        ),
        (
            with("sku", json!("COF-001")),
            "SKU_TAKEN",
            json!(["input", "sku"]),
        ),
        (
            with("stock", json!(-1)),
            "INVALID",
            json!(["input", "stock"]),
        ),
        (
            with("price", json!({ "amountMinor": -1, "currencyCode": "EUR" })),
            "INVALID",
            json!(["input", "price", "amountMinor"]),
        ),
        (
            with("price", json!({ "amountMinor": 1, "currencyCode": "XXX" })),
            "INVALID",
            json!(["input", "price", "currencyCode"]),
        ),
        (
            with("categoryId", json!(key())),
            "NOT_FOUND",
            json!(["input", "categoryId"]),
        ),
    ] {
        let data = admin.ok(create, json!({ "input": input })).await;
        assert_eq!(user_error(&data["createProduct"]), code, "{input}");
        assert_eq!(data["createProduct"]["userErrors"][0]["field"], field);
        assert!(data["createProduct"]["product"].is_null());
    }
    let sku = text(&good, "/sku");
    let none = admin
        .ok(
            "query ($sku: String!) { productBySku(sku: $sku) { id } }",
            json!({ "sku": sku }),
        )
        .await;
    assert!(none["productBySku"].is_null());
    // Only administrators may, and a wrong type is a request error.
    let ada = shop.sign_in("ada").await;
    assert_eq!(
        ada.code(create, json!({ "input": good })).await,
        "FORBIDDEN"
    );
    assert_eq!(
        shop.client().code(create, json!({ "input": good })).await,
        "UNAUTHENTICATED"
    );
    assert_eq!(
        admin.code(create, json!({ "input": { "name": 1 } })).await,
        "BAD_USER_INPUT"
    );
    let unknown = admin
        .ok(
            "mutation { archiveProduct(id: \"nope\") { product { id } userErrors { code } } }",
            json!({}),
        )
        .await;
    assert_eq!(user_error(&unknown["archiveProduct"]), "NOT_FOUND");
}

pub async fn pictures_are_drawn(shop: &Shop) {
    let client = shop.client();
    let data = client
        .ok("{ productBySku(sku: \"COF-001\") { imageUrl } }", json!({}))
        .await;
    let path = text(&data, "/productBySku/imageUrl");
    let url = if path.starts_with('/') {
        format!("{}{path}", shop.url)
    } else {
        path
    };
    let picture = client.http.get(&url).send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    assert!(picture.text().await.unwrap().starts_with("<svg"));
    let bad = client
        .http
        .get(url.replace("COF-001", "%3Cscript%3E"))
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status(), 404);
}
