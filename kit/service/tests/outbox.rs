//! The outbox and its relay over embedded databases, with a manual clock.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, SqlErr};
use stoa_migrations::{BusMigrator, MigratorTrait, OrdersMigrator};
use stoa_runtime::clock::{Clock, Micros, to_rfc3339};
use stoa_schema::events::{
    ALL_SUBJECTS, Event, OrderStatus, OrderStatusChanged, Payload, order_subject,
};
use stoa_schema::{OrderId, UserId};
use stoa_service::audit::count;
use stoa_service::bus::{Bus, BusError};
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::outbox::{Relay, RelayError, outbox_append_in_txn};
use tempfile::TempDir;

const NOW: Micros = 1_800_000_000_000_000;

struct Fixture {
    database: Database,
    bus_database: Database,
    bus: Arc<dyn Bus>,
    relay: Relay,
    clock: Clock,
    customer: UserId,
    folder: TempDir,
}

async fn open<M: MigratorTrait>(folder: &TempDir, name: &str) -> Database {
    let url = format!("sqlite://{}", folder.path().join(name).display());
    let database = Database::connect(&url, &PoolOptions::default())
        .await
        .unwrap();
    database.migrate::<M>().await.unwrap();
    database
}

impl Fixture {
    async fn new() -> Self {
        Self::start(tempfile::tempdir().unwrap(), UserId::new()).await
    }

    /// Starts a process on the databases of a folder.
    async fn start(folder: TempDir, customer: UserId) -> Self {
        let clock = Clock::manual(NOW);
        let database = open::<OrdersMigrator>(&folder, "orders.db").await;
        let bus_database = open::<BusMigrator>(&folder, "bus.db").await;
        let bus: Arc<dyn Bus> = Arc::new(
            EmbeddedBus::open(bus_database.clone(), clock.clone())
                .await
                .unwrap(),
        );
        Self {
            relay: Relay::new(database.clone(), bus.clone(), clock.clone()),
            database,
            bus_database,
            bus,
            clock,
            customer,
            folder,
        }
    }

    async fn append_in_txn(
        &self,
        txn: &DatabaseTransaction,
        order: &OrderId,
        version: u64,
    ) -> Result<(), DbErr> {
        let event = OrderStatusChanged {
            order_id: order.clone(),
            number: "S-1".to_owned(),
            customer_id: self.customer.clone(),
            status: OrderStatus::Confirmed,
            previous_status: Some(OrderStatus::Pending),
        };
        let now = self.clock.now();
        outbox_append_in_txn(txn, event, version, now, Some("a-correlation-id")).await
    }

    /// Commits events in one transaction.
    async fn append(&self, events: &[(&OrderId, u64)]) {
        let txn = self.database.begin().await.unwrap();
        for (order, version) in events {
            self.append_in_txn(&txn, order, *version).await.unwrap();
        }
        txn.commit().await.unwrap();
    }

    async fn publish(&self) -> usize {
        self.relay.publish_pending().await.unwrap()
    }

    /// Every event on the bus, in order.
    async fn published(&self) -> Vec<Event<OrderStatusChanged>> {
        let messages = self.bus.read(ALL_SUBJECTS, 0, 1_000).await.unwrap();
        let events = messages.iter().map(|message| {
            let event: Event<OrderStatusChanged> = serde_json::from_str(&message.payload).unwrap();
            assert_eq!(*message.subject, event.data.bus_subject());
            event
        });
        events.collect()
    }

    /// The order and version of every event on the bus, in order.
    async fn versions(&self) -> Vec<(OrderId, u64)> {
        let events = self.published().await.into_iter();
        events
            .map(|event| (event.data.order_id, event.aggregateversion))
            .collect()
    }

    async fn waiting(&self) -> u64 {
        let sql = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
        count(self.database.read(), sql).await.unwrap()
    }
}

