//! The background processing of orders, with a mock provider, a mock products
//! service and a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod shop;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use stoa_migrations::{BusMigrator, OrdersMigrator};
use stoa_orders::App;
use stoa_orders::app::fulfilment::OrderAction;
use stoa_orders::app::order::{Progress, Step};
use stoa_orders::domain::OrderFilter;
use stoa_orders::domain::StockTask;
use stoa_orders::domain::{
    Address, Order, Payment, PaymentEvent, Request, RequestLine, TableRates,
};
use stoa_orders::payment::{Authorised, BadEvent, Captured, NoResponse, PaymentProvider, Voided};
use stoa_runtime::clock::{Clock, micros};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::events::OrderStatus;
use stoa_schema::{Money, OrderId, ProductId, UserId};
use stoa_service::context::CallContext;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::failpoint::{HeldFailpoint, hold, wait_while_held};
use stoa_service::outbox::Relay;
use stoa_service::page::PageRequest;
use stoa_service::peer::{LocalPeers, PeerError, PeerHandler, Peers};
use tempfile::TempDir;

use shop::{Fixture, Outcome};

#[tokio::test]
async fn two_workers_confirm_once_and_refund_nothing() {
    for _ in 0..10 {
        let shop = Fixture::new(Outcome::Authorised).await;
        let order = shop.place().await;
        shop.clock.advance(Duration::from_secs(1));
        // Forced interleaving: both are in `commit_stock` at once.
        let mut held = [(); 2].map(|()| hold("products.commit_stock", order.id.as_str()));
        let meet = async {
            for held in &mut held {
                held.reached().await;
            }
            held.into_iter().for_each(HeldFailpoint::release);
        };
        let (one, two, ()) = tokio::join!(
            stoa_orders::tasks::work_once(&shop.app.saga),
            stoa_orders::tasks::work_once(&shop.app.saga),
            meet
        );
        one.unwrap();
        two.unwrap();
        shop.work().await;
        assert_eq!(shop.status(&order).await, OrderStatus::Confirmed);
        assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (0, 0, 0));
        let history = shop
            .app
            .orders
            .history_fetch_many(std::slice::from_ref(&order.id))
            .await
            .unwrap();
        assert_eq!(history[&order.id].len(), 2);
    }
}

#[tokio::test]
async fn what_is_cancelled_before_it_is_paid_is_voided() {
    let shop = Fixture::new(Outcome::Pending).await;
    let order = shop.place().await;
    shop.change(&order, OrderAction::Cancel).await;
    shop.work().await;
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (1, 0, 1));
}

#[tokio::test]
async fn money_that_came_before_the_cancellation_goes_back() {
    let shop = Fixture::new(Outcome::ResponseLost).await;
    let order = shop.place().await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Pending);
    shop.change(&order, OrderAction::Cancel).await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (0, 1, 1));
}

#[tokio::test]
async fn a_cancellation_while_the_stock_is_committed_wins() {
    for _ in 0..10 {
        let shop = Fixture::new(Outcome::Authorised).await;
        let order = shop.place().await;
        shop.clock.advance(Duration::from_secs(1));
        // Forced interleaving: the order is cancelled while the worker waits in `commit_stock`.
        let mut held = hold("products.commit_stock", order.id.as_str());
        let cancel = async {
            held.reached().await;
            let cancelled = shop.change(&order, OrderAction::Cancel).await;
            held.release();
            cancelled
        };
        let (worked, cancelled) =
            tokio::join!(stoa_orders::tasks::work_once(&shop.app.saga), cancel);
        worked.unwrap();
        assert_eq!(cancelled.status, OrderStatus::Cancelled);
        shop.work().await;
        assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
        assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (1, 0, 1));
    }
}

#[tokio::test]
async fn a_cancellation_while_the_money_is_taken_returns_it() {
    for _ in 0..10 {
        let shop = Fixture::new(Outcome::Authorised).await;
        let order = shop.place().await;
        shop.clock.advance(Duration::from_secs(1));
        // Forced interleaving: the order is cancelled while the provider captures.
        let mut held = hold("provider.capture", order.id.as_str());
        let cancel = async {
            held.reached().await;
            let cancelled = shop.change(&order, OrderAction::Cancel).await;
            held.release();
            cancelled
        };
        let (worked, cancelled) =
            tokio::join!(stoa_orders::tasks::work_once(&shop.app.saga), cancel);
        worked.unwrap();
        assert_eq!(cancelled.status, OrderStatus::Cancelled);
        shop.work().await;
        assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
        assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (0, 1, 1));
    }
}

