//! The shop under test, and the model's expectation of it.

mod checks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use stoa_migrations::{BusMigrator, MigratorTrait, OrdersMigrator, ProductsMigrator};
use stoa_orders::Error;
use stoa_orders::app::fulfilment::{OrderAction, ShipmentRequest};
use stoa_orders::domain::PaymentEvent;
use stoa_orders::domain::{LineQuantity, ProblemCode, RefundLineRequest, RefundRequest, Request};
use stoa_orders::payment::sandbox;
use stoa_products::domain::Adjustment;
use stoa_runtime::clock::micros;
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::{OrderId, ProductId};
use stoa_service::error::{CodedError, FORBIDDEN};
use stoa_tests::faulty::InjectedFault;
use stoa_tests::in_process::{self, InProcessShop, PRICE, call, key, person, sqlite};
use tempfile::TempDir;

use crate::Counts;
use crate::model::{self, RequestedChange, Units};

const METHODS: [&str; 4] = [
    sandbox::APPROVE,
    sandbox::DECLINE,
    sandbox::DECLINE_CAPTURE,
    sandbox::TIMEOUT,
];
/// The lifetime of a reservation, and the time limit of an authorisation.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone)]
pub enum Op {
    Place {
        customer: usize,
        lines: Vec<(usize, u32)>,
        method: usize,
    },
    /// Repeats an attempt to place an order, with its idempotency key.
    Repeat(usize),
    Change {
        order: usize,
        requested: RequestedChange,
        by_admin: bool,
    },
    /// Repeats a change, with its idempotency key.
    RepeatChange(usize),
    Adjust {
        product: usize,
        delta: i64,
    },
    Work,
    Sweep,
    Advance(u64),
    TurnBack(u64),
    /// The provider sends a webhook about an order.
    Webhook(usize),
    /// Injects a fault into a later call, after `skip` other calls.
    Fault {
        skip: usize,
        how: InjectedFault,
    },
}

/// Two databases, migrated once and copied for each sequence.
pub struct Template(TempDir);

impl Template {
    pub fn create() -> Self {
        // In memory if possible, for speed: nothing here outlives the run.
        let memory = PathBuf::from("/dev/shm");
        let base = Some(memory).filter(|path| path.exists());
        let base = base.unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::tempdir_in(base).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            migrate::<OrdersMigrator>(folder.path(), "orders").await;
            migrate::<ProductsMigrator>(folder.path(), "products").await;
            migrate::<BusMigrator>(folder.path(), "bus").await;
        });
        Self(folder)
    }
}

async fn migrate<M: MigratorTrait>(folder: &Path, name: &str) {
    let database = sqlite(folder, name).await;
    database.migrate::<M>().await.unwrap();
    database.close().await;
}

/// An attempt to place an order, and its result.
struct Attempt {
    customer: usize,
    request: Request,
    key: String,
    /// `None` until a response arrives.
    answer: Option<Result<OrderId, Vec<ProblemCode>>>,
}

/// The expected state of an order.
struct ExpectedOrder {
    id: OrderId,
    attempt: usize,
    status: Status,
    /// The elapsed time of each clock when it was placed.
    placed_at: [Duration; 2],
    was_confirmed: bool,
    lines: Vec<Units>,
}

struct AppliedChange {
    order: usize,
    verb: OrderAction,
    caller: Caller,
    key: String,
    succeeded: bool,
}

pub struct World {
    _folder: TempDir,
    shop: InProcessShop,
    /// The total elapsed time of each clock.
    gone: [Duration; 2],
    customers: [Caller; 2],
    product_ids: Vec<ProductId>,
    received: Vec<i64>,
    attempts: Vec<Attempt>,
    placed: Vec<ExpectedOrder>,
    changes: Vec<AppliedChange>,
    events: usize,
}

