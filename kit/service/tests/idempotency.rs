//! Idempotency keys over an embedded database, with a manual clock.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sea_orm::DbErr;
use stoa_migrations::OrdersMigrator;
use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_service::database::{Database, PoolOptions};
use stoa_service::idempotency::{ClaimOutcome, IdempotencyKey, LEASE, RETENTION, purge_expired};
use stoa_service::purge::BATCH;
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const MICROSECOND: Duration = Duration::from_micros(1);

struct Fixture {
    database: Database,
    clock: Clock,
    _folder: TempDir,
}

/// The key "k" of one caller, for a request with this body.
fn key(body: &str) -> IdempotencyKey {
    IdempotencyKey::new("ada", "k", "placeOrder", &body).unwrap()
}

fn done(answer: &str) -> ClaimOutcome {
    let answer = format!("\"{answer}\"");
    ClaimOutcome::Done { answer }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let database = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<OrdersMigrator>().await.unwrap();
        Self {
            database,
            clock: Clock::manual(1_800_000_000_000_000),
            _folder: folder,
        }
    }

    async fn claim(&self, key: &IdempotencyKey, subject: &str) -> ClaimOutcome {
        let txn = self.database.begin().await.unwrap();
        let claim = key.claim_in_txn(&txn, subject, self.clock.now()).await;
        txn.commit().await.unwrap();
        claim.unwrap()
    }

    /// What a claim returns that was acquired now.
    fn acquired(&self, subject: &str) -> ClaimOutcome {
        ClaimOutcome::Acquired {
            subject_id: subject.to_owned(),
            lease: self.clock.now() + micros(LEASE),
        }
    }

    async fn finish(&self, key: &IdempotencyKey, answer: &str) -> bool {
        let txn = self.database.begin().await.unwrap();
        let stored = key.finish_in_txn(&txn, &answer).await.unwrap();
        txn.commit().await.unwrap();
        stored
    }

    async fn release(&self, key: &IdempotencyKey, lease: Micros) {
        let txn = self.database.begin().await.unwrap();
        key.release_in_txn(&txn, lease).await.unwrap();
        txn.commit().await.unwrap();
    }

    async fn purge(&self) -> u64 {
        purge_expired(&self.database, self.clock.now())
            .await
            .unwrap()
    }
}

#[test]
fn a_key_has_1_to_128_characters_and_no_control_characters() {
    let is_valid = |key: &str| IdempotencyKey::new("ada", key, "placeOrder", &()).is_some();
    for good in ["k", " k ", &"k".repeat(128), &"é".repeat(128)] {
        assert!(is_valid(good), "{good:?}");
    }
    for bad in ["", "  ", "a\nb", "a\0b", &"k".repeat(129)] {
        assert!(!is_valid(bad), "{bad:?}");
    }
}

#[tokio::test]
async fn one_attempt_works_under_a_key_at_a_time() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    let first = shop.claim(&key, "order-1").await;
    assert_eq!(first, shop.acquired("order-1"));
    let second = shop.claim(&key, "order-2").await;
    assert_eq!(second, ClaimOutcome::InProgress);
    assert_eq!(second.lease(), 0, "it has none");
}

#[tokio::test]
async fn a_claim_that_is_rolled_back_was_never_made() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    let txn = shop.database.begin().await.unwrap();
    let claim = key.claim_in_txn(&txn, "order-1", shop.clock.now()).await;
    assert_eq!(claim.unwrap(), shop.acquired("order-1"));
    txn.rollback().await.unwrap();
    assert_eq!(shop.claim(&key, "order-2").await, shop.acquired("order-2"));
}

#[tokio::test]
async fn an_attempt_is_taken_over_with_its_subject_when_its_lease_ends() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    shop.claim(&key, "order-1").await;
    shop.clock.advance(LEASE - MICROSECOND);
    assert_eq!(
        shop.claim(&key, "order-2").await,
        ClaimOutcome::InProgress,
        "not yet"
    );
    shop.clock.advance(MICROSECOND);
    assert_eq!(shop.claim(&key, "order-2").await, shop.acquired("order-1"));
    assert_eq!(shop.claim(&key, "order-3").await, ClaimOutcome::InProgress);
}

#[tokio::test]
async fn a_repeated_request_gets_the_stored_response() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    shop.claim(&key, "order-1").await;
    assert!(shop.finish(&key, "placed").await);
    for _ in 0..2 {
        assert_eq!(shop.claim(&key, "order-2").await, done("placed"));
        shop.clock.advance(2 * LEASE);
    }
}

#[tokio::test]
async fn the_first_result_stays() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    shop.claim(&key, "order-1").await;
    let none = key.stored_result_in_txn(shop.database.read()).await;
    assert!(matches!(none, Err(DbErr::RecordNotFound(_))), "{none:?}");
    // Two attempts finish: the lease of the first had ended.
    assert!(shop.finish(&key, "placed").await);
    assert!(!shop.finish(&key, "refused").await);
    let stored = key.stored_result_in_txn(shop.database.read()).await;
    assert_eq!(stored.unwrap(), "\"placed\"");
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let shop = Fixture::new().await;
    let first = key("two mugs");
    let others = [
        key("three mugs"),
        IdempotencyKey::new("ada", "k", "cancelOrder", &"two mugs").unwrap(),
    ];
    shop.claim(&first, "order-1").await;
    let refused = async |when: &str| {
        for other in &others {
            let claim = shop.claim(other, "order-2").await;
            assert_eq!(claim, ClaimOutcome::Reused, "{when}");
        }
    };
    refused("in progress").await;
    shop.clock.advance(2 * LEASE);
    refused("after the lease").await;
    assert_eq!(
        shop.claim(&first, "order-2").await,
        shop.acquired("order-1")
    );
    assert!(shop.finish(&first, "placed").await);
    refused("done").await;
    assert_eq!(shop.claim(&first, "order-2").await, done("placed"));
}

