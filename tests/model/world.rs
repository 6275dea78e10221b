//! The shop under test, and the model that it is compared with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use stoa_migrations::{MigratorTrait, OrdersMigrator, ProductsMigrator};
use stoa_orders::Error;
use stoa_orders::app::{ShipmentRequest, Verb};
use stoa_orders::domain::{ProblemCode, RefundRequest, RefundWish, Request, UnitsWish};
use stoa_orders::payment::{Event, sandbox};
use stoa_products::app::Adjustment;
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::{OrderId, ProductId};
use stoa_service::error::{Coded, FORBIDDEN};
use stoa_tests::faulty::How;
use stoa_tests::inside::{self, Inside, PRICE, call, key, person, sqlite};

use crate::Counts;
use crate::model::{self, Units, Wish};

const METHODS: [&str; 4] = [
    sandbox::APPROVE,
    sandbox::DECLINE,
    sandbox::DECLINE_CAPTURE,
    sandbox::TIMEOUT,
];
/// As long as units wait, and as an authorisation may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone)]
pub enum Op {
    Place {
        customer: usize,
        lines: Vec<(usize, u32)>,
        method: usize,
    },
    /// Placing again, with the key of an earlier attempt.
    Repeat(usize),
    Change {
        order: usize,
        wish: Wish,
        by_admin: bool,
    },
    /// A change again, with its key.
    RepeatChange(usize),
    Adjust {
        product: usize,
        delta: i64,
    },
    Work,
    Sweep,
    Advance(u64),
    TurnBack(u64),
    /// The provider tells something of an order.
    Webhook(usize),
    /// The call after the next so many fails.
    Fault {
        skip: usize,
        how: How,
    },
}

/// Two databases, migrated once and copied for each sequence.
pub struct Template(PathBuf);

impl Template {
    pub fn create() -> Self {
        // In memory where there is such a folder: nothing here outlives the run.
        let memory = PathBuf::from("/dev/shm");
        let base = Some(memory).filter(|path| path.exists());
        let base = base.unwrap_or_else(std::env::temp_dir);
        let folder = base.join(format!("stoa-model-{}", key()));
        std::fs::create_dir_all(&folder).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            migrate::<OrdersMigrator>(&folder, "orders").await;
            migrate::<ProductsMigrator>(&folder, "products").await;
        });
        Self(folder)
    }
}

