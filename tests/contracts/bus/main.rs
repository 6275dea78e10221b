//! Contract tests of the bus: each runs on the embedded bus and on NATS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod consumers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use stoa_migrations::BusMigrator;
use stoa_runtime::clock::Clock;
use stoa_service::bus::{self, Bus, BusError, DeadLetter, Publish};
use stoa_service::consume::{Failure, MAX_ATTEMPTS, MAX_FAILURES, consume};
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::nats_bus::{NatsBus, NatsOptions};
use stoa_tests::poll::{eventually, never_within};
use stoa_tests::{Servers, servers};

use consumers::*;

/// A bus that several processes open.
struct Fixture {
    folder: PathBuf,
    servers: Option<Servers>,
}

impl Fixture {
    fn embedded() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("stoa-bus-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self {
            folder,
            servers: None,
        })
    }

    fn nats() -> Option<Self> {
        if !servers::available() {
            return None;
        }
        let mut fixture = Self::embedded()?;
        let servers = Servers::start_some(&fixture.folder.join("servers"), &["nats"]);
        fixture.servers = Some(servers);
        Some(fixture)
    }

    async fn open_embedded(&self, clock: Clock) -> EmbeddedBus {
        let url = format!("sqlite://{}", self.folder.join("bus.db").display());
        let database = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<BusMigrator>().await.unwrap();
        EmbeddedBus::open(database, clock).await.unwrap()
    }

    /// Opens the bus as another process would.
    async fn open(&self) -> Arc<dyn Bus> {
        match &self.servers {
            Some(servers) => Arc::new(
                NatsBus::connect(servers.nats(), &NatsOptions::default())
                    .await
                    .unwrap(),
            ),
            None => {
                let bus = self.open_embedded(Clock::system()).await;
                let running = bus.clone();
                tokio::spawn(async move { running.run().await });
                Arc::new(bus)
            }
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.servers = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(fixture) = super::Fixture::embedded() { super::$name(fixture).await }
            })+
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(fixture) = super::Fixture::nats() { super::$name(fixture).await }
            })+
        }
    };
}

contract!(
    publishing_is_idempotent_and_ordered_by_subject,
    reading_pages_through_a_filter,
    a_consumer_goes_on_where_it_acknowledged,
    two_processes_share_a_consumer_in_order,
    a_slow_message_stays_with_its_process,
    followers_of_two_processes_see_everything_once_and_in_order,
    a_poison_message_is_dead_lettered_and_replayed,
    what_is_away_is_waited_for,
    dead_letters_are_kept_once,
);

fn message(subject: &str, id: &str, expected_last: u64) -> Publish {
    Publish {
        subject: format!("stoa.{subject}"),
        message_id: id.to_owned(),
        expected_last: Some(expected_last),
        payload: format!("payload of {id}"),
    }
}

async fn publishing_is_idempotent_and_ordered_by_subject(fixture: Fixture) {
    let bus = fixture.open().await;
    assert_eq!(bus.info().await.unwrap().last, 0);
    let first = bus.publish(message("a.1", "m1", 0)).await.unwrap();
    assert!(!first.duplicate);
    let again = bus.publish(message("a.1", "m1", 0)).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    // Two relays race for the next sequence: one of them gets a conflict.
    let second = bus
        .publish(message("a.1", "m2", first.sequence))
        .await
        .unwrap();
    let late = bus.publish(message("a.1", "m3", first.sequence)).await;
    assert!(matches!(late, Err(BusError::Conflict { last }) if last == second.sequence));
    bus.publish(message("a.2", "m4", 0)).await.unwrap();
    let unconditional = Publish {
        expected_last: None,
        ..message("a.2", "m5", 0)
    };
    let last = bus.publish(unconditional).await.unwrap();
    assert_eq!(
        bus.last_message("stoa.a.1")
            .await
            .unwrap()
            .unwrap()
            .sequence,
        second.sequence
    );
    assert!(bus.last_message("stoa.a.3").await.unwrap().is_none());
    let info = bus.info().await.unwrap();
    assert_eq!((info.first, info.last), (first.sequence, last.sequence));
    assert_eq!(fixture.open().await.info().await.unwrap(), info);
}

