//! The router's HTTP surface.

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use stoa_tests::client::{code, text};
use stoa_tests::{Mode, Shop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::block_on;

pub async fn media_types_and_methods(shop: &Shop) {
    let http = reqwest::Client::new();
    let url = format!("{}/graphql", shop.url);
    let post = |accept: &'static str, body: Value| {
        http.post(&url).header("accept", accept).json(&body).send()
    };
    let query = json!({ "query": "{ __typename }" });
    for (accept, content_type) in [
        (
            "application/graphql-response+json",
            "application/graphql-response+json; charset=utf-8",
        ),
        ("application/json", "application/json; charset=utf-8"),
        ("*/*", "application/json; charset=utf-8"),
    ] {
        let answer = post(accept, query.clone()).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &content_type.parse().unwrap())
        );
        assert_eq!(
            answer.json::<Value>().await.unwrap(),
            json!({ "data": { "__typename": "Query" } })
        );
    }
    assert_eq!(
        post("text/html", query.clone()).await.unwrap().status(),
        406
    );
    // An invalid document: 400, but 200 for clients that accept only application/json.
    let invalid = json!({ "query": "{ nope }" });
    assert_eq!(
        post("application/graphql-response+json", invalid.clone())
            .await
            .unwrap()
            .status(),
        400
    );
    assert_eq!(
        post("application/json", invalid).await.unwrap().status(),
        200
    );

    let get = http.get(&url).query(&[
        (
            "query",
            "query ($s: String!) { productBySku(sku: $s) { sku } }",
        ),
        ("variables", "{\"s\":\"COF-001\"}"),
    ]);
    let answer: Value = get.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["productBySku"]["sku"], "COF-001");
    let mutation = http
        .get(&url)
        .query(&[("query", "mutation { logout { userErrors { code } } }")])
        .send()
        .await
        .unwrap();
    assert_eq!(
        (mutation.status().as_u16(), &mutation.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    assert_eq!(http.put(&url).send().await.unwrap().status(), 405);
    let subscription = post(
        "application/json",
        json!({ "query": "subscription { myOrderUpdates { status } }" }),
    )
    .await
    .unwrap();
    assert_eq!(
        code(&subscription.json().await.unwrap()).unwrap(),
        "SUBSCRIPTION_TRANSPORT"
    );
}

pub async fn malformed_and_oversized_requests(shop: &Shop) {
    let http = reqwest::Client::new();
    let url = format!("{}/graphql", shop.url);
    let deep = format!(
        "{{ categories {} {{ id }} {} }}",
        "{ children ".repeat(15),
        "}".repeat(15)
    );
    let aliases: String = (0..101).map(|n| format!("a{n}: name ")).collect();
    let roots: String = (0..21).map(|n| format!("a{n}: me {{ id }} ")).collect();
    let tokens = format!("{{ {} }}", "me { id } ".repeat(2_000));
    let fragments = "query { me { ...a } } fragment a on User { ...b } fragment b on User { ...a }";
    for (body, status, expected) in [
        ("{".to_owned(), 400, "BAD_REQUEST"),
        ("\"text\"".to_owned(), 400, "BAD_REQUEST"),
        ("[]".to_owned(), 400, "BATCHING_DISABLED"),
        ("{}".to_owned(), 400, "BAD_REQUEST"),
        (json!({ "query": 1 }).to_string(), 400, "BAD_REQUEST"),
        (
            json!({ "query": "{ __typename }", "variables": [] }).to_string(),
            400,
            "BAD_REQUEST",
        ),
        (
            json!({ "query": "{ me { " }).to_string(),
            400,
            "GRAPHQL_PARSE_FAILED",
        ),
        (
            json!({ "query": "{ me { nope } }" }).to_string(),
            400,
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            json!({ "query": fragments }).to_string(),
            400,
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            json!({ "query": "query A { __typename }", "operationName": "B" }).to_string(),
            400,
            "OPERATION_NOT_FOUND",
        ),
        (
            json!({ "query": "query ($id: ID!) { product(id: $id) { id } }" }).to_string(),
            400,
            "BAD_USER_INPUT",
        ),
        (json!({ "query": deep }).to_string(), 400, "QUERY_TOO_DEEP"),
        (
            json!({ "query": format!("{{ productBySku(sku: \"x\") {{ {aliases} }} }}") })
                .to_string(),
            400,
            "QUERY_TOO_LARGE",
        ),
        (
            json!({ "query": format!("{{ {roots} }}") }).to_string(),
            400,
            "QUERY_TOO_LARGE",
        ),
        (
            json!({ "query": tokens }).to_string(),
            400,
            "QUERY_TOO_LARGE",
        ),
        (
            json!({ "query": format!("# {}", "x".repeat(1 << 20)) }).to_string(),
            413,
            "BODY_TOO_LARGE",
        ),
    ] {
        let shown: String = body.chars().take(200).collect();
        let answer = http
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "application/graphql-response+json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{shown}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(
            code(&answer).unwrap_or_default(),
            expected,
            "{shown}\n{answer:#}"
        );
        assert!(answer.get("data").is_none(), "{shown}");
    }
    let text = http
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(text.status(), 415);
}

