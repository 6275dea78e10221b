//! Accounts and sessions.

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::{Client, Shop};

use crate::support::{key, new_customer, user_error};

const REGISTER: &str = "mutation ($input: RegisterInput!) { register(input: $input) { user { id email role isActive } session { accessToken expiresAt refreshToken } userErrors { field code message } } }";
const LOGIN: &str = "mutation ($input: LoginInput!) { login(input: $input) { user { id } session { accessToken refreshToken } userErrors { field code } } }";
const REFRESH: &str = "mutation ($token: String) { refreshSession(refreshToken: $token) { user { id } session { accessToken refreshToken } userErrors { code } } }";

fn person(email: &str, password: &str) -> Value {
    json!({ "input": { "email": email, "password": password, "firstName": "Grace", "lastName": "Hill" } })
}

pub async fn register_sign_in_refresh_and_sign_out(shop: &Shop) {
    let anonymous = shop.client();
    let email = format!("{}@example.test", key());
    let response = anonymous
        .raw(REGISTER, person(&email, "a long enough secret"))
        .await;
    let cookie = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.starts_with("stoa_refresh=")
            && cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["data"]["register"]["user"]["email"], email.as_str());
    assert_eq!(answer["data"]["register"]["user"]["role"], "CUSTOMER");

    let client = anonymous
        .sign_in(&email.to_uppercase(), "a long enough secret")
        .await;
    let me = client.ok("{ me { email firstName } }", json!({})).await;
    assert_eq!(me["me"], json!({ "email": email, "firstName": "Grace" }));
    let renamed = client
        .ok("mutation { updateProfile(input: { firstName: \" Ada \" }) { user { firstName lastName } userErrors { code } } }", json!({}))
        .await;
    assert_eq!(
        renamed["updateProfile"]["user"],
        json!({ "firstName": "Ada", "lastName": "Hill" })
    );

    // The refresh token is accepted as argument, and as cookie alone.
    let first = text(&answer, "/data/register/session/refreshToken");
    let second = anonymous.ok(REFRESH, json!({ "token": first })).await;
    let second = text(&second, "/refreshSession/session/refreshToken");
    assert_ne!(first, second);
    let by_cookie = anonymous
        .http
        .post(format!("{}/graphql", shop.url))
        .header("cookie", format!("other=1; stoa_refresh={second}"))
        .json(&json!({ "query": REFRESH }))
        .send()
        .await
        .unwrap();
    assert!(
        by_cookie.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .starts_with("stoa_refresh=")
    );
    let by_cookie: Value = by_cookie.json().await.unwrap();
    let third = text(&by_cookie, "/data/refreshSession/session/refreshToken");

    let out = anonymous
        .ok(
            "mutation ($token: String) { logout(refreshToken: $token) { userErrors { code } } }",
            json!({ "token": third }),
        )
        .await;
    assert_eq!(out["logout"]["userErrors"], json!([]));
    let after = anonymous.ok(REFRESH, json!({ "token": third })).await;
    assert_eq!(
        user_error(&after["refreshSession"]),
        "INVALID_REFRESH_TOKEN"
    );
}

pub async fn a_stolen_refresh_token_is_worth_nothing(shop: &Shop) {
    let anonymous = shop.client();
    let email = format!("{}@example.test", key());
    let answer = anonymous
        .ok(REGISTER, person(&email, "a long enough secret"))
        .await;
    let stolen = text(&answer, "/register/session/refreshToken");
    // Of concurrent uses of one refresh token, exactly one gets a session.
    let tries = (0..8).map(|_| {
        let (client, stolen) = (anonymous.clone(), stolen.clone());
        tokio::spawn(async move { client.ok(REFRESH, json!({ "token": stolen })).await })
    });
    let mut got = 0;
    for answer in futures_util::future::join_all(tries).await {
        got += usize::from(!answer.unwrap()["refreshSession"]["session"].is_null());
    }
    assert_eq!(got, 1);
}