async fn run(database: &Database, sql: &str) {
    let txn = database.begin().await.unwrap();
    txn.execute_unprepared(sql).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn an_event_is_published_as_it_was_committed() {
    let shop = Fixture::new().await;
    let order = OrderId::new();
    shop.append(&[(&order, 1), (&order, 2)]).await;
    assert_eq!(shop.publish().await, 2);
    let events = shop.published().await;
    for (event, version) in events.iter().zip(1..) {
        let expected = Event {
            specversion: "1.0".to_owned(),
            id: event.id.clone(),
            source: OrderStatusChanged::SOURCE.to_owned(),
            kind: OrderStatusChanged::KIND.to_owned(),
            subject: order.to_string(),
            time: to_rfc3339(NOW),
            aggregateversion: version,
            correlationid: Some("a-correlation-id".to_owned()),
            traceparent: None,
            data: OrderStatusChanged {
                order_id: order.clone(),
                number: "S-1".to_owned(),
                customer_id: shop.customer.clone(),
                status: OrderStatus::Confirmed,
                previous_status: Some(OrderStatus::Pending),
            },
        };
        assert_eq!(*event, expected);
    }
    let ids: HashSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_change_that_is_rolled_back_publishes_nothing() {
    let shop = Fixture::new().await;
    let order = OrderId::new();
    let txn = shop.database.begin().await.unwrap();
    shop.append_in_txn(&txn, &order, 1).await.unwrap();
    assert_eq!(shop.publish().await, 0, "it is not committed");
    txn.rollback().await.unwrap();
    assert_eq!(shop.publish().await, 0);
    assert_eq!(shop.bus.info().await.unwrap().last, 0);

    shop.append(&[(&order, 1)]).await;
    assert_eq!(shop.publish().await, 1);
    assert_eq!(shop.versions().await, [(order, 1)]);
}

#[tokio::test]
async fn events_are_published_once_in_the_order_of_their_changes() {
    let shop = Fixture::new().await;
    let (one, two) = (OrderId::new(), OrderId::new());
    shop.append(&[(&two, 1), (&one, 1)]).await;
    shop.append(&[(&one, 2)]).await;
    assert_eq!(shop.publish().await, 3);
    shop.append(&[(&one, 3), (&two, 2)]).await;
    assert_eq!(shop.publish().await, 2);
    assert_eq!(shop.publish().await, 0);
    let expected = [
        (two.clone(), 1),
        (one.clone(), 1),
        (one.clone(), 2),
        (one, 3),
        (two.clone(), 2),
    ];
    assert_eq!(shop.versions().await, expected);
    let subject = order_subject(&shop.customer, &two);
    let of_two = shop.bus.read(&subject, 0, 10).await.unwrap();
    assert_eq!(of_two.len(), 2);
}

#[tokio::test]
async fn what_a_crashed_relay_published_is_not_published_again() {
    let shop = Fixture::new().await;
    let (one, two) = (OrderId::new(), OrderId::new());
    shop.append(&[(&one, 1), (&two, 1), (&one, 2)]).await;
    assert_eq!(shop.publish().await, 3);
    let before = shop.published().await;
    // The process ended after the bus had stored the events, and before they were marked.
    run(&shop.database, "UPDATE outbox SET published_at = NULL").await;
    assert_eq!(shop.waiting().await, 3);
    let shop = Fixture::start(shop.folder, shop.customer).await;
    assert_eq!(shop.publish().await, 3);
    assert_eq!(shop.waiting().await, 0);
    assert_eq!(shop.published().await, before);

    // Nor when the bus has forgotten the message ids meanwhile.
    run(&shop.database, "UPDATE outbox SET published_at = NULL").await;
    let forget = "UPDATE bus_message SET message_id = 'forgotten-' || sequence";
    run(&shop.bus_database, forget).await;
    assert_eq!(shop.publish().await, 3);
    assert_eq!(shop.published().await, before);

    shop.append(&[(&one, 3)]).await;
    assert_eq!(shop.publish().await, 1);
    assert_eq!(shop.versions().await.last(), Some(&(one, 3)));
}

#[tokio::test]
async fn an_event_that_cannot_be_published_holds_back_those_after_it() {
    let shop = Fixture::new().await;
    let (one, two) = (OrderId::new(), OrderId::new());
    shop.append(&[(&one, 1), (&two, 1), (&one, 2)]).await;
    let refuse = format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON bus_message WHEN NEW.subject = '{}' BEGIN SELECT RAISE(ABORT, 'refused'); END",
        order_subject(&shop.customer, &two)
    );
    run(&shop.bus_database, &refuse).await;
    for _ in 0..2 {
        let failed = shop.relay.publish_pending().await;
        assert!(
            matches!(failed, Err(RelayError::Bus(BusError::Unavailable(_)))),
            "{failed:?}"
        );
        assert_eq!(shop.versions().await, [(one.clone(), 1)]);
        assert_eq!(shop.waiting().await, 2, "what was published is marked");
    }
    run(&shop.bus_database, "DROP TRIGGER refuse").await;
    assert_eq!(shop.publish().await, 2);
    let expected = [(one.clone(), 1), (two, 1), (one, 2)];
    assert_eq!(shop.versions().await, expected);
}

#[tokio::test]
async fn events_wait_while_the_bus_is_unavailable() {
    let shop = Fixture::new().await;
    let order = OrderId::new();
    shop.append(&[(&order, 1)]).await;
    assert_eq!(shop.publish().await, 1);
    shop.bus_database.close().await;
    shop.append(&[(&order, 2), (&order, 3)]).await;
    let failed = shop.relay.publish_pending().await;
    assert!(
        matches!(failed, Err(RelayError::Bus(BusError::Unavailable(_)))),
        "{failed:?}"
    );
    assert_eq!(shop.waiting().await, 2);
    let shop = Fixture::start(shop.folder, shop.customer).await;
    assert_eq!(shop.publish().await, 2);
    let versions = [1, 2, 3].map(|version| (order.clone(), version));
    assert_eq!(shop.versions().await, versions);
}

#[tokio::test]
async fn a_version_of_an_order_has_one_event() {
    let shop = Fixture::new().await;
    let order = OrderId::new();
    shop.append(&[(&order, 1)]).await;
    let txn = shop.database.begin().await.unwrap();
    let again = shop.append_in_txn(&txn, &order, 1).await.unwrap_err();
    assert!(
        matches!(again.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))),
        "{again}"
    );
}

#[tokio::test]
async fn events_are_published_in_batches_of_100() {
    let shop = Fixture::new().await;
    let order = OrderId::new();
    let events: Vec<_> = (1..=101).map(|version| (&order, version)).collect();
    shop.append(&events).await;
    for expected in [100, 1, 0] {
        assert_eq!(shop.publish().await, expected);
    }
    let versions: Vec<_> = shop.versions().await.into_iter().map(|(_, v)| v).collect();
    assert_eq!(versions, (1..=101).collect::<Vec<_>>());
}