#[tokio::test]
async fn each_caller_has_its_own_keys() {
    let shop = Fixture::new().await;
    let ada = key("two mugs");
    let lin = IdempotencyKey::new("lin", "k", "placeOrder", &"two mugs").unwrap();
    shop.claim(&ada, "order-1").await;
    assert!(shop.finish(&ada, "placed").await);
    assert_eq!(shop.claim(&lin, "order-2").await, shop.acquired("order-2"));
    assert!(shop.finish(&lin, "refused").await);
    assert_eq!(shop.claim(&ada, "order-3").await, done("placed"));
}

#[tokio::test]
async fn a_released_claim_is_acquired_again_at_once_with_its_subject() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    let lease = shop.claim(&key, "order-1").await.lease();
    shop.clock.advance(SECOND);
    shop.release(&key, lease).await;
    assert_eq!(shop.claim(&key, "order-2").await, shop.acquired("order-1"));
}

#[tokio::test]
async fn an_attempt_releases_its_own_claim_alone() {
    let shop = Fixture::new().await;
    let key = key("two mugs");
    let first = shop.claim(&key, "order-1").await.lease();
    shop.clock.advance(LEASE);
    let second = shop.claim(&key, "order-1").await.lease();
    shop.release(&key, first).await;
    assert_eq!(
        shop.claim(&key, "order-1").await,
        ClaimOutcome::InProgress,
        "the second attempt is still running"
    );
    assert!(shop.finish(&key, "placed").await);
    shop.release(&key, second).await;
    assert_eq!(shop.claim(&key, "order-1").await, done("placed"));
}

#[tokio::test]
async fn after_the_retention_a_key_may_be_used_for_another_request() {
    let shop = Fixture::new().await;
    let (first, second) = (key("two mugs"), key("three mugs"));
    shop.claim(&first, "order-1").await;
    assert!(shop.finish(&first, "placed").await);
    shop.clock.advance(RETENTION);
    assert_eq!(shop.claim(&second, "order-2").await, ClaimOutcome::Reused);
    shop.clock.advance(MICROSECOND);
    assert_eq!(
        shop.claim(&second, "order-2").await,
        shop.acquired("order-2")
    );
    assert_eq!(shop.claim(&first, "order-1").await, ClaimOutcome::Reused);
    assert!(shop.finish(&second, "placed again").await);
    assert_eq!(shop.claim(&second, "order-3").await, done("placed again"));
}

#[tokio::test]
async fn a_key_does_not_expire_during_an_attempt() {
    let shop = Fixture::new().await;
    let (first, second) = (key("two mugs"), key("three mugs"));
    shop.claim(&first, "order-1").await;
    shop.clock.advance(RETENTION - SECOND);
    assert_eq!(
        shop.claim(&first, "order-2").await,
        shop.acquired("order-1")
    );
    shop.clock.advance(2 * SECOND);
    assert_eq!(shop.claim(&second, "order-2").await, ClaimOutcome::Reused);
    assert_eq!(
        shop.claim(&first, "order-2").await,
        ClaimOutcome::InProgress
    );
    assert_eq!(shop.purge().await, 0, "it is in use");
    shop.clock.advance(LEASE);
    assert_eq!(
        shop.claim(&second, "order-2").await,
        shop.acquired("order-2")
    );
}

#[tokio::test]
async fn expired_keys_alone_are_purged() {
    let shop = Fixture::new().await;
    let other = |key| IdempotencyKey::new("ada", key, "placeOrder", &()).unwrap();
    let (old, recent) = (other("old"), other("recent"));
    shop.claim(&old, "order-1").await;
    shop.clock.advance(SECOND);
    shop.claim(&recent, "order-2").await;
    assert!(shop.finish(&recent, "placed").await);
    shop.clock.advance(RETENTION);
    assert_eq!(shop.purge().await, 1);
    assert_eq!(shop.purge().await, 0);
    assert_eq!(shop.claim(&recent, "order-3").await, done("placed"));
}

#[tokio::test]
async fn keys_are_purged_in_batches() {
    let shop = Fixture::new().await;
    let txn = shop.database.begin().await.unwrap();
    for number in 0..=BATCH {
        let key = IdempotencyKey::new("ada", &number.to_string(), "placeOrder", &()).unwrap();
        let claim = key.claim_in_txn(&txn, "order-1", shop.clock.now()).await;
        assert_eq!(claim.unwrap(), shop.acquired("order-1"));
    }
    txn.commit().await.unwrap();
    shop.clock.advance(RETENTION + SECOND);
    for expected in [BATCH, 1, 0] {
        assert_eq!(shop.purge().await, expected);
    }
}
