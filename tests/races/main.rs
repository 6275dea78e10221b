//! Concurrent operations wherever money and stock are at stake: many rounds without
//! control, and one forced interleaving in which the first operation is held at a
//! failpoint while the second runs. On SQLite and on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod checkout;
mod payments;

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
use stoa_tests::poll::{eventually, never_within};
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

/// Lets an operation run until it has finished or is blocked by one that is held.
async fn blocked_or_finished<T>(operation: &JoinHandle<T>) {
    let finished = eventually("it finishes", async || operation.is_finished());
    let _ = tokio::time::timeout(BLOCKED_WAIT, finished).await;
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
        never_within("the second is decided", BLOCKED_WAIT, async || {
            loser.is_finished()
        })
        .await;
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
        blocked_or_finished(&loser).await;
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
        never_within("the second changes the order", BLOCKED_WAIT, async || {
            loser.is_finished()
        })
        .await;
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
