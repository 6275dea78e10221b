//! Concurrent operations wherever money and stock are at stake: many rounds without
//! control, and one forced interleaving in which the first operation is held at a
//! failpoint while the second runs. On SQLite and on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod checkout;

use std::path::PathBuf;
use std::time::Duration;

use stoa_migrations::{BusMigrator, OrdersMigrator, ProductsMigrator};
use stoa_orders::Error;
use stoa_orders::app::cart::Edit;
use stoa_orders::app::fulfilment::OrderAction;
use stoa_orders::domain::{
    CartRef, CheckoutRequest, LineQuantity, NewDiscount, Order, ProblemCode,
};
use stoa_orders::domain::{Payment, PaymentEvent};
use stoa_orders::payment::sandbox::APPROVE;
use stoa_orders::payment::stripe::{Stripe, StripeOptions};
use stoa_orders::payment::{Authorised, Captured, PaymentProvider};
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::money::Currency;
use stoa_schema::peer::{ReserveOutcome, ReserveStock, StockLine};
use stoa_schema::{Money, OrderId, ProductId};
use stoa_service::database::{Database, PoolOptions};
use stoa_service::failpoint::hold;
use stoa_tests::in_process::{InProcessShop, call, key, person, request, sqlite};
use stoa_tests::stripe::{self, FakeStripe};
use stoa_tests::{Servers, servers};
use tokio::task::JoinHandle;

const ROUNDS: usize = 25;
/// Long enough for an operation that does not block to finish.
const BLOCKED_WAIT: Duration = Duration::from_millis(100);

/// A shop over one kind of database, with its folder and servers.
struct TestShop {
    shop: InProcessShop,
    folder: PathBuf,
    _servers: Option<Servers>,
}

impl Drop for TestShop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl TestShop {
    async fn new(real: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("stoa-races-{}", key()));
        std::fs::create_dir_all(&folder).unwrap();
        let servers = real.then(|| Servers::start_some(&folder.join("servers"), &["postgres"]));
        let orders = open(servers.as_ref(), &folder, "orders").await;
        let products = open(servers.as_ref(), &folder, "products").await;
        orders.migrate::<OrdersMigrator>().await.unwrap();
        products.migrate::<ProductsMigrator>().await.unwrap();
        let bus = sqlite(&folder, "bus").await;
        bus.migrate::<BusMigrator>().await.unwrap();
        Self {
            shop: InProcessShop::new(orders, products, bus).await,
            folder,
            _servers: servers,
        }
    }
}

async fn open(servers: Option<&Servers>, folder: &std::path::Path, name: &str) -> Database {
    let Some(servers) = servers else {
        return sqlite(folder, name).await;
    };
    let pool = PoolOptions::default();
    let url = servers.database(name);
    Database::connect(&url, &pool).await.unwrap()
}

/// Runs a race on both databases; afterwards nothing may be unfinished, and the doctor
/// must find no violation.
async fn on_both(race: impl AsyncFn(&InProcessShop)) {
    let mut grounds = vec![false];
    if servers::replicas_available() {
        grounds.push(true);
    }
    for real in grounds {
        let ground = TestShop::new(real).await;
        let shop = &ground.shop;
        race(shop).await;
        for _ in 0..30 {
            tick(shop, Duration::from_secs(61));
            shop.products.release_expired_reservations().await.unwrap();
            stoa_orders::tasks::work_once(&shop.orders.saga)
                .await
                .unwrap();
        }
        let report = stoa::doctor::examine(&shop.products_db, &shop.orders_db).await;
        let report = report.unwrap();
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        assert_eq!(report.unfinished, 0);
        shop.close().await;
    }
}

fn tick(shop: &InProcessShop, by: Duration) {
    for clock in &shop.clocks {
        clock.advance(by);
    }
}

fn reserve(
    shop: &InProcessShop,
    order: &OrderId,
    lines: &[(&ProductId, u32)],
) -> JoinHandle<ReserveOutcome> {
    let request = ReserveStock {
        order_id: order.clone(),
        lines: lines
            .iter()
            .map(|(product, quantity)| StockLine {
                product_id: (*product).clone(),
                quantity: *quantity,
            })
            .collect(),
    };
    let products = shop.products.clone();
    tokio::spawn(async move { products.stock_reserve(&request).await.unwrap() })
}

