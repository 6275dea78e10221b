//! Contract tests of cache, rate limits and database: each runs on the embedded and on
//! the real backend. The bus is tested in `bus.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use sea_orm::{ConnectionTrait, Statement};
use stoa_migrations::OrdersMigrator;
use stoa_router::rate_limit::Limiter;
use stoa_router::{Config, RateLimits};
use stoa_runtime::redis::Redis;
use stoa_service::bus::{Bus, BusError, Publish};
use stoa_service::cache::{Cache, Region};
use stoa_service::database::{Database, PoolOptions, is_unavailable};
use stoa_service::nats_bus::{NatsBus, NatsOptions};
use stoa_tests::poll::eventually;
use stoa_tests::{Servers, servers};

/// A temporary folder, with servers in it if the backend is real.
struct TestBackend {
    folder: PathBuf,
    servers: Option<Servers>,
}

impl TestBackend {
    fn embedded() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("stoa-backends-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self {
            folder,
            servers: None,
        })
    }

    fn real(which: &[&str]) -> Option<Self> {
        if !servers::available() {
            return None;
        }
        let mut place = Self::embedded()?;
        place.servers = Some(Servers::start_some(&place.folder.join("servers"), which));
        Some(place)
    }

    fn redis(&self) -> Option<Redis> {
        let url = self.servers.as_ref()?.redis();
        Some(Redis::open("STOA_CACHE_URL", url, None).unwrap())
    }

    /// A separate handle, as another process would have it.
    fn cache(&self) -> Cache {
        self.redis().map_or_else(Cache::memory, Cache::Redis)
    }

    fn database_url(&self) -> String {
        match &self.servers {
            Some(servers) => servers.database("orders"),
            None => format!("sqlite://{}", self.folder.join("orders.db").display()),
        }
    }

    async fn database(&self) -> Database {
        let database = Database::connect(&self.database_url(), &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<OrdersMigrator>().await.unwrap();
        database
    }
}

impl Drop for TestBackend {
    fn drop(&mut self) {
        self.servers = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

macro_rules! contract {
    ($($which:literal: $($name:ident),+;)+) => {
        mod embedded {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(place) = super::TestBackend::embedded() { super::$name(place).await }
            })+)+
        }
        mod real {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(place) = super::TestBackend::real(&[$which]) { super::$name(place).await }
            })+)+
        }
    };
}

contract! {
    "redis": a_value_is_loaded_once_and_expires, a_change_hides_what_was_read_before_it,
        an_allowance_is_a_burst_that_refills;
    "postgres": sixty_four_take_what_ten_can_have, a_transaction_is_all_or_nothing;
}

/// Reads through a cache region, counting the loads.
async fn read(region: &Region, key: &str, loads: &AtomicU32) -> u32 {
    region
        .fetch(key, async || {
            Ok::<u32, ()>(loads.fetch_add(1, Ordering::SeqCst) + 1)
        })
        .await
        .unwrap()
}

async fn a_value_is_loaded_once_and_expires(place: TestBackend) {
    let loads = AtomicU32::new(0);
    let region = place.cache().region("test", Duration::from_secs(1));
    assert_eq!(read(&region, "a", &loads).await, 1);
    assert_eq!(read(&region, "a", &loads).await, 1);
    assert_eq!(read(&region, "b", &loads).await, 2);
    if place.servers.is_some() {
        // Another replica finds the cached value.
        let other = place.cache().region("test", Duration::from_secs(1));
        assert_eq!(read(&other, "a", &loads).await, 1);
    }
    // Of many keys, only the missing ones are loaded.
    let keys = ["a", "b", "c"].map(str::to_owned);
    let found = region
        .fetch_many(&keys, async |missing: &[String]| {
            assert_eq!(missing, ["c"]);
            Ok::<_, ()>(HashMap::from([("c".to_owned(), 9_u32)]))
        })
        .await
        .unwrap();
    assert_eq!((found["a"], found["b"], found["c"]), (1, 2, 9));
    eventually("it expires", async || read(&region, "a", &loads).await != 1).await;
    assert_eq!(read(&region, "a", &loads).await, 3);
}