#[tokio::test]
async fn money_is_not_taken_after_the_reservation_ran_out() {
    let shop = Fixture::new(Outcome::Authorised).await;
    shop.products.expired.store(true, Ordering::SeqCst);
    let order = shop.place().await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (1, 0, 1));
    assert_eq!(shop.provider.captures.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_capture_that_is_declined_gives_everything_back() {
    let shop = Fixture::new(Outcome::CaptureDeclined).await;
    let order = shop.place().await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (1, 0, 1));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_charges_once() {
    let shop = Fixture::new(Outcome::ResponseLost).await;
    let order = shop.place().await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Pending);
    shop.decide(Outcome::Authorised);
    shop.clock.advance(Duration::from_secs(60));
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(shop.provider.captured.lock().unwrap().len(), 1);
    assert_eq!((shop.voids(), shop.refunds()), (0, 0));
}

#[tokio::test]
async fn a_provider_that_stays_away_costs_the_order_not_the_shop() {
    let shop = Fixture::new(Outcome::Unavailable).await;
    let order = shop.place().await;
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Pending);
    shop.clock.advance(Duration::from_secs(16 * 60));
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Cancelled);
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (1, 0, 1));
}

#[tokio::test]
async fn refunding_and_cancelling_return_money_once_and_units_if_they_are_here() {
    let shop = Fixture::new(Outcome::Authorised).await;
    let (paid, shipped) = (shop.place().await, shop.place().await);
    shop.work().await;
    shop.change(&shipped, OrderAction::SHIP).await;
    shop.change(&paid, OrderAction::Cancel).await;
    shop.change(&shipped, OrderAction::REFUND).await;
    shop.work().await;
    assert_eq!((shop.voids(), shop.refunds(), shop.releases()), (0, 2, 1));
}