async fn place(shop: &InProcessShop, customer: &Caller, product: &ProductId, units: u32) -> Order {
    let request = request(&[(product, units)], APPROVE);
    let (context, key) = (call(customer), key());
    let placed = shop.orders.orders.order_place(&context, &request, &key);
    placed.await.unwrap()
}

/// An order that is paid.
async fn bought(shop: &InProcessShop, customer: &Caller, product: &ProductId, units: u32) -> Order {
    let order = place(shop, customer, product, units).await;
    tick(shop, Duration::from_secs(1));
    stoa_orders::tasks::work_once(&shop.orders.saga)
        .await
        .unwrap();
    assert_eq!(status(shop, &order).await, Status::Confirmed);
    order
}

async fn status(shop: &InProcessShop, order: &Order) -> Status {
    let ids = std::slice::from_ref(&order.id);
    shop.orders.orders.order_fetch_many(ids).await.unwrap()[&order.id].status
}

fn change(
    shop: &InProcessShop,
    caller: &Caller,
    verb: &OrderAction,
    order: &Order,
    key: &str,
) -> JoinHandle<Result<Order, Error>> {
    let (orders, caller) = (shop.orders.clone(), caller.clone());
    let (id, key, verb) = (order.id.to_string(), key.to_owned(), verb.clone());
    tokio::spawn(async move {
        orders
            .orders
            .order_change(&caller, &verb, &id, None, &key)
            .await
    })
}

fn is_refused(done: &Result<Order, Error>, code: ProblemCode) -> bool {
    matches!(done, Err(Error::Invalid(problems)) if problems[0].code == code)
}