pub async fn tokens(shop: &Shop) {
    let client = shop.sign_in("ada").await;
    let token = client.token.clone().unwrap();
    let (head, tail) = token.split_at(token.len() - 10);
    let forged = format!("{head}{}", tail.chars().rev().collect::<String>());
    // An unsigned token, with algorithm "none".
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for (value, expected) in [
        ("Bearer nonsense".to_owned(), "INVALID_TOKEN"),
        ("Basic YTpi".to_owned(), "INVALID_TOKEN"),
        ("Bearer".to_owned(), "INVALID_TOKEN"),
        (format!("Bearer {forged}"), "INVALID_TOKEN"),
        (format!("Bearer {none}"), "INVALID_TOKEN"),
    ] {
        let answer = client
            .http
            .post(format!("{}/graphql", shop.url))
            .header("authorization", value.clone())
            .json(&json!({ "query": "{ me { id } }" }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401, "{value}");
        assert_eq!(code(&answer.json().await.unwrap()).unwrap(), expected);
    }
    // An identity header from a client is ignored: the router sets it.
    let answer: Value = client
        .http
        .post(format!("{}/graphql", shop.url))
        .header("x-stoa-identity", "eyJhbGciOiJIUzI1NiJ9.e30.x")
        .json(&json!({ "query": "{ me { id } }" }))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer, json!({ "data": { "me": null } }));
}