type CheckResult = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> CheckResult {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    pub async fn open(template: &Template) -> Self {
        let folder = tempfile::tempdir_in(template.0.path()).unwrap();
        for name in ["orders.db", "products.db", "bus.db"] {
            std::fs::copy(template.0.path().join(name), folder.path().join(name)).unwrap();
        }
        let orders = sqlite(folder.path(), "orders").await;
        let products = sqlite(folder.path(), "products").await;
        let bus = sqlite(folder.path(), "bus").await;
        let shop = InProcessShop::new(orders, products, bus).await;
        let received = vec![2, 5, 9];
        let mut product_ids = Vec::new();
        for stock in &received {
            product_ids.push(shop.product(*stock).await);
        }
        Self {
            _folder: folder,
            shop,
            gone: [Duration::ZERO; 2],
            customers: [person(Role::Customer), person(Role::Customer)],
            product_ids,
            received,
            attempts: Vec::new(),
            placed: Vec::new(),
            changes: Vec::new(),
            events: 0,
        }
    }

    /// Runs all operations, then lets all orders settle; after each operation the shop must
    /// match the model.
    pub async fn run(&mut self, ops: &[Op], count: &Counts) -> CheckResult {
        for op in ops {
            if matches!(op, Op::Fault { .. }) {
                count.faults.fetch_add(1, Ordering::Relaxed);
            }
            let done = self.apply(op).await;
            done.map_err(|problem| format!("{problem} at {op:?}"))?;
        }
        // Invariants must hold in the middle of the work, not only at the end.
        self.check_invariants().await?;
        self.settle_all().await?;
        self.check_final_state().await?;
        count.orders.fetch_add(self.placed.len(), Ordering::Relaxed);
        let paid = self.placed.iter().filter(|order| order.was_confirmed);
        count.paid.fetch_add(paid.count(), Ordering::Relaxed);
        self.shop.close().await;
        Ok(())
    }

    async fn apply(&mut self, op: &Op) -> CheckResult {
        match op {
            Op::Place {
                customer,
                lines,
                method,
            } => {
                let lines: Vec<_> = lines
                    .iter()
                    .map(|(product, quantity)| (&self.product_ids[*product], *quantity))
                    .collect();
                let request = in_process::request(&lines, METHODS[*method]);
                self.attempts.push(Attempt {
                    customer: *customer,
                    request,
                    key: key(),
                    answer: None,
                });
                self.place(self.attempts.len() - 1).await?;
            }
            // Operations on nothing are skipped: an index is taken modulo what exists.
            Op::Repeat(index) => {
                if let Some(at) = nth(&self.attempts, *index) {
                    self.place(at).await?;
                }
            }
            Op::Change {
                order,
                requested,
                by_admin,
            } => {
                if let Some(order) = nth(&self.placed, *order) {
                    let owner = self.attempts[self.placed[order].attempt].customer;
                    let caller = match by_admin {
                        true => self.shop.admin.clone(),
                        false => self.customers[owner].clone(),
                    };
                    self.change(order, *requested, caller).await?;
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
                self.shop
                    .products
                    .release_expired_reservations()
                    .await
                    .unwrap();
            }
            Op::Advance(seconds) => self.advance(Duration::from_secs(*seconds)),
            Op::TurnBack(seconds) => {
                // Only one clock: the services' machines may disagree.
                let clock = &self.shop.clocks[0];
                clock.set(clock.now() - micros(Duration::from_secs(*seconds)));
            }
            Op::Webhook(order) => {
                if let Some(order) = nth(&self.placed, *order) {
                    // Every second event repeats the id before it: duplicates are ignored.
                    self.events += 1;
                    let event = PaymentEvent {
                        id: format!("{}", self.events / 2),
                        kind: "test".to_owned(),
                        order_id: Some(self.placed[order].id.clone()),
                    };
                    self.shop
                        .orders
                        .saga
                        .event_store(&event, b"{}")
                        .await
                        .unwrap();
                }
            }
            Op::Fault { skip, how } => self.shop.faults.arm(*skip, *how),
        }
        self.check_statuses(matches!(op, Op::Work)).await
    }

    fn advance(&mut self, by: Duration) {
        for (clock, gone) in self.shop.clocks.iter().zip(&mut self.gone) {
            clock.advance(by);
            *gone += by;
        }
    }

    /// Runs the worker once; an injected crash drops it midway.
    async fn work(&self) {
        tokio::select! {
            done = stoa_orders::tasks::work_once(&self.shop.orders.saga) => { done.unwrap(); }
            () = self.shop.faults.crash.notified() => self.let_commits_finish().await,
        }
    }

    /// A commit that was sent to the database is finished there, although the task
    /// that sent it was dropped: what follows must see it. A database has one
    /// writer, which a new transaction waits for.
    async fn let_commits_finish(&self) {
        for database in [&self.shop.orders_db, &self.shop.products_db] {
            database.begin().await.unwrap().rollback().await.unwrap();
        }
    }

    async fn place(&mut self, at: usize) -> CheckResult {
        let attempt = &self.attempts[at];
        let known = attempt.answer.clone();
        let enough = self.enough(&attempt.request).await;
        let context = call(&self.customers[attempt.customer]);
        let answer = tokio::select! {
            answer = self.shop.orders.orders.order_place(&context, &attempt.request, &attempt.key) => answer,
            () = self.shop.faults.crash.notified() => {
                self.let_commits_finish().await;
                return Ok(());
            }
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
            Ok(id) => self.placed.push(ExpectedOrder {
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

    /// Whether the stock covers the request.
    async fn enough(&self, request: &Request) -> bool {
        let mut wanted: HashMap<&str, i64> = HashMap::new();
        for line in &request.lines {
            *wanted.entry(&line.product_id).or_default() += line.quantity;
        }
        let stock = self.shop.stock(&self.product_ids).await;
        let mut each = self.product_ids.iter().zip(stock);
        each.all(|(id, units)| {
            wanted
                .get(id.as_str())
                .is_none_or(|wanted| *wanted <= units)
        })
    }

    /// The requested units, summed by product.
    fn units(&self, request: &Request) -> Vec<Units> {
        let mut lines: Vec<Units> = Vec::new();
        for line in &request.lines {
            let mut product_ids = self.product_ids.iter();
            let product = product_ids
                .position(|id| id.as_str() == line.product_id)
                .unwrap();
            let quantity = u32::try_from(line.quantity).unwrap();
            match lines.iter_mut().find(|units| units.product == product) {
                Some(same) => same.all += quantity,
                None => lines.push(Units::new(product, quantity)),
            }
        }
        lines
    }

    fn verb(&self, order: &ExpectedOrder, requested: RequestedChange) -> OrderAction {
        let some = |line: usize, units: u32| LineQuantity {
            product_id: self.product_ids[order.lines[line % order.lines.len()].product].to_string(),
            quantity: i64::from(units),
        };
        match requested {
            RequestedChange::Cancel => OrderAction::Cancel,
            RequestedChange::Ship => OrderAction::SHIP,
            RequestedChange::Deliver => OrderAction::Deliver,
            RequestedChange::Refund => OrderAction::REFUND,
            RequestedChange::ShipSome(line, units) => OrderAction::Ship(ShipmentRequest {
                lines: Some(vec![some(line, units)]),
                ..ShipmentRequest::default()
            }),
            RequestedChange::RefundSome(line, units, restock) => {
                OrderAction::Refund(RefundRequest {
                    lines: Some(vec![RefundLineRequest {
                        units: some(line, units),
                        restock,
                    }]),
                    shipping: false,
                })
            }
        }
    }

    async fn change(
        &mut self,
        order: usize,
        requested: RequestedChange,
        caller: Caller,
    ) -> CheckResult {
        let verb = self.verb(&self.placed[order], requested);
        let expected = match caller.is_admin() || requested == RequestedChange::Cancel {
            true => {
                let order = &self.placed[order];
                model::expected(order.status, &order.lines, requested).map_err(Some)
            }
            false => Err(None),
        };
        let key = key();
        let id = self.placed[order].id.clone();
        let done = self
            .shop
            .orders
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
            format!("{requested:?} came to {found:?}, expected {wanted:?}")
        })?;
        let succeeded = found.is_ok();
        if let Ok((status, lines)) = expected {
            self.placed[order].status = status;
            self.placed[order].lines = lines;
        }
        self.changes.push(AppliedChange {
            order,
            verb,
            caller,
            key,
            succeeded,
        });
        Ok(())
    }

    /// A repeated change returns the same result and has no further effect.
    async fn change_again(&self, at: usize) -> CheckResult {
        let change = &self.changes[at];
        if !change.succeeded {
            return Ok(());
        }
        let id = &self.placed[change.order].id;
        let again = self
            .shop
            .orders
            .orders
            .order_change(&change.caller, &change.verb, id.as_str(), None, &change.key)
            .await;
        ensure(again.is_ok(), || format!("a repeat returned {again:?}"))
    }

    async fn adjust(&mut self, product: usize, delta: i64) -> CheckResult {
        let adjustment = Adjustment {
            product_id: self.product_ids[product].to_string(),
            delta,
            reason: "a delivery".to_owned(),
        };
        let before = self.shop.stock(&self.product_ids).await[product];
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
}

/// Maps any number to a valid index, if there is one.
fn nth<T>(all: &[T], index: usize) -> Option<usize> {
    (!all.is_empty()).then(|| index % all.len())
}
