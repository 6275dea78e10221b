//! Inboxes over an embedded database and event bus.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use stoa_migrations::BusMigrator;
use stoa_notifications::domain::Notification;
use stoa_notifications::{App, Config, Error, build};
use stoa_runtime::clock::{Clock, to_rfc3339};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::events::{Event, OrderStatus, OrderStatusChanged, Payload};
use stoa_schema::{OrderId, UserId};
use stoa_service::bus::Message;
use stoa_service::consume::Failure;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::page::PageRequest;
use stoa_service::peer::{LocalPeers, Peers};
use tempfile::TempDir;

const NOW: i64 = 1_800_000_000_000_000;

struct Fixture {
    app: App,
    owner: UserId,
    order: OrderId,
    _folder: TempDir,
}

async fn open(folder: &TempDir, name: &str) -> Database {
    let url = format!("sqlite://{}", folder.path().join(name).display());
    Database::connect(&url, &PoolOptions::default())
        .await
        .unwrap()
}

fn user(id: &UserId, role: Role) -> Caller {
    Caller::User {
        id: id.to_string(),
        role,
    }
}

fn message(payload: &str) -> Message {
    Message {
        sequence: 1,
        subject: "stoa.orders.a.b".into(),
        payload: payload.into(),
    }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW);
        let bus_database = open(&folder, "bus.db").await;
        bus_database.migrate::<BusMigrator>().await.unwrap();
        let bus = EmbeddedBus::open(bus_database, clock.clone())
            .await
            .unwrap();
        let config = Config {
            database: open(&folder, "notifications.db").await,
            bus: Arc::new(bus),
            peers: Peers::local("notifications", LocalPeers::default()),
            clock,
            cursor_secret: "a secret".into(),
        };
        let (_, app) = build(config).await.unwrap();
        Self {
            app,
            owner: UserId::new(),
            order: OrderId::new(),
            _folder: folder,
        }
    }

    fn event(&self, id: &str, version: u64, status: OrderStatus) -> Message {
        let event = Event {
            specversion: "1.0".to_owned(),
            id: id.to_owned(),
            source: OrderStatusChanged::SOURCE.to_owned(),
            kind: OrderStatusChanged::KIND.to_owned(),
            subject: self.order.to_string(),
            time: to_rfc3339(NOW - 1_000_000),
            aggregateversion: version,
            correlationid: None,
            traceparent: None,
            data: OrderStatusChanged {
                order_id: self.order.clone(),
                number: "S-1".to_owned(),
                customer_id: self.owner.clone(),
                status,
                previous_status: None,
            },
        };
        message(&serde_json::to_string(&event).unwrap())
    }

    async fn receive(&self, message: &Message) {
        self.app.order_event_receive(message).await.unwrap();
    }

    async fn list(&self, caller: &Caller) -> Result<Vec<Notification>, Error> {
        let page = PageRequest {
            first: Some(10),
            after: None,
        };
        let slice = self.app.notification_list(caller, &self.owner, &page).await;
        slice.map(|slice| slice.rows)
    }

    async fn own(&self) -> Vec<Notification> {
        self.list(&user(&self.owner, Role::Customer)).await.unwrap()
    }
}

#[tokio::test]
async fn an_event_is_one_notification_however_often_it_arrives() {
    let shop = Fixture::new().await;
    let placed = shop.event("e1", 1, OrderStatus::Pending);
    for _ in 0..3 {
        shop.receive(&placed).await;
    }
    // The same version under another id, as after a restored backup.
    shop.receive(&shop.event("e2", 1, OrderStatus::Pending))
        .await;
    let inbox = shop.own().await;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].kind, "ORDER_PENDING");
    assert_eq!(inbox[0].created_at, NOW - 1_000_000, "when it happened");
    assert!(inbox[0].title.contains("S-1"));
}

#[tokio::test]
async fn a_late_event_is_still_a_notification() {
    let shop = Fixture::new().await;
    shop.receive(&shop.event("e2", 2, OrderStatus::Confirmed))
        .await;
    shop.receive(&shop.event("e1", 1, OrderStatus::Pending))
        .await;
    let mut kinds: Vec<_> = shop.own().await.into_iter().map(|one| one.kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["ORDER_CONFIRMED", "ORDER_PENDING"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_not_retried() {
    let shop = Fixture::new().await;
    for payload in ["", "{}", "[1, 2]", "not JSON"] {
        let failure = shop.app.order_event_receive(&message(payload)).await;
        assert!(matches!(failure, Err(Failure::Poison(_))), "{payload}");
    }
}

#[tokio::test]
async fn an_inbox_is_its_users_and_administrators() {
    let shop = Fixture::new().await;
    shop.receive(&shop.event("e1", 1, OrderStatus::Pending))
        .await;
    let stranger = UserId::new();
    for caller in [Caller::Anonymous, user(&stranger, Role::Customer)] {
        assert!(matches!(shop.list(&caller).await, Err(Error::Common(_))));
    }
    let admin = user(&stranger, Role::Admin);
    assert_eq!(shop.list(&admin).await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_its_user_marks_a_notification_as_read() {
    let shop = Fixture::new().await;
    shop.receive(&shop.event("e1", 1, OrderStatus::Pending))
        .await;
    let id = shop.own().await[0].id.to_string();
    let mark = async |caller: Caller, id: &str| shop.app.notification_mark_read(&caller, id).await;
    for role in [Role::Customer, Role::Admin] {
        let refused = mark(user(&UserId::new(), role), &id).await;
        assert!(matches!(refused, Err(Error::NoSuchNotification)));
    }
    let owner = || user(&shop.owner, Role::Customer);
    let unknown = mark(owner(), "nonsense").await;
    assert!(matches!(unknown, Err(Error::NoSuchNotification)));
    for _ in 0..2 {
        let read = mark(owner(), &id).await.unwrap();
        assert_eq!(read.read_at, Some(NOW));
    }
}
