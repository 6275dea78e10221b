//! The orders and products services in the test's own process, with manual clocks
//! and dependencies with injected faults.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use stoa_orders::App as Orders;
use stoa_orders::domain::{Address, Request, RequestLine, TableRates};
use stoa_orders::payment::sandbox::Sandbox;
use stoa_products::App as Products;
use stoa_products::app::product::Freshness;
use stoa_products::domain::NewProduct;
use stoa_products::peer::Peer;
use stoa_runtime::clock::{Clock, Micros};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::money::Currency;
use stoa_schema::{Money, ProductId, UserId};
use stoa_service::cache::Cache;
use stoa_service::context::CallContext;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::outbox::Relay;
use stoa_service::peer::{LocalPeers, PeerHandler, Peers};

use crate::faulty::{Faults, FaultyPeer, FaultyProvider};

/// What each product costs, in cents.
pub const PRICE: i64 = 1_250;
const START: Micros = 1_800_000_000_000_000;

pub struct InProcessShop {
    pub orders: Orders,
    pub products: Products,
    pub orders_db: Database,
    pub products_db: Database,
    pub faults: Faults,
    /// The clocks of orders and of products: they run on machines that may disagree.
    pub clocks: [Clock; 2],
    pub admin: Caller,
}

/// An SQLite database in a folder.
pub async fn sqlite(folder: &Path, name: &str) -> Database {
    let url = format!("sqlite://{}", folder.join(format!("{name}.db")).display());
    let pool = PoolOptions::default();
    let opened = Database::connect(&url, &pool).await;
    opened.expect("SQLite opens")
}

/// A new user with a role.
pub fn person(role: Role) -> Caller {
    let id = UserId::new();
    Caller::User {
        id: id.into(),
        role,
    }
}

pub fn key() -> String {
    stoa_schema::ids::new_id()
}

/// The context of a call by this caller.
pub fn call(caller: &Caller) -> CallContext {
    CallContext {
        caller: caller.clone(),
        correlation_id: "test".into(),
        ..CallContext::default()
    }
}

/// An order request with these products and quantities.
pub fn request(lines: &[(&ProductId, u32)], method: &str) -> Request {
    let lines = lines.iter().map(|(product, quantity)| RequestLine {
        product_id: product.to_string(),
        quantity: i64::from(*quantity),
    });
    Request {
        lines: lines.collect(),
        shipping_address: Address {
            full_name: None,
            line1: "1 Stoa".to_owned(),
            line2: None,
            city: "Athens".to_owned(),
            region: None,
            postal_code: "10551".to_owned(),
            country: "GR".to_owned(),
        },
        payment_method: method.to_owned(),
        discount_code: None,
    }
}

impl InProcessShop {
    /// Builds both services over migrated databases. Their events stay in the
    /// outbox: no relay runs.
    pub async fn new(orders_db: Database, products_db: Database, bus_db: Database) -> Self {
        let clocks = [Clock::manual(START), Clock::manual(START)];
        let products = Products::new(products_db.clone(), &Cache::memory(), clocks[1].clone());
        let faults = Faults::default();
        let local = LocalPeers::default();
        let peer: Arc<dyn PeerHandler> = Arc::new(FaultyPeer {
            inner: Arc::new(Peer(products.clone())),
            faults: faults.clone(),
        });
        local.connect(HashMap::from([("products", peer)]));
        let clock = clocks[0].clone();
        let bus = EmbeddedBus::open(bus_db, clock.clone()).await;
        let bus = bus.expect("the event bus opens");
        let provider = FaultyProvider {
            inner: Sandbox::new(orders_db.clone(), clock.clone(), None),
            faults: faults.clone(),
        };
        let orders = Orders::new(
            orders_db.clone(),
            Peers::local("orders", local),
            Arc::new(provider),
            Arc::new(TableRates::default()),
            Relay::new(orders_db.clone(), Arc::new(bus), clock.clone()),
            clock,
        );
        Self {
            orders,
            products,
            orders_db,
            products_db,
            faults,
            clocks,
            admin: person(Role::Admin),
        }
    }

    /// Creates a product with this much stock.
    pub async fn product(&self, stock: i64) -> ProductId {
        let seed = Caller::Service {
            name: "seed".to_owned(),
        };
        let new = NewProduct {
            sku: format!("M-{}", key()),
            name: "A thing".to_owned(),
            description: String::new(),
            price: Some(Money::new(PRICE, Currency::EUR)),
            category_id: None,
            stock,
        };
        let made = self.products.product_create(&seed, new).await;
        made.expect("a product is made").id
    }

    /// The available stock of these products.
    pub async fn stock(&self, products: &[ProductId]) -> Vec<i64> {
        let found = self
            .products
            .product_fetch_many(products, Freshness::Fresh)
            .await
            .expect("products are read");
        let units = products
            .iter()
            .map(|id| found[id].stock.unwrap_or_default());
        units.collect()
    }

    pub async fn close(&self) {
        self.orders_db.close().await;
        self.products_db.close().await;
    }
}