pub async fn bad_input_changes_nothing(shop: &Shop) {
    let anonymous = shop.client();
    let admin = shop.sign_in("admin").await;
    let long = "x".repeat(101);
    let cases = [
        (
            person("not an address", "a long enough secret"),
            "INVALID",
            "email",
        ),
        (
            person("ada@stoa.test", "a long enough secret"),
            "EMAIL_TAKEN",
            "email",
        ),
        (
            person("ADA@stoa.test ", "a long enough secret"),
            "EMAIL_TAKEN",
            "email",
        ),
        (
            person("new@example.test", "short"),
            "WEAK_PASSWORD",
            "password",
        ),
        (
            person("new@example.test", "password123"),
            "WEAK_PASSWORD",
            "password",
        ),
        (
            json!({ "input": { "email": "new@example.test", "password": "a long enough secret", "firstName": "", "lastName": "B" } }),
            "INVALID",
            "firstName",
        ),
        (
            json!({ "input": { "email": "new@example.test", "password": "a long enough secret", "firstName": "A", "lastName": long } }),
            "INVALID",
            "lastName",
        ),
    ];
    for (variables, code, field) in cases {
        let data = anonymous.ok(REGISTER, variables.clone()).await;
        let payload = &data["register"];
        assert_eq!(user_error(payload), code, "{variables}");
        assert_eq!(payload["userErrors"][0]["field"], json!(["input", field]));
        assert!(payload["user"].is_null() && payload["session"].is_null());
    }
    // None of the rejected registrations has created an account.
    let found = admin
        .ok("{ users(first: 100) { nodes { email } } }", json!({}))
        .await;
    let nobody = |email: &str| {
        let nodes = found["users"]["nodes"].as_array().unwrap();
        !nodes.iter().any(|node| node["email"] == email)
    };
    assert!(nobody("new@example.test"));
    for (email, password) in [
        ("ada@stoa.test", "wrong password"),
        ("nobody@stoa.test", "stoa-demo-password"),
        ("ada@stoa.test", ""),
    ] {
        let data = anonymous
            .ok(
                LOGIN,
                json!({ "input": { "email": email, "password": password } }),
            )
            .await;
        assert_eq!(user_error(&data["login"]), "INVALID_CREDENTIALS");
    }
    for token in ["", "nonsense"] {
        let data = anonymous.ok(REFRESH, json!({ "token": token })).await;
        assert_eq!(user_error(&data["refreshSession"]), "INVALID_REFRESH_TOKEN");
    }
    assert_eq!(
        anonymous
            .code(
                "mutation { updateProfile(input: { firstName: \"A\" }) { user { id } } }",
                json!({})
            )
            .await,
        "UNAUTHENTICATED"
    );
}

pub async fn others_see_little(shop: &Shop) {
    let anonymous = shop.client();
    let (ada, lin) = (shop.sign_in("ada").await, shop.sign_in("lin").await);
    let admin = shop.sign_in("admin").await;
    let user = "query ($id: ID!) { user(id: $id) { firstName email orders { totalCount } notifications { totalCount } } }";
    let id = json!({ "id": ada.user_id });
    assert_eq!(anonymous.code(user, id.clone()).await, "UNAUTHENTICATED");
    let seen = lin.query(user, id.clone()).await;
    assert_eq!(
        seen["data"]["user"],
        json!({ "firstName": "Ada", "email": null, "orders": null, "notifications": null })
    );
    let errors = seen["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{seen:#}");
    for error in errors {
        assert_eq!(error["extensions"]["code"], "FORBIDDEN");
        assert_eq!(error["path"][0], "user");
    }
    let whole = admin.ok(user, id).await;
    assert_eq!(whole["user"]["email"], "ada@stoa.test");
    for (client, code) in [(&lin, "FORBIDDEN"), (&anonymous, "UNAUTHENTICATED")] {
        assert_eq!(
            client.code("{ users { totalCount } }", json!({})).await,
            code
        );
        assert_eq!(
            client.code("{ orders { totalCount } }", json!({})).await,
            code
        );
    }
    assert_eq!(
        anonymous.ok("{ me { id } }", json!({})).await["me"],
        Value::Null
    );
}

pub async fn a_deleted_account_is_gone(shop: &Shop) {
    let anonymous = shop.client();
    let email = format!("{}@example.test", key());
    let answer = anonymous
        .ok(REGISTER, person(&email, "a long enough secret"))
        .await;
    let refresh = text(&answer, "/register/session/refreshToken");
    let client = Client {
        token: Some(text(&answer, "/register/session/accessToken")),
        ..anonymous.clone()
    };
    let gone = client
        .ok(
            "mutation { deleteAccount { user { isActive firstName } userErrors { code } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        gone["deleteAccount"]["user"],
        json!({ "isActive": false, "firstName": "Deleted" })
    );
    let data = anonymous
        .ok(
            LOGIN,
            json!({ "input": { "email": email, "password": "a long enough secret" } }),
        )
        .await;
    assert_eq!(user_error(&data["login"]), "INVALID_CREDENTIALS");
    let data = anonymous.ok(REFRESH, json!({ "token": refresh })).await;
    assert_eq!(user_error(&data["refreshSession"]), "INVALID_REFRESH_TOKEN");
    // The e-mail address can be registered again.
    new_customer(&anonymous).await;
    let again = anonymous
        .ok(REGISTER, person(&email, "a long enough secret"))
        .await;
    assert_eq!(again["register"]["userErrors"], json!([]));
}
