//! Accounts: from the sign-up to the deletion.

use std::time::Duration;

use stoa_runtime::identity::{Caller, Role};
use stoa_service::page::{PageRequest, encode};
use stoa_users::domain::{ProblemCode, Registration};
use stoa_users::seed::{ACCOUNTS, has_demo_password, seed};

use crate::addresses::address;
use crate::fixture::{Fixture, NOW, PASSWORD, code, problem, problems, registration, user};

const UNAUTHENTICATED: &str = "UNAUTHENTICATED";

#[tokio::test]
async fn who_signs_up_is_an_active_customer_under_a_normalized_address() {
    let shop = Fixture::new().await;
    let signed_up = shop.app.account_register(Registration {
        first_name: " Ada\u{2003}".to_owned(),
        last_name: "de  Marlow ".to_owned(),
        ..registration(" Ada.Marlow@Example.TEST\n")
    });
    let (account, _) = signed_up.await.unwrap();
    assert_eq!(account.email, "ada.marlow@example.test");
    assert_eq!(account.first_name, "Ada");
    assert_eq!(account.last_name, "de  Marlow");
    assert_eq!(account.role, Role::Customer);
    assert!(account.is_active);
    assert_eq!((account.created_at, account.updated_at), (NOW, NOW));
    let hash = &account.password_hash;
    assert!(hash.starts_with("$argon2id$") && !hash.contains(PASSWORD));
    let stored = shop.app.account_fetch_by_email(&account.email).await;
    assert_eq!(stored.unwrap(), Some(account));
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_sign_up_is_reported_at_once() {
    let shop = Fixture::new().await;
    let bad = Registration {
        email: "ada@".to_owned(),
        password: "short".to_owned(),
        first_name: " ".to_owned(),
        last_name: "x".repeat(101),
    };
    let expected = [
        ("input.email", ProblemCode::Invalid),
        ("input.password", ProblemCode::WeakPassword),
        ("input.firstName", ProblemCode::Invalid),
        ("input.lastName", ProblemCode::Invalid),
    ];
    let expected = expected.map(|(field, code)| (field.to_owned(), code));
    assert_eq!(problems(shop.app.account_register(bad).await), expected);
    assert_eq!(shop.app.account_count().await.unwrap(), 0);
}

#[tokio::test]
async fn of_two_sign_ups_at_once_one_gets_the_address() {
    let shop = Fixture::new().await;
    let sign_up = |email| shop.app.account_register(registration(email));
    let (one, two) = tokio::join!(sign_up("ada@example.test"), sign_up("ADA@example.test"));
    let (taken, refused) = match one {
        Ok(taken) => (taken, two),
        Err(_) => (two.unwrap(), one),
    };
    let expected = problem("input.email", ProblemCode::EmailTaken);
    assert_eq!(problems(refused), expected);
    assert_eq!(taken.0.email, "ada@example.test");
    let later = sign_up(" Ada@Example.Test ").await;
    assert_eq!(problems(later), expected);
    assert_eq!(shop.app.account_count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_name_that_is_not_given_stays() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    shop.clock.advance(Duration::from_secs(60));
    let rename = async |first: Option<&str>, last: Option<&str>| {
        let [first, last] = [first, last].map(|name| name.map(str::to_owned));
        shop.app.account_rename(&member.caller, first, last).await
    };
    let renamed = rename(Some(" Grace "), None).await.unwrap();
    assert_eq!(
        (&*renamed.first_name, &*renamed.last_name),
        ("Grace", "Marlow")
    );
    assert_eq!(renamed.created_at, NOW);
    assert_eq!(renamed.updated_at, NOW + 60_000_000);

    let refused = problems(rename(Some(""), Some("a\nb")).await);
    let expected = ["input.firstName", "input.lastName"];
    assert_eq!(
        refused,
        expected.map(|field| (field.to_owned(), ProblemCode::Invalid))
    );
    let half = problems(rename(Some("Ada"), Some(" ")).await);
    assert_eq!(half, problem("input.lastName", ProblemCode::Invalid));
    let stored = shop.app.account_fetch_by_email(&member.email).await;
    assert_eq!(stored.unwrap(), Some(renamed));
}

#[tokio::test]
async fn a_deletion_erases_personal_data_and_ends_every_session() {
    let shop = Fixture::new().await;
    let (member, other) = (shop.register().await, shop.register().await);
    let login = shop.app.session_login(&member.email, PASSWORD).await;
    let elsewhere = login.unwrap().1.refresh_token;
    for caller in [&member.caller, &other.caller] {
        let saved = shop.app.address_add(caller, address("Berlin"), false).await;
        saved.unwrap();
    }
    shop.clock.advance(Duration::from_secs(60));
    let deleted = shop.app.account_delete(&member.caller).await.unwrap();
    assert_eq!(deleted.id, member.id);
    assert!(!deleted.is_active);
    assert!(
        deleted.email.ends_with("@deleted.invalid"),
        "{}",
        deleted.email
    );
    assert_eq!(
        (&*deleted.first_name, &*deleted.last_name),
        ("Deleted", "account")
    );
    assert_eq!(deleted.updated_at, NOW + 60_000_000);
    let ids = [member.id.clone(), other.id.clone()];
    let stored = shop.app.account_fetch_many(&ids).await.unwrap();
    assert_eq!(stored[&member.id], deleted);
    assert_eq!(stored[&other.id].email, other.email);

    for token in [&member.refresh_token, &elsewhere] {
        assert_eq!(shop.refresh(token).await, None);
    }
    let open = shop.rows("session WHERE revoked_at IS NULL").await;
    assert_eq!(open, 1, "that of the other account");
    for email in [&member.email, &deleted.email] {
        for password in [PASSWORD, "!"] {
            let refused = shop.app.session_login(email, password).await;
            let expected = problem("input", ProblemCode::InvalidCredentials);
            assert_eq!(problems(refused), expected, "{email}");
        }
    }
    let books = shop.app.address_fetch_many(&ids).await.unwrap();
    assert_eq!(books.get(&member.id), None);
    assert_eq!(books[&other.id].len(), 1);
    assert!(shop.refresh(&other.refresh_token).await.is_some());
}

#[tokio::test]
async fn an_account_is_changed_by_its_signed_in_and_active_user_alone() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let saved = shop
        .app
        .address_add(&member.caller, address("Berlin"), true)
        .await;
    let id = saved.unwrap().id;
    shop.app.account_delete(&member.caller).await.unwrap();
    let name = "orders".to_owned();
    // The access token of a deleted account is valid for up to 15 minutes.
    let callers = [member.caller, Caller::Anonymous, Caller::Service { name }];
    for caller in &callers {
        let app = &shop.app;
        let first = Some("Grace".to_owned());
        let codes = [
            code(app.account_rename(caller, first, None).await),
            code(app.account_delete(caller).await),
            code(app.address_add(caller, address("Rome"), false).await),
            code(app.address_update(caller, &id, None, Some(true)).await),
            code(app.address_remove(caller, &id).await),
        ];
        assert_eq!(codes, [UNAUTHENTICATED; 5], "{caller:?}");
    }
}

#[tokio::test]
async fn administrators_alone_list_accounts() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let name = "orders".to_owned();
    let list = async |caller: &Caller| {
        let listed = shop.app.account_list(caller, &PageRequest::default()).await;
        listed.map(|page| page.rows.len())
    };
    let cases = [
        (Caller::Anonymous, UNAUTHENTICATED),
        (Caller::Service { name }, "FORBIDDEN"),
        (member.caller, "FORBIDDEN"),
    ];
    for (caller, expected) in cases {
        assert_eq!(code(list(&caller).await), expected, "{caller:?}");
    }
    let admin = user(&member.id, Role::Admin);
    assert_eq!(list(&admin).await.unwrap(), 1);
}

