//! Stock over an embedded database, with a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use stoa_migrations::ProductsMigrator;
use stoa_products::app::product::Freshness;
use stoa_products::domain::{Adjustment, NewProduct, RESERVATION_TTL};
use stoa_products::{App, Error};
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::money::Currency;
use stoa_schema::peer::{
    ReserveOutcome, ReserveStock, ReturnLine, ReturnStock, StockLine, StockProblemReason,
};
use stoa_schema::{Money, OrderId, ProductId, UserId};
use stoa_service::cache::Cache;
use stoa_service::database::{Database, PoolOptions};
use tempfile::TempDir;

struct Fixture {
    app: App,
    clock: Clock,
    admin: Caller,
    _folder: TempDir,
}

fn person(role: Role) -> Caller {
    let id = UserId::new().into();
    Caller::User { id, role }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("products.db").display());
        let database = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<ProductsMigrator>().await.unwrap();
        let clock = Clock::manual(1_800_000_000_000_000);
        Self {
            app: App::new(database, &Cache::memory(), clock.clone()),
            clock,
            admin: person(Role::Admin),
            _folder: folder,
        }
    }

    async fn product(&self, stock: i64) -> ProductId {
        let new = NewProduct {
            sku: format!("SKU-{}", ProductId::new()),
            name: "Mug".to_owned(),
            description: String::new(),
            price: Some(Money::new(1_250, Currency::EUR)),
            category_id: None,
            stock,
        };
        let product = self.app.product_create(&self.admin, new).await;
        product.unwrap().id
    }

    async fn stock(&self, id: &ProductId) -> i64 {
        let ids = [id.clone()];
        let found = self.app.product_fetch_many(&ids, Freshness::Fresh).await;
        found.unwrap()[id].stock.unwrap()
    }

    async fn reserve(&self, order: &OrderId, lines: &[(&ProductId, u32)]) -> ReserveOutcome {
        let lines = lines.iter().map(|(id, quantity)| StockLine {
            product_id: (*id).clone(),
            quantity: *quantity,
        });
        let request = ReserveStock {
            order_id: order.clone(),
            lines: lines.collect(),
        };
        self.app.stock_reserve(&request).await.unwrap()
    }

    async fn commit(&self, order: &OrderId) -> bool {
        self.app.stock_commit(order).await.unwrap().committed
    }
}

#[tokio::test]
async fn an_order_reserves_all_of_its_lines_or_none() {
    let shop = Fixture::new().await;
    let (plenty, scarce) = (shop.product(10).await, shop.product(1).await);
    let refused = shop
        .reserve(&OrderId::new(), &[(&plenty, 3), (&scarce, 2)])
        .await;
    let ReserveOutcome::Refused { problems } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].product_id, scarce);
    assert_eq!(problems[0].reason, StockProblemReason::Insufficient);
    assert_eq!(problems[0].available, 1);
    assert_eq!(
        (shop.stock(&plenty).await, shop.stock(&scarce).await),
        (10, 1)
    );

    let unknown = shop
        .reserve(&OrderId::new(), &[(&ProductId::new(), 1)])
        .await;
    assert!(matches!(unknown, ReserveOutcome::Refused { problems }
        if problems[0].reason == StockProblemReason::Unknown));
}

#[tokio::test]
async fn a_repeated_reservation_takes_its_units_once() {
    let shop = Fixture::new().await;
    let (product, order) = (shop.product(5).await, OrderId::new());
    let first = shop.reserve(&order, &[(&product, 2)]).await;
    assert!(matches!(first, ReserveOutcome::Ok { .. }), "{first:?}");
    assert_eq!(shop.reserve(&order, &[(&product, 2)]).await, first);
    assert_eq!(shop.stock(&product).await, 3);
}

#[tokio::test]
async fn a_reservation_expires_unless_it_was_committed() {
    let shop = Fixture::new().await;
    let product = shop.product(5).await;
    let (paid, unpaid) = (OrderId::new(), OrderId::new());
    shop.reserve(&paid, &[(&product, 2)]).await;
    shop.reserve(&unpaid, &[(&product, 1)]).await;
    assert!(shop.commit(&paid).await);

    shop.clock.advance(RESERVATION_TTL - Duration::from_secs(1));
    shop.app.release_expired_reservations().await.unwrap();
    assert_eq!(shop.stock(&product).await, 2, "not yet");
    shop.clock.advance(Duration::from_secs(2));
    for _ in 0..2 {
        shop.app.release_expired_reservations().await.unwrap();
        assert_eq!(shop.stock(&product).await, 3);
    }
    assert!(!shop.commit(&unpaid).await, "its units may be sold");
    let again = shop.reserve(&unpaid, &[(&product, 1)]).await;
    assert_eq!(again, ReserveOutcome::Released);
}

#[tokio::test]
async fn a_release_that_overtakes_its_reservation_prevents_it() {
    let shop = Fixture::new().await;
    let (product, order) = (shop.product(5).await, OrderId::new());
    shop.app.stock_release(&order).await.unwrap();
    let late = shop.reserve(&order, &[(&product, 2)]).await;
    assert_eq!(late, ReserveOutcome::Released);
    assert_eq!(shop.stock(&product).await, 5);
}

#[tokio::test]
async fn a_return_puts_units_back_once() {
    let shop = Fixture::new().await;
    let (product, order) = (shop.product(5).await, OrderId::new());
    shop.reserve(&order, &[(&product, 3)]).await;
    assert!(shop.commit(&order).await);
    let request = ReturnStock {
        return_id: "refund-1".to_owned(),
        order_id: order.clone(),
        lines: vec![ReturnLine {
            product_id: product.clone(),
            called_off: 1,
            restocked: 1,
        }],
    };
    for _ in 0..2 {
        shop.app.stock_return(&request).await.unwrap();
        assert_eq!(shop.stock(&product).await, 4);
    }
}

#[tokio::test]
async fn cancelled_units_of_a_released_reservation_are_not_added_again() {
    let shop = Fixture::new().await;
    let (product, order) = (shop.product(5).await, OrderId::new());
    shop.reserve(&order, &[(&product, 3)]).await;
    shop.app.stock_release(&order).await.unwrap();
    let request = ReturnStock {
        return_id: "refund-1".to_owned(),
        order_id: order,
        lines: vec![ReturnLine {
            product_id: product.clone(),
            called_off: 3,
            restocked: 0,
        }],
    };
    shop.app.stock_return(&request).await.unwrap();
    assert_eq!(shop.stock(&product).await, 5);
}

#[tokio::test]
async fn only_administrators_adjust_stock_and_never_below_zero() {
    let shop = Fixture::new().await;
    let product = shop.product(2).await;
    let adjust = async |caller: &Caller, delta: i64, key: &str| {
        let adjustment = Adjustment {
            product_id: product.to_string(),
            delta,
            reason: "counted".to_owned(),
        };
        shop.app.stock_adjust(caller, adjustment, key).await
    };
    assert!(adjust(&person(Role::Customer), 1, "a").await.is_err());
    assert!(matches!(
        adjust(&shop.admin, -3, "b").await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(shop.stock(&product).await, 2);
    for _ in 0..2 {
        adjust(&shop.admin, 4, "c").await.unwrap();
        assert_eq!(shop.stock(&product).await, 6, "once for each key");
    }
}
