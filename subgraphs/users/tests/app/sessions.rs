//! Sessions over time.

use std::collections::HashSet;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use stoa_users::Error;
use stoa_users::domain::{ProblemCode, REFRESH_TTL};
use stoa_users::token::{AUDIENCE, ISSUER, SigningKey, generate_signing_key};

use crate::fixture::{Fixture, NOW, PASSWORD, problem, problems};

/// The claims of an access token that verifies with a public key.
fn claims(token: &str, jwks: &Value) -> Option<Value> {
    let public = jwks["keys"][0]["x"].as_str().unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    // The test has a clock of its own.
    validation.validate_exp = false;
    let key = DecodingKey::from_ed_components(public).unwrap();
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?;
    assert_eq!(
        decoded.header.kid.as_deref(),
        jwks["keys"][0]["kid"].as_str()
    );
    Some(decoded.claims)
}

#[tokio::test]
async fn an_address_signs_in_however_it_is_written() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let email = format!(" {}\n", member.email.to_uppercase());
    let (account, session) = shop.app.session_login(&email, PASSWORD).await.unwrap();
    assert_eq!(account.id, member.id);
    assert_ne!(session.refresh_token, member.refresh_token);
    assert!(shop.refresh(&session.refresh_token).await.is_some());
}

#[tokio::test]
async fn a_refused_sign_in_does_not_say_why() {
    let shop = Fixture::new().await;
    let email = shop.register().await.email;
    let long = "x".repeat(201);
    let with_nul = format!("{email}\0");
    let cases = [
        (&*email, "another long secret"),
        (&*email, &PASSWORD.to_uppercase()),
        (&*email, ""),
        (&*email, &long),
        (&*with_nul, PASSWORD),
        ("nobody@example.test", PASSWORD),
        // What the hash is of that is verified when there is no account.
        ("nobody@example.test", "no account has this password"),
        ("", ""),
    ];
    let mut said = HashSet::new();
    for (email, password) in cases {
        let refused = shop.app.session_login(email, password).await;
        let Err(Error::Invalid(found)) = &refused else {
            panic!("{email:?} {password:?}: {refused:?}");
        };
        said.insert(found[0].message.clone());
        let expected = problem("input", ProblemCode::InvalidCredentials);
        assert_eq!(problems(refused), expected, "{email:?} {password:?}");
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(shop.rows("session").await, 1, "that of the registration");
}

#[tokio::test]
async fn a_deactivated_account_neither_signs_in_nor_refreshes() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    shop.run("UPDATE account SET is_active = FALSE").await;
    let refused = shop.app.session_login(&member.email, PASSWORD).await;
    let expected = problem("input", ProblemCode::InvalidCredentials);
    assert_eq!(problems(refused), expected);
    let matches = shop.app.password_matches(&member.email, PASSWORD).await;
    assert!(!matches.unwrap());
    assert_eq!(shop.refresh(&member.refresh_token).await, None);

    shop.run("UPDATE account SET is_active = TRUE").await;
    let back = shop.app.session_login(&member.email, PASSWORD).await;
    assert_eq!(back.unwrap().0.id, member.id);
    let kept = shop.refresh(&member.refresh_token).await;
    assert!(kept.is_some(), "a refused refresh does not use the token");
}

#[tokio::test]
async fn an_access_token_names_its_user_and_lasts_15_minutes() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let login = shop.app.session_login(&member.email, PASSWORD).await;
    let (_, session) = login.unwrap();
    let claims_of = claims(&session.access_token, &shop.jwks).unwrap();
    let begin = NOW / 1_000_000;
    let expected = json!({
        "iss": "stoa",
        "aud": "stoa",
        "sub": member.id,
        "role": "CUSTOMER",
        "sid": claims_of["sid"],
        "iat": begin,
        "exp": begin + 15 * 60,
    });
    assert_eq!(claims_of, expected);
    assert_eq!(session.expires_at, NOW + 15 * 60 * 1_000_000);

    let other = SigningKey::from_pem(&generate_signing_key()).unwrap();
    assert_eq!(claims(&session.access_token, &other.jwks()), None);
}

#[tokio::test]
async fn a_refresh_replaces_both_tokens_within_the_session() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let login = shop.app.session_login(&member.email, PASSWORD).await;
    let (_, first) = login.unwrap();
    shop.clock.advance(Duration::from_secs(60));
    let refreshed = shop.app.session_refresh(&first.refresh_token).await;
    let (account, second) = refreshed.unwrap();
    assert_eq!(account.id, member.id);
    assert_ne!(second.refresh_token, first.refresh_token);
    let claims = |token: &str| claims(token, &shop.jwks).unwrap();
    let (before, after) = (claims(&first.access_token), claims(&second.access_token));
    assert_eq!(before["sid"], after["sid"]);
    let expiries = [&before, &after].map(|claims| claims["exp"].as_i64().unwrap());
    assert_eq!(expiries[1] - expiries[0], 60);
}

