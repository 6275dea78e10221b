//! The orders service with a mock provider and a mock products service.

use super::*;

/// How the mock provider responds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    Pending,
    Declined,
    Authorised,
    /// Authorised; the capture is declined.
    CaptureDeclined,
    /// Authorised and captured, but the response to the capture is lost.
    ResponseLost,
    /// The provider is unavailable.
    Unavailable,
    /// The provider never responds.
    Hangs,
    /// The provider adapter panics.
    Panics,
}

/// A mock provider that records the money it moved and counts its calls.
pub struct Provider {
    pub outcome: Mutex<Outcome>,
    pub captured: Mutex<HashMap<String, i64>>,
    pub refunded: Mutex<HashMap<String, i64>>,
    pub captures: AtomicUsize,
    pub voids: AtomicUsize,
    pub refunds: AtomicUsize,
}

pub fn no_response<T>() -> Result<T, NoResponse> {
    Err(NoResponse("unavailable".to_owned()))
}

#[async_trait]
impl PaymentProvider for Provider {
    fn name(&self) -> &'static str {
        "played"
    }

    fn check_method(&self, _method: &str) -> Result<(), String> {
        Ok(())
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse> {
        let reference = payment.order_id.to_string();
        let outcome = *self.outcome.lock().unwrap();
        match outcome {
            Outcome::Pending => {
                wait_while_held("provider.pending", &reference).await;
                Ok(Authorised::Pending { reference })
            }
            Outcome::Declined => Ok(Authorised::Declined {
                reason: "no".to_owned(),
            }),
            Outcome::Unavailable => no_response(),
            Outcome::Hangs => std::future::pending().await,
            Outcome::Panics => panic!("as the test wants"),
            _ => Ok(Authorised::Approved { reference }),
        }
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse> {
        self.captures.fetch_add(1, Ordering::SeqCst);
        wait_while_held("provider.capture", payment.order_id.as_str()).await;
        let outcome = *self.outcome.lock().unwrap();
        match outcome {
            Outcome::CaptureDeclined => {
                return Ok(Captured::Declined {
                    reason: "no".to_owned(),
                });
            }
            Outcome::Unavailable => return no_response(),
            _ => {}
        }
        let amount = payment.amount.amount_minor;
        let mut captured = self.captured.lock().unwrap();
        captured.insert(payment.order_id.to_string(), amount);
        match outcome {
            Outcome::ResponseLost => no_response(),
            _ => Ok(Captured::Done),
        }
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse> {
        let captured = self.captured.lock().unwrap();
        if captured.contains_key(payment.order_id.as_str()) {
            return Ok(Voided::Captured);
        }
        self.voids.fetch_add(1, Ordering::SeqCst);
        Ok(Voided::Done)
    }

    fn event(&self, _headers: &HeaderMap, _body: &[u8]) -> Result<PaymentEvent, BadEvent> {
        Err(BadEvent::Body)
    }

    async fn refund(&self, _payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse> {
        self.refunds.fetch_add(1, Ordering::SeqCst);
        let mut refunded = self.refunded.lock().unwrap();
        refunded.insert(key.to_owned(), amount.amount_minor);
        Ok(())
    }
}

pub fn admin() -> Caller {
    Caller::User {
        id: UserId::new().into(),
        role: Role::Admin,
    }
}

/// A mock products service that has every product in stock.
#[derive(Default)]
pub struct Products {
    pub expired: AtomicBool,
    pub down: AtomicBool,
    pub releases: AtomicUsize,
    pub returns: AtomicUsize,
}

#[async_trait]
impl PeerHandler for Products {
    async fn call(
        &self,
        _context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(PeerError::Failed {
                service: "products".into(),
            });
        }
        let order = message["order_id"].as_str().unwrap_or_default();
        wait_while_held(&format!("products.{method}"), order).await;
        Ok(match method {
            "reserve_stock" => {
                let product = message["lines"][0]["product_id"].clone();
                json!({ "outcome": "ok", "products": [{
                    "product_id": product, "sku": "A", "name": "A",
                    "price": { "amountMinor": 500, "currency": "EUR" },
                }] })
            }
            "commit_stock" => json!({ "committed": !self.expired.load(Ordering::SeqCst) }),
            "release_stock" => {
                self.releases.fetch_add(1, Ordering::SeqCst);
                json!({})
            }
            "return_stock" => {
                self.returns.fetch_add(1, Ordering::SeqCst);
                json!({})
            }
            other => panic!("{other}"),
        })
    }
}

pub struct Fixture {
    pub app: App,
    pub clock: Clock,
    pub provider: Arc<Provider>,
    pub products: Arc<Products>,
    pub customer: Caller,
    folder: TempDir,
}

async fn open(folder: &TempDir, name: &str) -> Database {
    let path = folder.path().join(format!("{name}.db"));
    let url = format!("sqlite://{}", path.display());
    Database::connect(&url, &PoolOptions::default())
        .await
        .unwrap()
}

impl Fixture {
    /// Another connection to the database.
    pub async fn connect(&self) -> Database {
        open(&self.folder, "orders").await
    }

    pub async fn new(outcome: Outcome) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = open(&folder, "orders").await;
        database.migrate::<OrdersMigrator>().await.unwrap();
        let bus_database = open(&folder, "bus").await;
        bus_database.migrate::<BusMigrator>().await.unwrap();
        let clock = Clock::manual(1_800_000_000_000_000);
        let provider = Arc::new(Provider {
            outcome: Mutex::new(outcome),
            captured: Mutex::default(),
            refunded: Mutex::default(),
            captures: AtomicUsize::new(0),
            voids: AtomicUsize::new(0),
            refunds: AtomicUsize::new(0),
        });
        let products = Arc::new(Products::default());
        let local = LocalPeers::default();
        local.connect(HashMap::from([(
            "products",
            products.clone() as Arc<dyn PeerHandler>,
        )]));
        // The relay is not run: events stay in the outbox.
        let bus = EmbeddedBus::open(bus_database, clock.clone())
            .await
            .unwrap();
        let relay = Relay::new(database.clone(), Arc::new(bus), clock.clone());
        let app = App::new(
            database,
            Peers::local("orders", local),
            provider.clone(),
            Arc::new(TableRates::default()),
            relay,
            clock.clone(),
        );
        let customer = Caller::User {
            id: UserId::new().into(),
            role: Role::Customer,
        };
        Self {
            app,
            clock,
            provider,
            products,
            customer,
            folder,
        }
    }

    pub async fn place(&self) -> Order {
        let context = CallContext {
            caller: self.customer.clone(),
            correlation_id: "test".into(),
            ..CallContext::default()
        };
        let request = Request {
            lines: vec![RequestLine {
                product_id: ProductId::new().to_string(),
                quantity: 2,
            }],
            shipping_address: Address {
                full_name: None,
                line1: "1".into(),
                line2: None,
                city: "A".into(),
                region: None,
                postal_code: "1".into(),
                country: "NL".into(),
            },
            payment_method: "any".into(),
            discount_code: None,
        };
        let key = stoa_schema::ids::new_id();
        self.app
            .orders
            .order_place(&context, &request, &key)
            .await
            .unwrap()
    }

    pub async fn change(&self, order: &Order, verb: OrderAction) -> Order {
        let key = stoa_schema::ids::new_id();
        self.app
            .orders
            .order_change(&admin(), &verb, order.id.as_str(), None, &key)
            .await
            .unwrap()
    }

    /// Runs due jobs five times, a second apart.
    pub async fn work(&self) {
        for _ in 0..5 {
            self.clock.advance(Duration::from_secs(1));
            stoa_orders::tasks::work_once(&self.app.saga).await.unwrap();
        }
    }

    pub async fn status(&self, order: &Order) -> OrderStatus {
        let ids = std::slice::from_ref(&order.id);
        self.app.orders.order_fetch_many(ids).await.unwrap()[&order.id].status
    }

    pub fn voids(&self) -> usize {
        self.provider.voids.load(Ordering::SeqCst)
    }

    pub fn refunds(&self) -> usize {
        self.provider.refunds.load(Ordering::SeqCst)
    }

    pub fn releases(&self) -> usize {
        self.products.releases.load(Ordering::SeqCst)
    }

    pub fn returns(&self) -> usize {
        self.products.returns.load(Ordering::SeqCst)
    }

    pub async fn progress(&self, order: &Order) -> Vec<Progress> {
        let ids = std::slice::from_ref(&order.id);
        let mut found = self.app.orders.progress_fetch_many(ids).await.unwrap();
        found.remove(&order.id).unwrap_or_default()
    }

    /// The orders that administrators get when they list stuck orders.
    pub async fn stuck(&self) -> Vec<OrderId> {
        let filter = OrderFilter {
            stuck_since: Some(self.app.orders.stuck_since()),
            ..OrderFilter::default()
        };
        let page = PageRequest::default();
        let found = self
            .app
            .orders
            .order_list(&admin(), &filter, &page)
            .await
            .unwrap();
        found.rows.into_iter().map(|order| order.id).collect()
    }

    pub fn decide(&self, outcome: Outcome) {
        *self.provider.outcome.lock().unwrap() = outcome;
    }
}
