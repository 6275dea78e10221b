//! Sessions over time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use stoa_migrations::UsersMigrator;
use stoa_runtime::clock::Clock;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::error::CodedError;
use stoa_users::domain::{REFRESH_TTL, Registration};
use stoa_users::token::{SigningKey, generate_signing_key};
use stoa_users::{App, Error};
use tempfile::TempDir;

struct Fixture {
    app: App,
    clock: Clock,
    _folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        let database = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<UsersMigrator>().await.unwrap();
        let clock = Clock::manual(1_800_000_000_000_000);
        let key = SigningKey::from_pem(&generate_signing_key()).unwrap();
        let app = App::new(database, clock.clone(), key);
        Self {
            app,
            clock,
            _folder: folder,
        }
    }

    /// Registers an account; returns its first refresh token.
    async fn register(&self) -> String {
        let registration = Registration {
            email: format!("{}@example.test", stoa_schema::ids::new_id()),
            password: "a long enough secret".into(),
            first_name: "A".into(),
            last_name: "B".into(),
        };
        let (_, session) = self.app.account_register(registration).await.unwrap();
        session.refresh_token
    }

    async fn refresh(&self, token: &str) -> Option<String> {
        match self.app.session_refresh(token).await {
            Ok((_, session)) => Some(session.refresh_token),
            Err(Error::Invalid(_)) => None,
            Err(error) => unreachable!("{}", error.code()),
        }
    }
}

#[tokio::test]
async fn a_token_used_twice_ends_its_session_and_no_other() {
    let shop = Fixture::new().await;
    let (stolen, other) = (shop.register().await, shop.register().await);
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
    let mut token = shop.register().await;
    for _ in 0..3 {
        shop.clock.advance(REFRESH_TTL - Duration::from_secs(1));
        token = shop.refresh(&token).await.unwrap();
    }
    shop.clock.advance(REFRESH_TTL);
    assert_eq!(shop.refresh(&token).await, None);
}
