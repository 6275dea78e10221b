//! Address books.

use stoa_runtime::identity::{Caller, Role};
use stoa_schema::address::Address;
use stoa_users::domain::{MAX_ADDRESSES, ProblemCode, SavedAddress};

use crate::fixture::{Fixture, Member, problem, problems, user};

pub fn address(city: &str) -> Address {
    Address {
        full_name: Some("Ada Marlow".to_owned()),
        line1: "Long Lane 1".to_owned(),
        line2: None,
        city: city.to_owned(),
        region: None,
        postal_code: "10115".to_owned(),
        country: "DE".to_owned(),
    }
}

async fn add(shop: &Fixture, caller: &Caller, city: &str, is_default: bool) -> SavedAddress {
    let added = shop.app.address_add(caller, address(city), is_default);
    added.await.unwrap()
}

async fn book(shop: &Fixture, member: &Member) -> Vec<SavedAddress> {
    let ids = [member.id.clone()];
    let mut books = shop.app.address_fetch_many(&ids).await.unwrap();
    books.remove(&member.id).unwrap_or_default()
}

/// Each city, and whether its address is the default.
async fn defaults(shop: &Fixture, member: &Member) -> Vec<(String, bool)> {
    let saved = book(shop, member).await.into_iter();
    saved
        .map(|saved| (saved.address.city, saved.is_default))
        .collect()
}

#[tokio::test]
async fn the_first_address_is_the_default_until_another_is_chosen() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let caller = &member.caller;
    let check = async |expected: &[(&str, bool)]| {
        let found = defaults(&shop, &member).await;
        let found: Vec<_> = found.iter().map(|(city, is)| (&**city, *is)).collect();
        assert_eq!(found, expected);
    };
    let berlin = add(&shop, caller, "Berlin", false).await;
    assert!(berlin.is_default);
    assert!(!add(&shop, caller, "Rome", false).await.is_default);
    check(&[("Berlin", true), ("Rome", false)]).await;
    let oslo = add(&shop, caller, "Oslo", true).await;
    check(&[("Berlin", false), ("Rome", false), ("Oslo", true)]).await;

    let choose = async |id: &str, is_default| {
        let changed = shop.app.address_update(caller, id, None, Some(is_default));
        changed.await.unwrap().is_default
    };
    assert!(choose(&berlin.id, true).await);
    check(&[("Berlin", true), ("Rome", false), ("Oslo", false)]).await;
    assert!(!choose(&oslo.id, false).await);
    check(&[("Berlin", true), ("Rome", false), ("Oslo", false)]).await;
    assert!(!choose(&berlin.id, false).await);
    check(&[("Berlin", false), ("Rome", false), ("Oslo", false)]).await;
}

#[tokio::test]
async fn the_default_of_one_book_leaves_the_others_alone() {
    let shop = Fixture::new().await;
    let (member, other) = (shop.register().await, shop.register().await);
    add(&shop, &other.caller, "Rome", true).await;
    let berlin = add(&shop, &member.caller, "Berlin", true).await;
    let again = shop
        .app
        .address_update(&member.caller, &berlin.id, None, Some(true));
    again.await.unwrap();
    assert_eq!(defaults(&shop, &other).await, [("Rome".to_owned(), true)]);
}

#[tokio::test]
async fn an_update_changes_what_is_given() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let berlin = add(&shop, &member.caller, "Berlin", false).await;
    let rome = add(&shop, &member.caller, "Rome", false).await;
    let update = shop
        .app
        .address_update(&member.caller, &berlin.id, Some(address("Bonn")), None);
    let bonn = update.await.unwrap();
    let expected = SavedAddress {
        address: address("Bonn"),
        ..berlin
    };
    assert_eq!(bonn, expected);
    assert_eq!(book(&shop, &member).await, [expected, rome]);
}

#[tokio::test]
async fn everything_that_is_wrong_with_an_address_is_reported_at_once() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let saved = add(&shop, &member.caller, "Berlin", false).await;
    let bad = Address {
        line1: " ".to_owned(),
        region: Some("a\nb".to_owned()),
        postal_code: "1".repeat(21),
        country: "Germany".to_owned(),
        ..address("Berlin")
    };
    let fields = [
        "input.line1",
        "input.postalCode",
        "input.region",
        "input.country",
    ];
    let expected = fields.map(|field| (field.to_owned(), ProblemCode::Invalid));
    let added = shop.app.address_add(&member.caller, bad.clone(), true);
    assert_eq!(problems(added.await), expected);
    let updated = shop
        .app
        .address_update(&member.caller, &saved.id, Some(bad), None);
    assert_eq!(problems(updated.await), expected);
    assert_eq!(book(&shop, &member).await, [saved]);
}

#[tokio::test]
async fn the_address_of_another_user_is_not_found_even_by_an_administrator() {
    let shop = Fixture::new().await;
    let (member, other) = (shop.register().await, shop.register().await);
    let saved = add(&shop, &member.caller, "Berlin", false).await;
    let own = add(&shop, &other.caller, "Rome", false).await;
    let not_found = problem("id", ProblemCode::NotFound);
    for caller in [
        user(&other.id, Role::Customer),
        user(&other.id, Role::Admin),
    ] {
        for id in [&*saved.id, "nonsense", ""] {
            let change = Some(address("Oslo"));
            let updated = shop.app.address_update(&caller, id, change, Some(true));
            assert_eq!(problems(updated.await), not_found, "{id}");
            let removed = shop.app.address_remove(&caller, id).await;
            assert_eq!(problems(removed), not_found, "{id}");
        }
    }
    assert_eq!(book(&shop, &member).await, [saved]);
    assert_eq!(book(&shop, &other).await, [own]);
}

#[tokio::test]
async fn an_address_is_removed_once_and_no_other_with_it() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    let berlin = add(&shop, &member.caller, "Berlin", false).await;
    let rome = add(&shop, &member.caller, "Rome", false).await;
    let remove = async || shop.app.address_remove(&member.caller, &berlin.id).await;
    assert_eq!(remove().await.unwrap(), berlin);
    assert_eq!(
        problems(remove().await),
        problem("id", ProblemCode::NotFound)
    );
    assert_eq!(book(&shop, &member).await, [rome]);
}

#[tokio::test]
async fn two_additions_at_once_do_not_exceed_the_limit_of_a_book() {
    let shop = Fixture::new().await;
    let member = shop.register().await;
    for number in 1..MAX_ADDRESSES {
        add(&shop, &member.caller, &format!("City {number}"), false).await;
    }
    let more = || {
        shop.app
            .address_add(&member.caller, address("Berlin"), false)
    };
    let (one, two) = tokio::join!(more(), more());
    let (added, refused) = match one {
        Ok(added) => (added, two),
        Err(_) => (two.unwrap(), one),
    };
    let full = problem("input", ProblemCode::Invalid);
    assert_eq!(problems(refused), full);
    assert_eq!(problems(more().await), full);
    assert_eq!(book(&shop, &member).await.len(), MAX_ADDRESSES);

    let removed = shop.app.address_remove(&member.caller, &added.id).await;
    assert_eq!(removed.unwrap(), added);
    more().await.unwrap();
}
