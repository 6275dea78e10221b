//! Two relays and two consumers race for an hour of manual clock time, and are stopped
//! and restarted at random: the events of each order arrive in sequence, none is lost,
//! and none is handled twice. On both sets of backends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stoa_migrations::{BusMigrator, OrdersMigrator};
use stoa_runtime::clock::Clock;
use stoa_schema::events::{Event, ORDER_SUBJECTS, OrderStatus, OrderStatusChanged};
use stoa_schema::{OrderId, UserId};
use stoa_service::bus::Bus;
use stoa_service::consume::{Failure, consume};
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::nats_bus::{NatsBus, NatsOptions};
use stoa_service::outbox::{Relay, outbox_append_in_txn};
use stoa_tests::{Servers, servers};
use tokio::task::JoinHandle;

const ORDERS: usize = 20;
const SECONDS: u64 = 3_600;

struct Backends {
    folder: PathBuf,
    servers: Option<Servers>,
}

impl Backends {
    fn new(is_real: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("stoa-race-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let servers =
            is_real.then(|| Servers::start_some(&folder.join("servers"), &["postgres", "nats"]));
        Self { folder, servers }
    }

    async fn database(&self) -> Database {
        let url = match &self.servers {
            Some(servers) => servers.database("orders"),
            None => format!("sqlite://{}", self.folder.join("orders.db").display()),
        };
        let pool = PoolOptions { connections: 4 };
        let database = Database::connect(&url, &pool).await.unwrap();
        database.migrate::<OrdersMigrator>().await.unwrap();
        database
    }

    async fn bus(&self, clock: &Clock) -> Arc<dyn Bus> {
        match &self.servers {
            Some(servers) => Arc::new(
                NatsBus::connect(servers.nats(), &NatsOptions::default())
                    .await
                    .unwrap(),
            ),
            None => {
                let url = format!("sqlite://{}", self.folder.join("bus.db").display());
                let database = Database::connect(&url, &PoolOptions::default())
                    .await
                    .unwrap();
                database.migrate::<BusMigrator>().await.unwrap();
                let bus = EmbeddedBus::open(database, clock.clone()).await.unwrap();
                let running = bus.clone();
                tokio::spawn(async move { running.run().await });
                Arc::new(bus)
            }
        }
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.servers = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the consumers have handled: the versions of each order, in handling order.
type Handled = Arc<Mutex<HashMap<String, Vec<u64>>>>;

/// Handles each version once, as a consumer's inbox does; one message in fifty meets a
/// temporary failure.
fn handle(handled: &Handled, payload: &str, chance: u64) -> Result<(), Failure> {
    let event: Event<OrderStatusChanged> =
        serde_json::from_str(payload).map_err(|error| Failure::Poison(error.to_string()))?;
    if chance.is_multiple_of(50) {
        return Err(Failure::Unavailable("a bad moment".to_owned()));
    }
    let mut handled = handled.lock().unwrap();
    let versions = handled.entry(event.subject).or_default();
    if !versions.contains(&event.aggregateversion) {
        versions.push(event.aggregateversion);
    }
    Ok(())
}

fn consumer(bus: Arc<dyn Bus>, handled: Handled, seed: u64) -> JoinHandle<()> {
    let dice = Arc::new(Mutex::new(SeededRng(seed)));
    tokio::spawn(async move {
        consume(bus, "race", ORDER_SUBJECTS, |message| {
            let chance = dice.lock().unwrap().roll();
            let handled = handled.clone();
            async move { handle(&handled, &message.payload, chance) }
        })
        .await;
    })
}

/// A small seeded generator (SplitMix64), so that a run can be repeated.
struct SeededRng(u64);

impl SeededRng {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

async fn race(set: Backends) {
    let seed = std::env::var("STOA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("STOA_SEED={seed}");
    let mut dice = SeededRng(seed);
    let clock = Clock::manual(1_800_000_000_000_000);
    let handled = Handled::default();
    // Each replica has its own database pool and bus connection, as processes would.
    let mut relays = Vec::new();
    let mut consumers = Vec::new();
    for replica in 0..2 {
        let relay = Relay::new(set.database().await, set.bus(&clock).await, clock.clone());
        relays.push((relay.clone(), tokio::spawn(relay.run())));
        let bus = set.bus(&clock).await;
        consumers.push(consumer(bus, handled.clone(), seed + replica));
    }
    let database = set.database().await;
    let orders: Vec<OrderId> = (0..ORDERS).map(|_| OrderId::new()).collect();
    let customer = UserId::new();
    let mut versions = vec![0_u64; ORDERS];
    for _ in 0..SECONDS {
        clock.advance(Duration::from_secs(1));
        let txn = database.begin().await.unwrap();
        for _ in 0..=dice.roll() % 2 {
            let index = usize::try_from(dice.roll() % ORDERS as u64).unwrap();
            versions[index] += 1;
            let event = OrderStatusChanged {
                order_id: orders[index].clone(),
                number: format!("S-{index}"),
                customer_id: customer.clone(),
                status: OrderStatus::Confirmed,
                previous_status: None,
            };
            outbox_append_in_txn(&txn, event, versions[index], clock.now(), None)
                .await
                .unwrap();
        }
        txn.commit().await.unwrap();
        // Each relay is woken at random; one that is not woken polls.
        for (relay, _) in &relays {
            if !dice.roll().is_multiple_of(3) {
                relay.wake();
            }
        }
        if dice.roll().is_multiple_of(100) {
            // A relay is aborted at any await point, and a new one replaces it.
            let which = usize::try_from(dice.roll() % 2).unwrap();
            relays[which].1.abort();
            let relay = Relay::new(set.database().await, set.bus(&clock).await, clock.clone());
            relays[which] = (relay.clone(), tokio::spawn(relay.run()));
        }
        if dice.roll().is_multiple_of(300) {
            let which = usize::try_from(dice.roll() % 2).unwrap();
            consumers[which].abort();
            let bus = set.bus(&clock).await;
            consumers[which] = consumer(bus, handled.clone(), dice.roll());
        }
    }
    let total: u64 = versions.iter().sum();
    let count = || -> u64 {
        let handled = handled.lock().unwrap();
        handled.values().map(|versions| versions.len() as u64).sum()
    };
    let started = std::time::Instant::now();
    while count() < total {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "{} of {total} events came, seed {seed}",
            count()
        );
        // The message of an aborted consumer is redelivered only after its deadline.
        clock.advance(Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (order, version) in orders.iter().zip(versions) {
        let handled = handled.lock().unwrap();
        let seen = handled.get(order.as_str()).cloned().unwrap_or_default();
        let expected: Vec<u64> = (1..=version).collect();
        assert_eq!(seen, expected, "in order and complete, seed {seed}");
    }
    // No event is on the bus twice, however often a relay was aborted.
    let bus = set.bus(&clock).await;
    let mut after = 0;
    let mut stored = 0;
    loop {
        let page = bus.read(ORDER_SUBJECTS, after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.sequence;
        stored += page.len() as u64;
    }
    assert_eq!(stored, total);
    assert!(bus.dead_letters(1).await.unwrap().is_empty());
    for (_, task) in relays {
        task.abort();
    }
    for task in consumers {
        task.abort();
    }
    println!("{total} events of {ORDERS} orders in {SECONDS} s of injected time");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_and_two_consumers_on_the_embedded_set() {
    race(Backends::new(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_and_two_consumers_on_the_real_set() {
    if servers::available() {
        race(Backends::new(true)).await;
    }
}
