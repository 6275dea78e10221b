//! What an operation may cost.

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::{Client, Shop};

/// Nested pages are refused by what they may cost, before any subgraph is asked.
pub async fn nested_pages_have_a_limit(shop: &Shop) {
    let page =
        |inner: &str| format!("products(first: $n) {{ nodes {{ category {{ {inner} }} }} }}");
    let query = format!("query ($n: Int) {{ {} }}", page(&page(&page("id"))));
    let (anonymous, ada) = (shop.client(), shop.sign_in("ada").await);
    let ask = async |client: &Client, n: i64| {
        let body =
            json!({ "query": query, "variables": { "n": n }, "extensions": { "plan": true } });
        let request = client
            .http
            .post(format!("{}/graphql", shop.url))
            .json(&body);
        let request = match &client.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    for (client, limit) in [(&anonymous, 5_000), (&ada, 20_000)] {
        // 1 for a connection, and for each of its nodes 1, its category 1, and so on.
        let estimate = |n: i64| 1 + n * (2 + 1 + n * (2 + 1 + n * 2));
        let answer = ask(client, 10).await;
        let cost = json!({ "estimate": estimate(10), "limit": limit });
        assert_eq!(answer["extensions"]["cost"], cost, "{answer:#}");
        assert!(answer["data"]["products"]["nodes"].is_array());
        let answer = ask(client, 100).await;
        assert_eq!(
            answer["errors"][0]["extensions"]["code"],
            "QUERY_TOO_COSTLY"
        );
        let message = text(&answer, "/errors/0/message");
        assert!(message.contains(&estimate(100).to_string()), "{message}");
    }
}