#[tokio::test]
async fn accounts_are_listed_from_the_newest_page_by_page() {
    let shop = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, shop.register().await.id);
    }
    let admin = user(&ids[0], Role::Admin);
    let list = async |first: i32, after: Option<String>| {
        let first = Some(first);
        let request = PageRequest { first, after };
        shop.app.account_list(&admin, &request).await
    };
    let page = list(2, None).await.unwrap();
    let found: Vec<_> = page.rows.into_iter().map(|account| account.id).collect();
    assert_eq!(found, ids[..2]);
    assert_eq!((page.has_next, page.has_previous), (true, false));
    let page = list(2, Some(encode(&ids[1]))).await.unwrap();
    let found: Vec<_> = page.rows.into_iter().map(|account| account.id).collect();
    assert_eq!(found, ids[2..]);
    assert_eq!((page.has_next, page.has_previous), (false, true));

    let cases = [(101, None), (-1, None), (2, Some("nonsense".to_owned()))];
    for (first, after) in cases {
        assert_eq!(code(list(first, after).await), "BAD_USER_INPUT", "{first}");
    }
}

#[tokio::test]
async fn demo_accounts_are_created_once_and_known_while_one_is_active() {
    let shop = Fixture::new().await;
    assert_eq!(has_demo_password(&shop.app).await.unwrap(), None);
    let ids = seed(&shop.app).await.unwrap();
    assert_eq!(seed(&shop.app).await.unwrap(), ids);
    let accounts = shop.app.account_fetch_many(&ids).await.unwrap();
    assert_eq!(shop.app.account_count().await.unwrap(), 3);
    for (id, (email, .., role)) in ids.iter().zip(ACCOUNTS) {
        assert_eq!((&*accounts[id].email, accounts[id].role), (email, role));
        let found = has_demo_password(&shop.app).await.unwrap();
        assert_eq!(found, Some(email));
        shop.app.account_delete(&user(id, role)).await.unwrap();
    }
    assert_eq!(has_demo_password(&shop.app).await.unwrap(), None);
}