async fn migrate<M: MigratorTrait>(folder: &Path, name: &str) {
    let database = sqlite(folder, name).await;
    database.migrate::<M>().await.unwrap();
    database.close().await;
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An attempt to place an order, and what is known of it.
struct Attempt {
    customer: usize,
    request: Request,
    key: String,
    /// `None` while no answer has come.
    answer: Option<Result<OrderId, Vec<ProblemCode>>>,
}

/// An order as it should be.
struct Ordered {
    id: OrderId,
    attempt: usize,
    status: Status,
    /// How far the clocks had gone.
    placed_at: [Duration; 2],
    was_confirmed: bool,
    lines: Vec<Units>,
}

struct Changed {
    order: usize,
    verb: Verb,
    caller: Caller,
    key: String,
    fine: bool,
}

pub struct World {
    folder: PathBuf,
    shop: Inside,
    /// How far each clock has gone forward, all in all.
    gone: [Duration; 2],
    customers: [Caller; 2],
    goods: Vec<ProductId>,
    received: Vec<i64>,
    attempts: Vec<Attempt>,
    placed: Vec<Ordered>,
    changes: Vec<Changed>,
    events: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    pub async fn open(template: &Template) -> Self {
        let folder = template.0.join(key());
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["orders.db", "products.db"] {
            std::fs::copy(template.0.join(name), folder.join(name)).unwrap();
        }
        let orders = sqlite(&folder, "orders").await;
        let shop = Inside::new(orders, sqlite(&folder, "products").await);
        let received = vec![2, 5, 9];
        let mut goods = Vec::new();
        for stock in &received {
            goods.push(shop.product(*stock).await);
        }
        Self {
            folder,
            shop,
            gone: [Duration::ZERO; 2],
            customers: [person(Role::Customer), person(Role::Customer)],
            goods,
            received,
            attempts: Vec::new(),
            placed: Vec::new(),
            changes: Vec::new(),
            events: 0,
        }
    }

    /// Does all that, then lets everything come to its end; each time the shop
    /// must be where the model is.
    pub async fn run(&mut self, ops: &[Op], count: &Counts) -> Checked {
        for op in ops {
            if matches!(op, Op::Fault { .. }) {
                count.faults.fetch_add(1, Ordering::Relaxed);
            }
            let done = self.apply(op).await;
            done.map_err(|problem| format!("{problem} at {op:?}"))?;
        }
        self.healthy().await?;
        self.drain().await?;
        self.at_the_end().await?;
        count.orders.fetch_add(self.placed.len(), Ordering::Relaxed);
        let paid = self.placed.iter().filter(|order| order.was_confirmed);
        count.paid.fetch_add(paid.count(), Ordering::Relaxed);
        self.shop.close().await;
        Ok(())
    }

    async fn apply(&mut self, op: &Op) -> Checked {
        match op {
            Op::Place {
                customer,
                lines,
                method,
            } => {
                let lines: Vec<_> = lines
                    .iter()
                    .map(|(product, quantity)| (&self.goods[*product], *quantity))
                    .collect();
                let request = inside::request(&lines, METHODS[*method]);
                self.attempts.push(Attempt {
                    customer: *customer,
                    request,
                    key: key(),
                    answer: None,
                });
                self.place(self.attempts.len() - 1).await?;
            }
            Op::Repeat(index) => {
                if let Some(at) = nth(&self.attempts, *index) {
                    self.place(at).await?;
                }
            }
            Op::Change {
                order,
                wish,
                by_admin,
            } => {
                if let Some(order) = nth(&self.placed, *order) {
                    let owner = self.attempts[self.placed[order].attempt].customer;
                    let caller = match by_admin {
                        true => self.shop.admin.clone(),
                        false => self.customers[owner].clone(),
                    };
                    self.change(order, *wish, caller).await?;
                }
            }
            Op::RepeatChange(index) => {
                if let Some(at) = nth(&self.changes, *index) {
                    self.change_again(at).await?;
                }
            }
            Op::Adjust { product, delta } => self.adjust(*product, *delta).await?,
            Op::Work => self.work().await,
            Op::Sweep => {
                self.shop.products.stock_expire().await.unwrap();
            }
            Op::Advance(seconds) => self.advance(Duration::from_secs(*seconds)),
            Op::TurnBack(seconds) => {
                // One clock alone: the services' machines do not agree.
                self.shop.clocks[0].turn_back(Duration::from_secs(*seconds));
            }
            Op::Webhook(order) => {
                if let Some(order) = nth(&self.placed, *order) {
                    self.events += 1;
                    let event = Event {
                        id: format!("{}", self.events / 2),
                        kind: "test".to_owned(),
                        order_id: Some(self.placed[order].id.clone()),
                    };
                    self.shop.orders.event_store(&event, b"{}").await.unwrap();
                }
            }
            Op::Fault { skip, how } => self.shop.faults.arm(*skip, *how),
        }
        self.follow(matches!(op, Op::Work)).await
    }

    fn advance(&mut self, by: Duration) {
        for (clock, gone) in self.shop.clocks.iter().zip(&mut self.gone) {
            clock.advance(by);
            *gone += by;
        }
    }

    /// Works, unless the worker ends in the middle.
    async fn work(&self) {
        tokio::select! {
            done = self.shop.orders.work_once() => { done.unwrap(); }
            () = self.shop.faults.crash.notified() => {}
        }
    }

    async fn place(&mut self, at: usize) -> Checked {
        let attempt = &self.attempts[at];
        let known = attempt.answer.clone();
        let enough = self.enough(&attempt.request).await;
        let context = call(&self.customers[attempt.customer]);
        let answer = tokio::select! {
            answer = self.shop.orders.order_place(&context, &attempt.request, &attempt.key) => answer,
            () = self.shop.faults.crash.notified() => return Ok(()),
        };
        let answer = match answer {
            Ok(order) => Ok(order.id),
            Err(Error::Invalid(problems)) => {
                Err(problems.iter().map(|problem| problem.code).collect())
            }
            Err(Error::PeerUnavailable(_)) => return Ok(()),
            Err(other) => return Err(format!("placing failed: {other}")),
        };
        if answer == Err(vec![ProblemCode::InProgress]) {
            return ensure(known.is_none(), || {
                "a decided key is in progress".to_owned()
            });
        }
        if let Some(known) = known {
            return ensure(known == answer, || format!("{known:?} became {answer:?}"));
        }
        match &answer {
            Ok(id) => self.placed.push(Ordered {
                id: id.clone(),
                attempt: at,
                status: Status::Pending,
                placed_at: self.gone,
                was_confirmed: false,
                lines: self.units(&attempt.request),
            }),
            Err(codes) if *codes == [ProblemCode::AttemptExpired] => {}
            Err(codes) => {
                let short = codes.iter().all(|c| *c == ProblemCode::InsufficientStock);
                ensure(short && !enough, || format!("refused for {codes:?}"))?;
            }
        }
        self.attempts[at].answer = Some(answer);
        Ok(())
    }

    /// Whether there are enough units of everything.
    async fn enough(&self, request: &Request) -> bool {
        let mut wanted: HashMap<&str, i64> = HashMap::new();
        for line in &request.lines {
            *wanted.entry(&line.product_id).or_default() += line.quantity;
        }
        let stock = self.shop.stock(&self.goods).await;
        let mut each = self.goods.iter().zip(stock);
        each.all(|(id, units)| {
            wanted
                .get(id.as_str())
                .is_none_or(|wanted| *wanted <= units)
        })
    }

    /// The units of a request, by product.
    fn units(&self, request: &Request) -> Vec<Units> {
        let mut lines: Vec<Units> = Vec::new();
        for line in &request.lines {
            let mut goods = self.goods.iter();
            let product = goods.position(|id| id.as_str() == line.product_id).unwrap();
            let quantity = u32::try_from(line.quantity).unwrap();
            match lines.iter_mut().find(|units| units.product == product) {
                Some(same) => same.all += quantity,
                None => lines.push(Units::new(product, quantity)),
            }
        }
        lines
    }

    fn verb(&self, order: &Ordered, wish: Wish) -> Verb {
        let some = |line: usize, units: u32| UnitsWish {
            product_id: self.goods[order.lines[line % order.lines.len()].product].to_string(),
            quantity: i64::from(units),
        };
        match wish {
            Wish::Cancel => Verb::Cancel,
            Wish::Ship => Verb::SHIP,
            Wish::Deliver => Verb::Deliver,
            Wish::Refund => Verb::REFUND,
            Wish::ShipSome(line, units) => Verb::Ship(ShipmentRequest {
                lines: Some(vec![some(line, units)]),
                ..ShipmentRequest::default()
            }),
            Wish::RefundSome(line, units, restock) => Verb::Refund(RefundRequest {
                lines: Some(vec![RefundWish {
                    units: some(line, units),
                    restock,
                }]),
                shipping: false,
            }),
        }
    }

    async fn change(&mut self, order: usize, wish: Wish, caller: Caller) -> Checked {
        let verb = self.verb(&self.placed[order], wish);
        let expected = match caller.is_admin() || wish == Wish::Cancel {
            true => {
                let order = &self.placed[order];
                model::expected(order.status, &order.lines, wish).map_err(Some)
            }
            false => Err(None),
        };
        let key = key();
        let id = self.placed[order].id.clone();
        let done = self
            .shop
            .orders
            .order_change(&caller, &verb, id.as_str(), None, &key)
            .await;
        let found = match &done {
            Ok(changed) => Ok(changed.status),
            Err(error) if error.code() == FORBIDDEN => Err(None),
            Err(Error::Invalid(problems)) => Err(Some(problems[0].code)),
            Err(other) => return Err(format!("{verb:?} failed: {other}")),
        };
        let wanted = expected.as_ref().map(|(status, _)| *status);
        ensure(found == wanted.map_err(|problem| *problem), || {
            format!("{wish:?} came to {found:?}, expected {wanted:?}")
        })?;
        let fine = found.is_ok();
        if let Ok((status, lines)) = expected {
            self.placed[order].status = status;
            self.placed[order].lines = lines;
        }
        self.changes.push(Changed {
            order,
            verb,
            caller,
            key,
            fine,
        });
        Ok(())
    }

    /// What was done is answered again, and not done again.
    async fn change_again(&self, at: usize) -> Checked {
        let change = &self.changes[at];
        if !change.fine {
            return Ok(());
        }
        let id = &self.placed[change.order].id;
        let again = self
            .shop
            .orders
            .order_change(&change.caller, &change.verb, id.as_str(), None, &change.key)
            .await;
        ensure(again.is_ok(), || format!("a repeat came to {again:?}"))
    }

    async fn adjust(&mut self, product: usize, delta: i64) -> Checked {
        let adjustment = Adjustment {
            product_id: self.goods[product].to_string(),
            delta,
            reason: "a delivery".to_owned(),
        };
        let before = self.shop.stock(&self.goods).await[product];
        let key = key();
        for _ in 0..2 {
            let done = self
                .shop
                .products
                .stock_adjust(&self.shop.admin, adjustment.clone(), &key)
                .await;
            let possible = delta != 0 && before + delta >= 0;
            ensure(done.is_ok() == possible, || format!("{done:?}"))?;
        }
        if delta != 0 && before + delta >= 0 {
            self.received[product] += delta;
        }
        Ok(())
    }

    /// Finds each order where the model has it; the worker alone may have moved
    /// it from PENDING.
    async fn follow(&mut self, worked: bool) -> Checked {
        let ids: Vec<_> = self.placed.iter().map(|order| order.id.clone()).collect();
        let found = self.shop.orders.order_fetch_many(&ids).await.unwrap();
        for order in &mut self.placed {
            let is = found[&order.id].status;
            if is != order.status {
                let method = self.attempts[order.attempt].request.payment_method.as_str();
                let pays = [sandbox::APPROVE, sandbox::TIMEOUT].contains(&method);
                let mut since = self.gone.iter().zip(order.placed_at);
                let late = since.any(|(now, then)| *now - then >= PATIENCE);
                let may = match is {
                    Status::Confirmed => pays,
                    Status::Cancelled => !pays || late,
                    _ => false,
                };
                ensure(worked && may && order.status == Status::Pending, || {
                    format!(
                        "an order of {method} went from {:?} to {is:?}",
                        order.status
                    )
                })?;
                order.status = is;
                order.was_confirmed = is == Status::Confirmed;
            }
        }
        Ok(())
    }

    async fn healthy(&self) -> Checked {
        let report = stoa::doctor::examine(&self.shop.products_db, &self.shop.orders_db).await;
        let report = report.unwrap();
        ensure(report.violations.is_empty(), || {
            format!("{:?}", report.violations)
        })
    }

    /// Nothing fails any more, and time goes on.
    async fn drain(&mut self) -> Checked {
        self.shop.faults.clear();
        for at in 0..self.attempts.len() {
            if self.attempts[at].answer.is_none() {
                // The lease of the attempt that died runs out.
                self.advance(Duration::from_secs(31));
                let behind = self.shop.clocks[1].now() - self.shop.clocks[0].now();
                let behind = Duration::from_micros(behind.unsigned_abs());
                self.shop.clocks[0].advance(behind);
                self.gone[0] += behind;
                self.place(at).await?;
                ensure(self.attempts[at].answer.is_some(), || {
                    "still no answer".to_owned()
                })?;
            }
        }
        for _ in 0..60 {
            self.advance(Duration::from_secs(61));
            self.shop.products.stock_expire().await.unwrap();
            self.work().await;
            self.follow(true).await?;
            let report = stoa::doctor::examine(&self.shop.products_db, &self.shop.orders_db).await;
            if report.unwrap().unfinished == 0 {
                return Ok(());
            }
        }
        Err("it never comes to an end".to_owned())
    }

    /// Units and money are where the orders' states say.
    async fn at_the_end(&self) -> Checked {
        self.healthy().await?;
        let mut expected = self.received.clone();
        for order in &self.placed {
            let mut due = 0;
            if order.status != Status::Cancelled {
                for units in &order.lines {
                    let gone = units.all - units.called_off - units.restocked;
                    expected[units.product] -= i64::from(gone);
                    due += i64::from(units.paid()) * PRICE;
                }
            }
            let money = self.money(&order.id).await;
            ensure(money == due, || {
                format!("{:?} keeps {money} of {due}", order.status)
            })?;
            ensure(order.status != Status::Pending, || {
                "an order is never decided".to_owned()
            })?;
        }
        let stock = self.shop.stock(&self.goods).await;
        ensure(stock == expected, || {
            format!("stock {stock:?}, expected {expected:?}")
        })
    }

    /// What the provider has taken and not returned.
    async fn money(&self, order: &OrderId) -> i64 {
        let db = self.shop.orders_db.read();
        let sql = "SELECT captured_minor - refunded_minor AS kept FROM sandbox_payment WHERE reference = $1";
        let values = [format!("sandbox_{order}").into()];
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        let row = db.query_one_raw(statement).await.unwrap();
        row.map_or(0, |row| row.try_get("", "kept").unwrap())
    }
}

/// Any number names one of what is there.
fn nth<T>(all: &[T], index: usize) -> Option<usize> {
    (!all.is_empty()).then(|| index % all.len())
}