pub async fn health_metrics_and_correlation(shop: &Shop) {
    let client = shop.client();
    let get = |path: &str| client.http.get(format!("{}{path}", shop.url)).send();
    assert_eq!(get("/health/live").await.unwrap().status(), 200);
    for path in ["/health", "/health/ready"] {
        let health: Value = get(path).await.unwrap().json().await.unwrap();
        assert_eq!(health["status"], "ok");
        assert!(
            health["dependencies"].as_object().unwrap().len() >= 4,
            "{health}"
        );
    }
    client.ok("{ __typename }", json!({})).await;
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("stoa_http_requests_total")
            && metrics.contains("stoa_operation_duration_seconds_bucket"),
        "{metrics}"
    );

    let ada = shop.sign_in("ada").await;
    let id = format!("test-{}", crate::support::key());
    let admin = shop.sign_in("admin").await;
    let product = crate::support::new_product(&admin, 5).await;
    let answer = client
        .http
        .post(format!("{}/graphql", shop.url))
        .bearer_auth(ada.token.as_ref().unwrap())
        .header("x-correlation-id", &id)
        .json(&json!({ "query": crate::support::PLACE, "variables": { "input": crate::support::order_of(&product, 1, "sandbox_approve"), "key": id } }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-correlation-id"], id.as_str());
    // It is in the router's log, and in the log of the event's consumer.
    crate::support::eventually(
        "the correlation id is logged where the event is consumed",
        || async {
            let logs = shop.logs();
            let lines: Vec<_> = logs.lines().filter(|line| line.contains(&id)).collect();
            lines.iter().any(|line| line.contains("\"operation\""))
                && lines.iter().any(|line| line.contains("customer notified"))
        },
    )
    .await;
    let made = client
        .http
        .get(format!("{}/graphql?query=%7B__typename%7D", shop.url))
        .header("x-correlation-id", "bad id!")
        .send()
        .await
        .unwrap();
    assert_ne!(made.headers()["x-correlation-id"], "bad id!");
}

pub async fn the_page_is_served(shop: &Shop) {
    let page = reqwest::get(format!("{}/", shop.url)).await.unwrap();
    assert_eq!(page.status(), 200);
    let html = page.text().await.unwrap();
    assert!(html.contains("Stoa"), "{html}");
    if let Some(at) = html.find("/assets/") {
        let path: String = html[at..].chars().take_while(|c| *c != '"').collect();
        let asset = reqwest::get(format!("{}{path}", shop.url)).await.unwrap();
        assert_eq!(asset.status(), 200);
        assert!(
            asset.headers()["cache-control"]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
    }
    assert_eq!(
        reqwest::get(format!("{}/assets/../Cargo.toml", shop.url))
            .await
            .unwrap()
            .status(),
        404
    );
}

pub async fn introspection(shop: &Shop) {
    let client = shop.client();
    let data = client
        .ok("{ __schema { types { name } subscriptionType { fields { name args { name } } } } __type(name: \"Product\") { fields { name } } products(first: 1) { nodes { __typename kind: __typename } } }", json!({}))
        .await;
    let types = data["__schema"]["types"].as_array().unwrap();
    let has = |name: &str| types.iter().any(|ty| ty["name"] == name);
    assert!(has("Order") && has("Money"));
    assert!(
        !types
            .iter()
            .any(|ty| ty["name"].as_str().unwrap().contains("join__"))
    );
    assert!(!has("_Any") && !has("_Entity") && !has("link__Import"));
    assert_eq!(
        data["products"]["nodes"],
        json!([{ "__typename": "Product", "kind": "Product" }])
    );
}

pub async fn connections(shop: &Shop) {
    let body = r#"{"query":"{ __schema { types { name description } } }"}"#;
    // Two requests on one connection of HTTP/1.1, and no more after "close".
    let address = shop.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = |extra: &str| {
        format!(
            "POST /graphql HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{extra}\r\n{body}",
            body.len()
        )
    };
    for _ in 0..2 {
        socket.write_all(request("").as_bytes()).await.unwrap();
        let (head, answer) = read_answer(&mut socket).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(answer.contains("\"Order\""), "{answer}");
    }
    let last = request("connection: close\r\n");
    socket.write_all(last.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"));

    // Compressed for clients that accept it, with the same content.
    let http = reqwest::Client::new();
    let ask = |accept: &'static str| {
        http.post(format!("{}/graphql", shop.url))
            .header("content-type", "application/json")
            .header("accept-encoding", accept)
            .body(body)
            .send()
    };
    let plain = ask("identity").await.unwrap();
    assert!(plain.headers().get("content-encoding").is_none());
    let plain = plain.bytes().await.unwrap();
    let small = ask("gzip").await.unwrap();
    assert_eq!(small.headers()["content-encoding"], "gzip");
    let small = small.bytes().await.unwrap();
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(&small[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(small.len() < plain.len() / 2);

    // Many concurrent requests on one HTTP/2 connection; not in the mode with replicas,
    // where the client's connection is to the proxy.
    if shop.mode == Mode::Real {
        return;
    }
    let http = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let many = (0..50).map(|_| {
        let request = http.post(format!("{}/graphql", shop.url));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        async {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            answer.bytes().await.unwrap()
        }
    });
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer, plain);
    }
}

/// The head and the body of a response with a `content-length`.
async fn read_answer(socket: &mut TcpStream) -> (String, String) {
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = socket.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection was closed");
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
        if body.len() >= length {
            return (head.to_owned(), body.to_owned());
        }
    }
}

pub async fn plans_and_descriptions(shop: &Shop) {
    let http = reqwest::Client::new();
    let ask = |body: Value| {
        let request = http.post(format!("{}/graphql", shop.url)).json(&body);
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    // A product of its own: other scenarios change what a list begins with.
    let list =
        ask(json!({ "query": "{ products(query: \"espresso\", first: 1) { nodes { id } } }" }));
    let id = text(&list.await, "/data/products/nodes/0/id");
    let query = "\"\"\"What it asks for\"\"\" query Q(\"Which one\" $id: ID!) { product(id: $id) { id sku } }";
    let variables = json!({ "id": id });
    let plain = ask(json!({ "query": query, "variables": variables })).await;
    assert_eq!(text(&plain, "/data/product/id"), id);
    assert!(plain.get("extensions").is_none(), "{plain}");
    let explained =
        json!({ "query": query, "variables": variables, "extensions": { "plan": true } });
    let explained = ask(explained).await;
    assert_eq!(explained["data"], plain["data"]);
    let plan = explained["extensions"]["plan"].as_str().unwrap();
    assert!(plan.starts_with("#0 products"), "{plan}");
}

pub fn lists_of_requests() {
    let shop = Shop::start_with(Mode::One, &[("STOA_BATCH_LIMIT", "3")]);
    block_on(async {
        let http = reqwest::Client::new();
        let ask = |body: Value| {
            let request = http.post(format!("{}/graphql", shop.url)).json(&body);
            async { request.send().await.unwrap().json::<Value>().await.unwrap() }
        };
        let one = json!({ "query": "{ __typename }" });
        let answer = ask(json!([
            one,
            { "query": "{ nope }" },
            { "query": "mutation { logout { userErrors { code } } }" },
        ]))
        .await;
        assert_eq!(answer[0], json!({ "data": { "__typename": "Query" } }));
        assert_eq!(code(&answer[1]).unwrap(), "GRAPHQL_VALIDATION_FAILED");
        assert!(answer[2]["data"]["logout"].is_object(), "{answer}");
        for list in [json!([]), json!([one, one, one, one])] {
            assert_eq!(code(&ask(list).await).unwrap(), "BATCH_TOO_LARGE");
        }
        let subscription = json!([{ "query": "subscription { myOrderUpdates { cursor } }" }]);
        let answer = ask(subscription).await;
        assert_eq!(code(&answer[0]).unwrap(), "SUBSCRIPTION_TRANSPORT");
        // A single request still works.
        assert_eq!(ask(one).await["data"]["__typename"], "Query");
    });
}