#[tokio::test]
async fn a_new_role_is_in_the_next_token() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let refresh = async |token: &str| {
        let (_, session) = shop.app.session_refresh(token).await.unwrap();
        let claims = claims(&session.access_token, &shop.jwks).unwrap();
        (claims["role"].clone(), session.refresh_token)
    };
    let (role, token) = refresh(&member.refresh_token).await;
    assert_eq!(role, "CUSTOMER");
    shop.run("UPDATE account SET role = 'ADMIN'").await;
    let (role, token) = refresh(&token).await;
    assert_eq!(role, "ADMIN");
    shop.run("UPDATE account SET role = 'CUSTOMER'").await;
    assert_eq!(refresh(&token).await.0, "CUSTOMER");
}

#[tokio::test]
async fn a_token_used_twice_ends_its_session_and_no_other() {
    let shop = Fixture::new().await;
    let stolen = shop.register().await.refresh_token;
    let other = shop.register().await.refresh_token;
    let next = shop.refresh(&stolen).await.unwrap();
    // Two tabs at once: refused, but nothing is ended.
    shop.clock.advance(Duration::from_secs(9));
    assert_eq!(shop.refresh(&stolen).await, None);
    let next = shop.refresh(&next).await.unwrap();
    // Later it is treated as theft, whichever of the two comes second.
    shop.clock.advance(Duration::from_secs(11));
    assert_eq!(shop.refresh(&stolen).await, None);
    assert_eq!(shop.refresh(&next).await, None, "the session is ended");
    assert!(shop.refresh(&other).await.is_some());
}

#[tokio::test]
async fn a_refresh_token_lasts_seven_days_and_is_renewed_by_use() {
    let shop = Fixture::new().await;
    let mut token = shop.register().await.refresh_token;
    for _ in 0..3 {
        shop.clock.advance(REFRESH_TTL - Duration::from_secs(1));
        token = shop.refresh(&token).await.unwrap();
    }
    shop.clock.advance(REFRESH_TTL);
    assert_eq!(shop.refresh(&token).await, None);
}

#[tokio::test]
async fn a_used_token_is_remembered_until_it_expires() {
    let shop = Fixture::new().await;
    let first = shop.register().await.refresh_token;
    shop.clock.advance(Duration::from_secs(3600));
    let second = shop.refresh(&first).await.unwrap();
    shop.clock
        .advance(REFRESH_TTL - Duration::from_secs(3600) - Duration::from_secs(1));
    shop.app.tokens_purge_expired().await.unwrap();
    assert_eq!(shop.rows("refresh_token").await, 2);
    shop.clock.advance(Duration::from_secs(2));
    shop.app.tokens_purge_expired().await.unwrap();
    assert_eq!(shop.rows("refresh_token").await, 1);
    assert_eq!(shop.refresh(&first).await, None, "it is unknown");
    let third = shop.refresh(&second).await.unwrap();

    // A purge does not make the theft of one that has not expired go unnoticed.
    shop.app.tokens_purge_expired().await.unwrap();
    shop.clock.advance(Duration::from_secs(11));
    assert_eq!(shop.refresh(&second).await, None);
    assert_eq!(shop.refresh(&third).await, None, "the session is ended");
}

#[tokio::test]
async fn a_sign_out_ends_its_session_alone() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let login = shop.app.session_login(&member.email, PASSWORD).await;
    let elsewhere = login.unwrap().1.refresh_token;
    shop.app
        .session_logout(&member.refresh_token)
        .await
        .unwrap();
    assert_eq!(shop.refresh(&member.refresh_token).await, None);
    assert!(shop.refresh(&elsewhere).await.is_some());
}

#[tokio::test]
async fn a_sign_out_with_a_used_token_ends_the_session_too() {
    let shop = Fixture::new().await;
    let first = shop.register().await.refresh_token;
    let second = shop.refresh(&first).await.unwrap();
    for _ in 0..2 {
        shop.app.session_logout(&first).await.unwrap();
        assert_eq!(shop.refresh(&second).await, None);
    }
}

#[tokio::test]
async fn a_sign_out_with_an_unknown_token_ends_nothing() {
    let shop = Fixture::new().await;
    let token = shop.register().await.refresh_token;
    for unknown in ["", "nonsense"] {
        shop.app.session_logout(unknown).await.unwrap();
    }
    assert!(shop.refresh(&token).await.is_some());
}
