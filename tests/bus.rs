//! The bus contract, which every implementation must keep.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use stoa_kit::bus::{Bus, BusError, Publish};
use stoa_kit::database::Database;
use stoa_kit::embedded_bus::EmbeddedBus;
use stoa_migrations::BusMigrator;

struct Fixture {
    path: std::path::PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stoa-bus-{}.db", uuid::Uuid::now_v7()));
        Self { path }
    }

    async fn open(&self) -> EmbeddedBus {
        let database = Database::connect(&format!("sqlite://{}", self.path.display()))
            .await
            .unwrap();
        database.migrate::<BusMigrator>().await.unwrap();
        EmbeddedBus::open(database).await.unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", self.path.display()));
        }
    }
}

fn message(subject: &str, id: &str, expected_last: u64) -> Publish {
    Publish {
        subject: subject.to_owned(),
        message_id: id.to_owned(),
        expected_last,
        payload: format!("payload of {id}"),
    }
}

#[tokio::test]
async fn publishing_is_idempotent_and_ordered_by_subject() {
    let fixture = Fixture::new();
    let bus = fixture.open().await;
    let first = bus.publish(message("a.1", "m1", 0)).await.unwrap();
    assert!(!first.duplicate);
    let again = bus.publish(message("a.1", "m1", 0)).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    // Two relays race for the next place: one of them learns that it is taken.
    let second = bus
        .publish(message("a.1", "m2", first.sequence))
        .await
        .unwrap();
    let late = bus.publish(message("a.1", "m3", first.sequence)).await;
    assert!(matches!(late, Err(BusError::Conflict { last }) if last == second.sequence));
    bus.publish(message("a.2", "m4", 0)).await.unwrap();
    assert_eq!(
        bus.last_of("a.1").await.unwrap().unwrap().sequence,
        second.sequence
    );
    assert!(bus.last_of("a.3").await.unwrap().is_none());
    let read = bus.read("a.*", 0, 10).await.unwrap();
    assert!(
        read.windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence)
    );
    assert_eq!(read.len(), 3);
    assert_eq!(bus.read("a.1", first.sequence, 10).await.unwrap().len(), 1);
    assert_eq!(bus.read("a.*", 0, 2).await.unwrap().len(), 2);
    assert_eq!(bus.read("*", 0, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_consumer_goes_on_where_it_acknowledged() {
    let fixture = Fixture::new();
    let bus = fixture.open().await;
    for index in 0..5 {
        bus.publish(message(&format!("a.{index}"), &format!("m{index}"), 0))
            .await
            .unwrap();
        bus.publish(message(&format!("b.{index}"), &format!("n{index}"), 0))
            .await
            .unwrap();
    }
    let mut consumer = bus.consumer("c", "a.*").await.unwrap();
    for index in 0..3 {
        let next = consumer.next().await.unwrap();
        assert_eq!(&*next.subject, format!("a.{index}"));
        if index < 2 {
            consumer.acknowledge(&next).await.unwrap();
        }
    }
    drop(consumer);
    // Another process, after a crash: what was not acknowledged comes again.
    let bus = fixture.open().await;
    let mut consumer = bus.consumer("c", "a.*").await.unwrap();
    for index in 2..5 {
        let next = consumer.next().await.unwrap();
        assert_eq!(&*next.subject, format!("a.{index}"));
        consumer.acknowledge(&next).await.unwrap();
    }
    let nothing = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn followers_of_two_processes_see_everything_once_and_in_order() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open().await, fixture.open().await);
    assert_eq!(
        one.info().await.unwrap().identity,
        two.info().await.unwrap().identity
    );
    let watching =
        [one.clone(), two.clone()].map(|bus| tokio::spawn(async move { bus.watch_others().await }));
    let mut streams = [
        one.follow("a.>", 0).await.unwrap(),
        two.follow("a.>", 0).await.unwrap(),
    ];
    let publishers = [one.clone(), two.clone()].map(|bus| {
        let bus: Arc<dyn Bus> = Arc::new(bus);
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
    for watcher in watching {
        watcher.abort();
    }
}
