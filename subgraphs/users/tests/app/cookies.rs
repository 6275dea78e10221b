//! The cookie that holds a browser's refresh token.

use std::collections::HashMap;

use async_graphql::{Request, Variables};
use serde_json::{Value, json};
use stoa_service::context::CallContext;
use stoa_users::graphql::{UsersSchema, schema};

use crate::fixture::{Fixture, PASSWORD};

const LOGIN: &str = "mutation ($input: LoginInput!) { done: login(input: $input) { session { refreshToken } userErrors { code field } } }";
const REFRESH: &str = "mutation ($token: String) { done: refreshSession(refreshToken: $token) { session { refreshToken } userErrors { code field } } }";
const LOGOUT: &str = "mutation { done: logout { userErrors { code } } }";

/// The payload, and the cookie that is set.
async fn send(
    schema: &UsersSchema,
    query: &str,
    variables: Value,
    cookie: Option<&str>,
) -> (Value, Option<String>) {
    let cookies = cookie.map(|token| ("stoa_refresh".to_owned(), token.to_owned()));
    let context = CallContext {
        cookies: HashMap::from_iter(cookies),
        ..CallContext::default()
    };
    let request = Request::new(query)
        .variables(Variables::from_json(variables))
        .data(context);
    let response = schema.execute(request).await;
    let set = response.http_headers.get("set-cookie");
    let set = set.map(|value| value.to_str().unwrap().to_owned());
    let body = serde_json::to_value(response).unwrap();
    (body["data"]["done"].clone(), set)
}

fn login(email: &str, password: &str) -> Value {
    json!({ "input": { "email": email, "password": password } })
}

fn token(payload: &Value) -> &str {
    payload["session"]["refreshToken"].as_str().unwrap()
}

#[tokio::test]
async fn a_sign_in_sets_the_cookie_for_seven_days_and_over_tls_where_that_is_set() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    for (is_secure, ending) in [(false, ""), (true, "; Secure")] {
        let schema = schema(shop.app.clone(), is_secure);
        let variables = login(&member.email, PASSWORD);
        let (payload, cookie) = send(&schema, LOGIN, variables, None).await;
        let expected = format!(
            "stoa_refresh={}; Path=/graphql; Max-Age=604800; HttpOnly; SameSite=Strict{ending}",
            token(&payload)
        );
        assert_eq!(cookie, Some(expected));
    }
}

#[tokio::test]
async fn what_is_refused_sets_no_cookie() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let schema = schema(shop.app.clone(), true);
    let cases = [
        (
            LOGIN,
            login(&member.email, "wrong"),
            None,
            "INVALID_CREDENTIALS",
            "input",
        ),
        (
            REFRESH,
            json!({}),
            None,
            "INVALID_REFRESH_TOKEN",
            "refreshToken",
        ),
        (
            REFRESH,
            json!({}),
            Some("nonsense"),
            "INVALID_REFRESH_TOKEN",
            "refreshToken",
        ),
    ];
    for (query, variables, given, code, field) in cases {
        let (payload, cookie) = send(&schema, query, variables, given).await;
        let errors = json!([{ "code": code, "field": [field] }]);
        assert_eq!(payload, json!({ "session": null, "userErrors": errors }));
        assert_eq!(cookie, None);
    }
}

#[tokio::test]
async fn an_argument_counts_more_than_the_cookie() {
    let shop = Fixture::new().await;
    let (one, two) = (shop.register().await, shop.register().await);
    let schema = schema(shop.app.clone(), true);
    let variables = json!({ "token": one.refresh_token });
    let (payload, _) = send(&schema, REFRESH, variables, Some(&two.refresh_token)).await;
    assert_eq!(shop.refresh(&one.refresh_token).await, None, "it is used");
    assert!(shop.refresh(token(&payload)).await.is_some());
    assert!(shop.refresh(&two.refresh_token).await.is_some());
}

#[tokio::test]
async fn a_sign_out_deletes_the_cookie_and_ends_its_session() {
    let shop = Fixture::new().await;
    let token = shop.register().await.refresh_token;
    let schema = schema(shop.app.clone(), true);
    for cookie in [Some(&*token), None] {
        let (payload, cookie) = send(&schema, LOGOUT, json!({}), cookie).await;
        assert_eq!(payload, json!({ "userErrors": [] }));
        let expected = "stoa_refresh=; Path=/graphql; Max-Age=0; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(cookie.as_deref(), Some(expected));
    }
    assert_eq!(shop.refresh(&token).await, None);
}