#[tokio::test]
async fn a_peer_that_is_down_delays_only_what_needs_it() {
    let shop = Fixture::new(Outcome::Pending).await;
    let (first, second) = (shop.place().await, shop.place().await);
    shop.change(&first, OrderAction::Cancel).await;
    shop.products.down.store(true, Ordering::SeqCst);
    shop.decide(Outcome::Declined);
    shop.work().await;
    assert_eq!(
        shop.status(&second).await,
        OrderStatus::Cancelled,
        "payments continue"
    );
    assert_eq!(shop.releases(), 0);
    shop.products.down.store(false, Ordering::SeqCst);
    shop.work().await;
    assert_eq!(shop.releases(), 2);
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_freeze_what_is_due() {
    let shop = Fixture::new(Outcome::Unavailable).await;
    let order = shop.place().await;
    let ahead = Clock::manual(shop.clock.now() + micros(Duration::from_secs(600)));
    let app = shop.app.with_clock(ahead);
    stoa_orders::tasks::work_once(&app.saga).await.unwrap();
    shop.decide(Outcome::Authorised);
    shop.work().await;
    assert_eq!(shop.status(&order).await, OrderStatus::Confirmed);
}

#[tokio::test]
async fn a_payment_that_cannot_be_read_keeps_no_other() {
    let shop = Fixture::new(Outcome::Authorised).await;
    let (broken, fine) = (shop.place().await, shop.place().await);
    let database = shop.connect().await;
    let txn = database.begin().await.unwrap();
    let sql = format!(
        "UPDATE payment SET task = 'NOISE' WHERE order_id = '{}'",
        broken.id
    );
    txn.execute_unprepared(&sql).await.unwrap();
    txn.commit().await.unwrap();
    shop.work().await;
    assert_eq!(shop.status(&fine).await, OrderStatus::Confirmed);
    assert_eq!(shop.status(&broken).await, OrderStatus::Pending);
}

#[tokio::test]
async fn what_is_not_decided_is_no_failure() {
    let shop = Fixture::new(Outcome::Pending).await;
    let order = shop.place().await;
    for _ in 0..20 {
        shop.work().await;
    }
    let progress = shop.progress(&order).await;
    assert_eq!(progress.len(), 1);
    assert_eq!(progress[0].attempts, 0);
    let reason = progress[0].last_error.as_deref();
    assert_eq!(reason, Some("the provider has not decided yet"));
    assert!(!progress[0].stuck);
    assert!(shop.stuck().await.is_empty());
    shop.clock.advance(Duration::from_secs(10 * 60));
    assert!(shop.progress(&order).await[0].stuck, "needs attention");
    assert_eq!(shop.stuck().await, [order.id]);
}

#[tokio::test]
async fn units_that_cannot_go_back_are_seen_with_the_reason() {
    let shop = Fixture::new(Outcome::Authorised).await;
    let (cancelled, refunded) = (shop.place().await, shop.place().await);
    shop.work().await;
    shop.products.down.store(true, Ordering::SeqCst);
    shop.change(&cancelled, OrderAction::Cancel).await;
    shop.change(&refunded, OrderAction::REFUND).await;
    for _ in 0..20 {
        shop.clock.advance(Duration::from_secs(60));
        stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    }
    for (order, step) in [
        (&cancelled, StockTask::Release),
        (&refunded, StockTask::Return),
    ] {
        let progress = shop.progress(order).await;
        assert_eq!(progress.len(), 1, "the money is back: {progress:?}");
        assert_eq!(progress[0].step, Step::Stock(step));
        assert!(progress[0].stuck);
        // At most every minute, and at first more often.
        assert!((15..=20).contains(&progress[0].attempts), "{progress:?}");
        let error = progress[0].last_error.as_deref().unwrap();
        assert!(error.contains("products"), "{error}");
    }
    assert_eq!(shop.stuck().await.len(), 2);
    shop.products.down.store(false, Ordering::SeqCst);
    shop.clock.advance(Duration::from_secs(60));
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    assert!(shop.progress(&cancelled).await.is_empty());
    assert!(shop.progress(&refunded).await.is_empty());
    assert!(shop.stuck().await.is_empty());
    assert_eq!((shop.releases(), shop.returns()), (1, 1));
}

/// Forced interleaving: the webhook arrives while the provider is being asked, whose
/// response is older.
#[tokio::test]
async fn news_while_the_provider_is_asked_is_not_slept_over() {
    let shop = Fixture::new(Outcome::Pending).await;
    let order = shop.place().await;
    let event = PaymentEvent {
        id: "one".to_owned(),
        kind: "payment.decided".to_owned(),
        order_id: Some(order.id.clone()),
    };
    let mut held = hold("provider.pending", order.id.as_str());
    let news = async {
        held.reached().await;
        shop.clock.advance(Duration::from_millis(30));
        shop.decide(Outcome::Authorised);
        shop.app.saga.event_store(&event, b"{}").await.unwrap();
        held.release();
    };
    let (worked, ()) = tokio::join!(stoa_orders::tasks::work_once(&shop.app.saga), news);
    worked.unwrap();
    assert_eq!(shop.status(&order).await, OrderStatus::Confirmed);
}

#[tokio::test]
async fn a_job_that_breaks_off_is_put_off_and_keeps_no_other() {
    let shop = Fixture::new(Outcome::Panics).await;
    let broken = shop.place().await;
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    let progress = shop.progress(&broken).await;
    assert_eq!(progress[0].attempts, 1);
    let reason = progress[0].last_error.as_deref();
    assert_eq!(reason, Some("the worker broke off: see its log"));
    shop.decide(Outcome::Authorised);
    let fine = shop.place().await;
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    assert_eq!(shop.status(&broken).await, OrderStatus::Pending);
    assert_eq!(shop.status(&fine).await, OrderStatus::Confirmed);
    shop.clock.advance(Duration::from_secs(61));
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    assert_eq!(shop.status(&broken).await, OrderStatus::Confirmed);
}

/// The provider does not respond to more orders than the worker processes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_keeps_no_units() {
    let shop = Fixture::new(Outcome::Hangs).await;
    for _ in 0..20 {
        shop.place().await;
    }
    let worker = tokio::spawn(stoa_orders::tasks::run_worker(shop.app.saga.clone()));
    let cancelled = shop.place().await;
    shop.change(&cancelled, OrderAction::Cancel).await;
    let released = async {
        while shop.releases() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), released)
        .await
        .unwrap();
    worker.abort();
}

#[tokio::test]
async fn a_webhook_makes_the_step_due_once() {
    let shop = Fixture::new(Outcome::Pending).await;
    let order = shop.place().await;
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    shop.decide(Outcome::Authorised);
    stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    assert_eq!(
        shop.status(&order).await,
        OrderStatus::Pending,
        "it would ask again in a second"
    );
    let event = PaymentEvent {
        id: "one".to_owned(),
        kind: "payment.decided".to_owned(),
        order_id: Some(order.id.clone()),
    };
    for _ in 0..3 {
        shop.app.saga.event_store(&event, b"{}").await.unwrap();
        stoa_orders::tasks::work_once(&shop.app.saga).await.unwrap();
    }
    assert_eq!(shop.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(shop.provider.captures.load(Ordering::SeqCst), 1);
    // Events of an unknown order, or of none, are only stored.
    for (id, order_id) in [("two", Some(OrderId::new())), ("three", None)] {
        let event = PaymentEvent {
            id: id.to_owned(),
            order_id,
            ..event.clone()
        };
        shop.app.saga.event_store(&event, b"{}").await.unwrap();
    }
    assert_eq!(
        shop.app.saga.events_purge_expired().await.unwrap(),
        0,
        "still repeated"
    );
    shop.clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
    assert_eq!(shop.app.saga.events_purge_expired().await.unwrap(), 3);
    assert_eq!(shop.app.saga.events_purge_expired().await.unwrap(), 0);
}