fn took(reserved: &ReserveOutcome) -> bool {
    matches!(reserved, ReserveOutcome::Ok { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unit() {
    on_both(async |shop| {
        for _ in 0..ROUNDS {
            let product = shop.product(1).await;
            let tries: Vec<_> = (0..4)
                .map(|_| reserve(shop, &OrderId::new(), &[(&product, 1)]))
                .collect();
            let mut sold = 0;
            for one in tries {
                sold += usize::from(took(&one.await.unwrap()));
            }
            assert_eq!((sold, shop.stock(&[product]).await), (1, vec![0]));
        }
        // Forced: the first has taken the unit, and has not committed.
        let product = shop.product(1).await;
        let (first, second) = (OrderId::new(), OrderId::new());
        let mut held = hold("reserve.taken", first.as_str());
        let winner = reserve(shop, &first, &[(&product, 1)]);
        held.reached().await;
        let loser = reserve(shop, &second, &[(&product, 1)]);
        tokio::time::sleep(BLOCKED_WAIT).await;
        assert!(!loser.is_finished(), "it waits for what the first does");
        held.release();
        assert!(took(&winner.await.unwrap()));
        assert!(!took(&loser.await.unwrap()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_product_on_two_lines() {
    on_both(async |shop| {
        for _ in 0..ROUNDS {
            // Each of two orders wants two units, and there are three.
            let (product, other) = (shop.product(3).await, shop.product(9).await);
            let lines = [(&product, 1), (&other, 1), (&product, 1)];
            let turned = [(&other, 1), (&product, 1), (&product, 1)];
            let one = reserve(shop, &OrderId::new(), &lines);
            let two = reserve(shop, &OrderId::new(), &turned);
            let sold = [one.await.unwrap(), two.await.unwrap()];
            assert_eq!(sold.iter().filter(|done| took(done)).count(), 1);
            assert_eq!(shop.stock(&[product, other]).await, [1, 8]);
        }
        let product = shop.product(3).await;
        let lines = [(&product, 1), (&product, 1)];
        let (first, second) = (OrderId::new(), OrderId::new());
        let mut held = hold("reserve.taken", first.as_str());
        let winner = reserve(shop, &first, &lines);
        held.reached().await;
        let loser = reserve(shop, &second, &lines);
        tokio::time::sleep(BLOCKED_WAIT).await;
        held.release();
        assert!(took(&winner.await.unwrap()) && !took(&loser.await.unwrap()));
        assert_eq!(shop.stock(&[product]).await, [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placing_twice_with_one_key() {
    on_both(async |shop| {
        let customer = person(Role::Customer);
        let product = shop.product(1_000).await;
        let request = request(&[(&product, 2)], APPROVE);
        let attempt = |key: &str| {
            let (orders, context) = (shop.orders.clone(), call(&customer));
            let (request, key) = (request.clone(), key.to_owned());
            tokio::spawn(async move { orders.orders.order_place(&context, &request, &key).await })
        };
        for _ in 0..ROUNDS {
            let key = key();
            let tries: Vec<_> = (0..4).map(|_| attempt(&key)).collect();
            let mut ids = Vec::new();
            for one in tries {
                match one.await.unwrap() {
                    Ok(order) => ids.push(order.id),
                    refused => assert!(is_refused(&refused, ProblemCode::InProgress)),
                }
            }
            ids.dedup();
            assert_eq!(ids.len(), 1);
        }
        // Forced: the first holds its reservation until its lease expires, and the second
        // takes over.
        let key = key();
        let mut held = hold("place.reserved", &key);
        let first = attempt(&key);
        held.reached().await;
        let early = attempt(&key).await.unwrap();
        assert!(is_refused(&early, ProblemCode::InProgress));
        tick(shop, Duration::from_secs(31));
        let second = attempt(&key).await.unwrap().unwrap();
        held.release();
        assert_eq!(first.await.unwrap().unwrap().id, second.id);
        let sold = 2 * (i64::try_from(ROUNDS).unwrap() + 1);
        assert_eq!(shop.stock(&[product]).await, [1_000 - sold]);
    })
    .await;
}

/// Two concurrent changes of one order: exactly one succeeds, in either order.
async fn one_of_two(
    shop: &InProcessShop,
    one: (&Caller, &OrderAction),
    two: (&Caller, &OrderAction),
    buyer: &Caller,
) {
    let product = shop.product(1_000).await;
    for _ in 0..ROUNDS {
        let order = bought(shop, buyer, &product, 1).await;
        let first = change(shop, one.0, one.1, &order, &key());
        let second = change(shop, two.0, two.1, &order, &key());
        let done = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
        let illegal = |done| is_refused(done, ProblemCode::IllegalStatus);
        assert_eq!(done.iter().filter(|done| illegal(done)).count(), 1);
    }
    // Forced: the first has locked the order, and has not changed it.
    for (first, second) in [(one, two), (two, one)] {
        let order = bought(shop, buyer, &product, 1).await;
        let key_of_first = key();
        let mut held = hold("change.locked", &key_of_first);
        let winner = change(shop, first.0, first.1, &order, &key_of_first);
        held.reached().await;
        let loser = change(shop, second.0, second.1, &order, &key());
        tokio::time::sleep(BLOCKED_WAIT).await;
        assert!(!loser.is_finished(), "it waits for the order");
        held.release();
        assert!(winner.await.unwrap().is_ok());
        let loser = loser.await.unwrap();
        assert!(is_refused(&loser, ProblemCode::IllegalStatus), "{loser:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_administrators_with_one_order() {
    on_both(async |shop| {
        let (other, buyer) = (person(Role::Admin), person(Role::Customer));
        one_of_two(
            shop,
            (&shop.admin, &OrderAction::SHIP),
            (&other, &OrderAction::SHIP),
            &buyer,
        )
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_against_shipping() {
    on_both(async |shop| {
        let buyer = person(Role::Customer);
        one_of_two(
            shop,
            (&buyer, &OrderAction::Cancel),
            (&shop.admin, &OrderAction::SHIP),
            &buyer,
        )
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_against_the_client() {
    on_both(async |shop| {
        let (buyer, product) = (person(Role::Customer), shop.product(1_000).await);
        let news = |order: &Order, id: usize| {
            let (orders, id) = (shop.orders.clone(), format!("{}-{id}", order.id));
            let event = PaymentEvent {
                id,
                kind: "payment.decided".to_owned(),
                order_id: Some(order.id.clone()),
            };
            tokio::spawn(async move {
                orders.saga.event_store(&event, b"{}").await.unwrap();
                stoa_orders::tasks::work_once(&orders.saga).await.unwrap();
            })
        };
        for _ in 0..ROUNDS {
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            let webhooks = [news(&order, 1), news(&order, 1), news(&order, 2)];
            let cancelled = change(shop, &buyer, &OrderAction::Cancel, &order, &key());
            for one in webhooks {
                one.await.unwrap();
            }
            cancelled.await.unwrap().unwrap();
            assert_eq!(status(shop, &order).await, Status::Cancelled);
        }
        // Forced: the client's change has locked the order while the webhook's step runs.
        let order = place(shop, &buyer, &product, 1).await;
        tick(shop, Duration::from_secs(1));
        let key = key();
        let mut held = hold("change.locked", &key);
        let cancelled = change(shop, &buyer, &OrderAction::Cancel, &order, &key);
        held.reached().await;
        let webhooks = news(&order, 1);
        tokio::time::sleep(BLOCKED_WAIT).await;
        held.release();
        cancelled.await.unwrap().unwrap();
        webhooks.await.unwrap();
        assert_eq!(status(shop, &order).await, Status::Cancelled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_runs_out_against_its_confirmation() {
    on_both(async |shop| {
        let buyer = person(Role::Customer);
        let both = |shop: &InProcessShop| {
            let (orders, products) = (shop.orders.clone(), shop.products.clone());
            let work =
                tokio::spawn(
                    async move { stoa_orders::tasks::work_once(&orders.saga).await.unwrap() },
                );
            let sweep =
                tokio::spawn(async move { products.release_expired_reservations().await.unwrap() });
            (work, sweep)
        };
        // By the clock of products the reservation has expired; by that of orders it has not.
        let up = Duration::from_secs(16 * 60);
        for _ in 0..ROUNDS {
            let product = shop.product(1).await;
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            shop.clocks[1].advance(up);
            let (work, sweep) = both(shop);
            work.await.unwrap();
            sweep.await.unwrap();
            agree(shop, &order, &product).await;
        }
        for (place_of, wins) in [
            ("commit.set", Status::Confirmed),
            ("expire.returned", Status::Cancelled),
        ] {
            let product = shop.product(1).await;
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            shop.clocks[1].advance(up);
            let mut held = hold(place_of, order.id.as_str());
            let (orders, products) = (shop.orders.clone(), shop.products.clone());
            if place_of == "commit.set" {
                let work = tokio::spawn(async move {
                    stoa_orders::tasks::work_once(&orders.saga).await.unwrap()
                });
                held.reached().await;
                let sweep =
                    tokio::spawn(
                        async move { products.release_expired_reservations().await.unwrap() },
                    );
                tokio::time::sleep(BLOCKED_WAIT).await;
                held.release();
                sweep.await.unwrap();
                work.await.unwrap();
            } else {
                let sweep =
                    tokio::spawn(
                        async move { products.release_expired_reservations().await.unwrap() },
                    );
                held.reached().await;
                let work = tokio::spawn(async move {
                    stoa_orders::tasks::work_once(&orders.saga).await.unwrap()
                });
                tokio::time::sleep(BLOCKED_WAIT).await;
                held.release();
                sweep.await.unwrap();
                work.await.unwrap();
            }
            assert_eq!(agree(shop, &order, &product).await, wins);
        }
    })
    .await;
}

/// Asserts that the unit is sold if and only if the order is confirmed.
async fn agree(shop: &InProcessShop, order: &Order, product: &ProductId) -> Status {
    stoa_orders::tasks::work_once(&shop.orders.saga)
        .await
        .unwrap();
    let status = status(shop, order).await;
    let stock = shop.stock(std::slice::from_ref(product)).await[0];
    match status {
        Status::Confirmed => assert_eq!(stock, 0),
        Status::Cancelled => assert_eq!(stock, 1),
        other => panic!("{other:?}"),
    }
    status
}

/// Of two workers that request the same step from Stripe, one is rejected; that must
/// not count as a declined payment.
#[tokio::test(flavor = "multi_thread")]
async fn one_payment_at_stripe_by_two_workers() {
    let fake = FakeStripe::default();
    let options = StripeOptions {
        url: fake.serve().await,
        secret_key: stripe::SECRET_KEY.into(),
        webhook_secret: stripe::WEBHOOK_SECRET.into(),
    };
    let stripe = Stripe::new(options, Clock::system()).unwrap();
    for _ in 0..ROUNDS * 4 {
        let mut payment = Payment {
            provider: "stripe".to_owned(),
            order_id: OrderId::new(),
            method: "pm_card_visa".to_owned(),
            amount: Money::new(500, Currency::parse("EUR").unwrap()),
            reference: None,
            started_at: 0,
        };
        let (one, two) = tokio::join!(stripe.authorise(&payment), stripe.authorise(&payment));
        for authorised in [one.unwrap(), two.unwrap()] {
            let Authorised::Approved { reference } = authorised else {
                panic!("{authorised:?}");
            };
            payment.reference = Some(reference);
        }
        let (one, two) = tokio::join!(stripe.capture(&payment), stripe.capture(&payment));
        assert_eq!(
            (one.unwrap(), two.unwrap()),
            (Captured::Done, Captured::Done)
        );
    }
}