async fn a_change_hides_what_was_read_before_it(place: TestBackend) {
    let loads = AtomicU32::new(0);
    let cache = place.cache();
    let region = cache.region("test", Duration::from_secs(60));
    assert_eq!(read(&region, "a", &loads).await, 1);
    region.invalidate().await;
    assert_eq!(read(&region, "a", &loads).await, 2);
    // Forced interleaving: the value changes while the old one is being loaded.
    let writer = region.clone();
    let old: u32 = region
        .fetch("b", async || {
            writer.invalidate().await;
            Ok::<_, ()>(100)
        })
        .await
        .unwrap();
    assert_eq!(old, 100);
    assert_eq!(
        read(&region, "b", &loads).await,
        3,
        "the old one is not kept"
    );
    // Other regions are not affected.
    let other = cache.region("other", Duration::from_secs(60));
    assert_eq!(read(&other, "a", &loads).await, 4);
    region.invalidate().await;
    assert_eq!(read(&other, "a", &loads).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_there_is_no_cache_and_no_error() {
    let Some(place) = TestBackend::real(&["redis"]) else {
        return;
    };
    let servers = place.servers.as_ref().unwrap();
    let loads = AtomicU32::new(0);
    let region = place.cache().region("test", Duration::from_secs(60));
    assert_eq!(read(&region, "a", &loads).await, 1);
    assert_eq!(read(&region, "a", &loads).await, 1);
    servers.kill("redis");
    let started = std::time::Instant::now();
    for expected in 2..52 {
        assert_eq!(read(&region, "a", &loads).await, expected);
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "nobody waits for it"
    );
    servers.restart("redis");
    // It is used again without intervention.
    let is_cached = async || read(&region, "a", &loads).await == read(&region, "a", &loads).await;
    eventually("redis is used again", is_cached).await;
    let kept = read(&region, "a", &loads).await;
    // An invalidation that does not reach Redis is sent again later; until then its
    // cached values are not used.
    let redis = place.redis().unwrap();
    let paused = redis
        .run(async |mut connection| {
            redis::cmd("CLIENT")
                .arg("PAUSE")
                .arg(700)
                .query_async::<()>(&mut connection)
                .await
        })
        .await;
    assert!(paused.is_some());
    region.invalidate().await;
    let before = loads.load(Ordering::SeqCst);
    assert_eq!(read(&region, "a", &loads).await, before + 1);
    eventually("redis is used again", is_cached).await;
    let cached = read(&region, "a", &loads).await;
    assert!(cached > before, "{cached}: not {kept}, which it kept");
}

fn limiter(redis: Option<Redis>) -> Limiter {
    Limiter::new(&Config {
        rate_limits: Some(RateLimits {
            window: Duration::from_secs(10),
            requests: 20,
            shared: redis,
            ..RateLimits::default()
        }),
        ..Config::default()
    })
}

async fn an_allowance_is_a_burst_that_refills(place: TestBackend) {
    // Two replicas if they can share the limit, one if they cannot.
    let one = limiter(place.redis());
    let two = place.servers.as_ref().map(|_| limiter(place.redis()));
    let limiters = [Some(&one), two.as_ref()];
    let (ada, lin): (IpAddr, IpAddr) =
        ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let mut allowed = 0;
    let mut wait = Duration::ZERO;
    for turn in 0..40 {
        let limiter = limiters[turn % 2].unwrap_or(&one);
        match limiter.request(ada).await {
            Ok(()) => allowed += 1,
            Err(limited) => wait = limited.0,
        }
    }
    assert!((20..=21).contains(&allowed), "{allowed} of 40");
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_millis(500),
        "{wait:?}"
    );
    assert!(one.request(lin).await.is_ok(), "everybody has their own");
    eventually("it refills", async || one.request(ada).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_limits_are_each_processes_own() {
    let Some(place) = TestBackend::real(&["redis"]) else {
        return;
    };
    let one = limiter(place.redis());
    let ada: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(one.request(ada).await.is_ok());
    place.servers.as_ref().unwrap().kill("redis");
    let mut allowed = 0;
    for _ in 0..40 {
        allowed += u32::from(one.request(ada).await.is_ok());
    }
    assert!(
        (20..=21).contains(&allowed),
        "limited, and not refused: {allowed}"
    );
}

async fn sixty_four_take_what_ten_can_have(place: TestBackend) {
    let database = place.database().await;
    for round in 0..5 {
        let name = format!("units-{round}");
        let txn = database.begin().await.unwrap();
        txn.execute_unprepared(&format!(
            "INSERT INTO counter (name, value) VALUES ('{name}', 10)"
        ))
        .await
        .unwrap();
        txn.commit().await.unwrap();
        let taken = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (database, taken, name) = (database.clone(), taken.clone(), name.clone());
                tokio::spawn(async move {
                    let txn = database.begin().await.unwrap();
                    let done = txn
                        .execute_raw(Statement::from_sql_and_values(
                            txn.get_database_backend(),
                            "UPDATE counter SET value = value - 1 WHERE name = $1 AND value > 0",
                            [name.into()],
                        ))
                        .await
                        .unwrap();
                    txn.commit().await.unwrap();
                    taken.fetch_add(
                        u32::try_from(done.rows_affected()).unwrap(),
                        Ordering::SeqCst,
                    );
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(taken.load(Ordering::SeqCst), 10);
    }
}

async fn a_transaction_is_all_or_nothing(place: TestBackend) {
    let database = place.database().await;
    let count = async |name: &str| -> i64 {
        let reader = database.read();
        let row = reader
            .query_one_raw(Statement::from_sql_and_values(
                reader.get_database_backend(),
                "SELECT count(*) AS found FROM counter WHERE name = $1",
                [name.into()],
            ))
            .await
            .unwrap()
            .unwrap();
        row.try_get("", "found").unwrap()
    };
    let insert = |name: &str| format!("INSERT INTO counter (name, value) VALUES ('{name}', 1)");
    // A transaction that is dropped midway, as when the client disconnects.
    let txn = database.begin().await.unwrap();
    txn.execute_unprepared(&insert("dropped")).await.unwrap();
    assert_eq!(
        count("dropped").await,
        0,
        "nobody sees what is not committed"
    );
    drop(txn);
    assert_eq!(count("dropped").await, 0);
    let txn = database.begin().await.unwrap();
    txn.execute_unprepared(&insert("kept")).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(count("kept").await, 1);
    // A constraint violation is the request's fault, not an unavailable database.
    let txn = database.begin().await.unwrap();
    let twice = txn.execute_unprepared(&insert("kept")).await.unwrap_err();
    assert!(!is_unavailable(&twice), "{twice}");
    assert!(matches!(
        twice.sql_err(),
        Some(sea_orm::SqlErr::UniqueConstraintViolation(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_returns_is_picked_up_again() {
    let Some(place) = TestBackend::real(&["postgres"]) else {
        return;
    };
    let database = place.database().await;
    let servers = place.servers.as_ref().unwrap();
    assert!(database.is_ready().await);
    servers.kill("postgres");
    let unavailable = database.begin().await.err();
    assert!(unavailable.is_some_and(|error| is_unavailable(&error)));
    assert!(!database.is_ready().await);
    servers.restart("postgres");
    let txn = database.begin().await.unwrap();
    txn.commit().await.unwrap();
    assert!(database.is_ready().await);
}

/// A server that restarts without its data: all users of the stream learn that it was
/// replaced, and the new one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_lost_is_made_anew() {
    if !servers::tls_available() {
        return;
    }
    let place = TestBackend::real(&["nats"]).unwrap();
    let servers = place.servers.as_ref().unwrap();
    let bus = NatsBus::connect(servers.nats(), &NatsOptions::default())
        .await
        .unwrap();
    let event = |id: &str| Publish {
        subject: "stoa.a.1".to_owned(),
        message_id: id.to_owned(),
        expected_last: Some(0),
        payload: id.to_owned(),
    };
    bus.publish(event("before")).await.unwrap();
    let old = bus.info().await.unwrap();
    let mut following = bus.follow("stoa.>", 0).await.unwrap();
    assert_eq!(&*following.next().await.unwrap().payload, "before");
    servers.kill("nats");
    std::fs::remove_dir_all(place.folder.join("servers/nats")).unwrap();
    servers.restart("nats");
    let ended = tokio::time::timeout(Duration::from_secs(30), following.next()).await;
    assert_eq!(ended.expect("the follower ends"), None);
    eventually("there is a new stream", async || bus.info().await.is_ok()).await;
    assert_ne!(bus.info().await.unwrap().identity, old.identity);
    bus.publish(event("after")).await.unwrap();
    let mut consumer = bus.consumer("c", "stoa.>").await.unwrap();
    assert_eq!(&*consumer.next().await.unwrap().message.payload, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_speaks_tls_and_wants_a_password() {
    if !servers::tls_available() {
        return;
    }
    let place = TestBackend::embedded().unwrap();
    let servers = Servers::start_secure(&place.folder.join("servers"));
    let ca = servers.ca_file().unwrap().to_owned();

    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        servers.database("orders"),
        ca.display()
    );
    let pool = PoolOptions { connections: 1 };
    let database = Database::connect(&url, &pool).await.unwrap();
    let reader = database.read();
    let row = reader
        .query_one_raw(Statement::from_string(
            reader.get_database_backend(),
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ))
        .await
        .unwrap()
        .unwrap();
    assert!(row.try_get::<bool>("", "ssl").unwrap());
    let wrong = url.replace(":secret@", ":wrong@");
    let refused = Database::connect(&wrong, &pool).await.unwrap_err();
    assert!(
        !is_unavailable(&refused),
        "waiting would not help: {refused}"
    );

    let options = NatsOptions {
        ca_file: Some(ca.clone()),
        ..NatsOptions::default()
    };
    let bus = NatsBus::connect(servers.nats(), &options).await.unwrap();
    bus.info().await.unwrap();
    let stranger = NatsBus::connect(servers.nats(), &NatsOptions::default()).await;
    assert!(
        stranger.is_err(),
        "the authority is not one that machines know"
    );
    let wrong = servers.nats().replace(":secret@", ":wrong@");
    let refused = NatsBus::connect(&wrong, &options).await.err();
    assert!(
        matches!(refused, Some(BusError::Misconfigured(_))),
        "waiting would not help: {refused:?}"
    );

    let redis = Redis::open("STOA_CACHE_URL", servers.redis(), Some(&ca)).unwrap();
    eventually("redis is ready", async || redis.is_ready().await).await;
    let stranger = Redis::open("STOA_CACHE_URL", servers.redis(), None).unwrap();
    assert!(!stranger.is_ready().await);
}