async fn reading_pages_through_a_filter(fixture: Fixture) {
    let bus = fixture.open().await;
    for index in 0..300 {
        let subject = if index % 3 == 0 { "b" } else { "a" };
        bus.publish(message(
            &format!("{subject}.{index}"),
            &format!("m{index}"),
            0,
        ))
        .await
        .unwrap();
    }
    let all = bus.read("stoa.a.*", 0, 1_000).await.unwrap();
    assert_eq!(all.len(), 200);
    assert!(
        all.windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence)
    );
    let mut paged = Vec::new();
    let mut after = 0;
    loop {
        let page = bus.read("stoa.a.*", after, 64).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.sequence;
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(bus.read("stoa.a.1", 0, 10).await.unwrap().len(), 1);
    assert_eq!(bus.read("stoa.>", 0, 10).await.unwrap().len(), 10);
    assert_eq!(bus.read("stoa.*", 0, 10).await.unwrap().len(), 0);
}

async fn followers_of_two_processes_see_everything_once_and_in_order(fixture: Fixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let mut streams = [
        one.follow("stoa.a.>", 0).await.unwrap(),
        two.follow("stoa.a.>", 0).await.unwrap(),
    ];
    let publishers = [one.clone(), two.clone()].map(|bus| {
        tokio::spawn(async move {
            for _ in 0..100 {
                let id = uuid::Uuid::now_v7().to_string();
                bus.publish(message(&format!("a.{id}"), &id, 0))
                    .await
                    .unwrap();
                bus.publish(message(&format!("z.{id}"), &format!("z{id}"), 0))
                    .await
                    .unwrap();
            }
        })
    });
    for stream in &mut streams {
        let seen: Vec<_> = stream
            .by_ref()
            .take(200)
            .map(|message| message.sequence)
            .collect()
            .await;
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    // A follower that starts after a sequence gets only later messages.
    let after = one.info().await.unwrap().last;
    let mut late = two.follow("stoa.>", after).await.unwrap();
    let new = one.publish(message("a.new", "new", 0)).await.unwrap();
    assert_eq!(late.next().await.unwrap().sequence, new.sequence);
}

async fn dead_letters_are_kept_once(fixture: Fixture) {
    let bus = fixture.open().await;
    let letter = DeadLetter {
        consumer: "c".into(),
        sequence: 1,
        subject: "stoa.a.1".into(),
        payload: "payload of m1".into(),
        error: "it does not taste".into(),
    };
    bus.dead_letter(&letter).await.unwrap();
    fixture.open().await.dead_letter(&letter).await.unwrap();
    let dead = bus.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].1, letter);
    bus.dead_letter_remove(dead[0].0).await.unwrap();
    assert!(bus.dead_letters(10).await.unwrap().is_empty());
}

/// Messages older than the retention are deleted; sequence numbers continue.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_bus_forgets_what_is_old() {
    let fixture = Fixture::embedded().unwrap();
    let clock = Clock::manual(1_800_000_000_000_000);
    let bus = fixture.open_embedded(clock.clone()).await;
    bus.publish(message("a.1", "m1", 0)).await.unwrap();
    clock.advance(bus::RETENTION / 2);
    bus.publish(message("a.2", "m2", 0)).await.unwrap();
    clock.advance(bus::RETENTION / 2 + Duration::from_secs(1));
    bus.purge_expired().await.unwrap();
    let info = bus.info().await.unwrap();
    assert_eq!((info.first, info.last), (2, 2));
    clock.advance(bus::RETENTION);
    bus.purge_expired().await.unwrap();
    let info = bus.info().await.unwrap();
    assert_eq!(
        (info.first, info.last),
        (3, 2),
        "empty, and still at its place"
    );
    let next = bus.publish(message("a.3", "m3", 0)).await.unwrap();
    assert_eq!(next.sequence, 3);
}
