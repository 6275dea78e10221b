//! The verbs of ordering. Who may do what is decided here.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use stoa_kit::clock::{Clock, Micros, micros};
use stoa_kit::database::Database;
use stoa_kit::fault::{pause, point};
use stoa_kit::idempotency::{Claim, Use};
use stoa_kit::identity::Caller;
use stoa_kit::outbox::Relay;
use stoa_kit::page::{PageRequest, Slice};
use stoa_kit::peer::Peers;
use stoa_kit::service::CallContext;
use stoa_kit::telemetry;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::{ProductSnapshot, ReleaseStock, ReserveStock, Reserved, StockLine};
use stoa_schema::{OrderId, UserId};
use tokio::sync::Notify;

use crate::domain::{self, Actor, Change, Line, MAX_REASON, Order, Problem, ProblemCode, Request};
use crate::error::Error;
use crate::payment::{Event, PaymentProvider};
use crate::saga::STUCK_AFTER;
use crate::store::task::{self, DuePayment, PaymentState, PaymentTask, StockTask};
use crate::store::{self, OrderFilter};

/// The orders service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) peers: Peers,
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) relay: Relay,
    pub(crate) clock: Clock,
    /// Says that the worker has something to do.
    pub(crate) work: Arc<Notify>,
}

/// What an idempotency key came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Order(OrderId),
    Problems(Vec<Problem>),
}

/// A change that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Cancel,
    Ship,
    Deliver,
    Refund,
}

impl Verb {
    fn target(self) -> Status {
        match self {
            Self::Cancel => Status::Cancelled,
            Self::Ship => Status::Shipped,
            Self::Deliver => Status::Delivered,
            Self::Refund => Status::Refunded,
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Cancel => "cancelOrder",
            Self::Ship => "shipOrder",
            Self::Deliver => "deliverOrder",
            Self::Refund => "refundOrder",
        }
    }
}

impl App {
    pub fn new(
        database: Database,
        peers: Peers,
        provider: Arc<dyn PaymentProvider>,
        relay: Relay,
        clock: Clock,
    ) -> Self {
        Self {
            database,
            peers,
            provider,
            relay,
            clock,
            work: Arc::new(Notify::new()),
        }
    }

    /// The same service at another time: for making what is past.
    pub fn at(&self, clock: Clock) -> Self {
        Self {
            clock,
            ..self.clone()
        }
    }

    /// Places an order, once for each key. Stock is reserved when it answers;
    /// payment is not settled yet.
    ///
    /// The key is claimed first and fixes the order's identifier, so that an
    /// attempt which dies between two steps is taken up by the next one.
    pub async fn order_place(
        &self,
        context: &CallContext,
        request: &Request,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = user(&context.caller)?;
        let once = Use::new(customer.as_str(), key, "placeOrder", request).ok_or_else(bad_key)?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let claim = once
            .claim_in_txn(&txn, OrderId::new().as_str(), now)
            .await?;
        txn.commit().await?;
        point("place.claimed");
        let lease = claim.lease();
        let id = match claim {
            Claim::Go { subject_id, .. } => OrderId::trusted(subject_id),
            Claim::Done { answer } => return self.replay(&answer).await,
            other => return Err(key_problem(&other).into()),
        };
        let lines = match request.check(self.provider.methods()) {
            Ok(lines) => lines,
            Err(problems) => return self.refuse(&once, problems).await,
        };
        let reserve = ReserveStock {
            order_id: id.clone(),
            lines: lines.clone(),
        };
        let reserved = match self.peers.call(&context.correlation_id, &reserve).await {
            Ok(reserved) => reserved,
            Err(error) => {
                // Nothing is decided: the same key may try again at once.
                let txn = self.database.begin().await?;
                once.give_up_in_txn(&txn, lease).await?;
                txn.commit().await?;
                return Err(error.into());
            }
        };
        match reserved {
            Reserved::Ok { products } => {
                point("place.reserved");
                pause("place.reserved", key).await;
                self.store_placed(context, request, &once, id, customer, &lines, &products)
                    .await
            }
            Reserved::Refused { problems } => self.refuse(&once, request.refused(&problems)).await,
            Reserved::Released => {
                let problem = Problem::new(
                    &["idempotencyKey"],
                    ProblemCode::AttemptExpired,
                    "the first attempt with this key was given up; take a fresh key",
                );
                self.refuse(&once, vec![problem]).await
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of order_place")]
    async fn store_placed(
        &self,
        context: &CallContext,
        request: &Request,
        once: &Use,
        id: OrderId,
        customer: &UserId,
        lines: &[StockLine],
        products: &[ProductSnapshot],
    ) -> Result<Order, Error> {
        let (lines, total) = match domain::price(lines, products) {
            Ok(priced) => priced,
            Err(problem) => {
                let release = ReleaseStock { order_id: id };
                self.peers.call(&context.correlation_id, &release).await?;
                return self.refuse(once, vec![problem]).await;
            }
        };
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        if !once.finish_in_txn(&txn, &Answer::Order(id.clone())).await? {
            // Another attempt with this key was faster, and what it came to counts.
            let answer = once.answer_in_txn(&txn).await?;
            drop(txn);
            let done = self.replay(&answer).await;
            if matches!(done, Err(Error::Invalid(_))) {
                // It was refused, so our units are nobody's.
                let release = ReleaseStock { order_id: id };
                self.peers.call(&context.correlation_id, &release).await?;
            }
            return done;
        }
        let order = Order {
            number: store::number_next_in_txn(&txn).await?,
            id,
            customer_id: customer.clone(),
            status: Status::Pending,
            total,
            shipping_address: request.shipping_address.clone(),
            version: 1,
            correlation_id: context.correlation_id.to_string(),
            traceparent: telemetry::traceparent(),
            created_at: now,
            updated_at: now,
        };
        let payment =
            store::payment_row(&order, self.provider.name(), &request.payment_method, now);
        store::order_insert_in_txn(&txn, &order, &lines, payment).await?;
        txn.commit().await?;
        point("place.stored");
        self.committed();
        Ok(order)
    }

    /// Stores that a request was refused, and why.
    async fn refuse(&self, once: &Use, problems: Vec<Problem>) -> Result<Order, Error> {
        let txn = self.database.begin().await?;
        let answer = Answer::Problems(problems.clone());
        if !once.finish_in_txn(&txn, &answer).await? {
            // Another attempt with this key was faster, and what it came to counts.
            let answer = once.answer_in_txn(&txn).await?;
            drop(txn);
            return self.replay(&answer).await;
        }
        txn.commit().await?;
        Err(Error::Invalid(problems))
    }

    async fn replay(&self, answer: &str) -> Result<Order, Error> {
        match serde_json::from_str(answer).map_err(|error| Error::Corrupt(error.to_string()))? {
            Answer::Order(id) => self.order_must_exist(&id).await,
            Answer::Problems(problems) => Err(Error::Invalid(problems)),
        }
    }

    async fn order_must_exist(&self, id: &OrderId) -> Result<Order, Error> {
        store::order_fetch_many(self.database.read(), std::slice::from_ref(id))
            .await?
            .remove(id)
            .ok_or_else(|| Error::Corrupt(format!("order {id} is gone")))
    }

    /// Changes an order's state, once for each key. Customers may cancel their
    /// own orders; the rest is for administrators.
    pub async fn order_change(
        &self,
        caller: &Caller,
        verb: Verb,
        order_id: &str,
        reason: Option<String>,
        key: &str,
    ) -> Result<Order, Error> {
        let actor_id = user(caller)?;
        let actor = if caller.is_admin() {
            Actor::Admin
        } else {
            Actor::Customer
        };
        if verb != Verb::Cancel && !caller.is_admin() {
            return Err(Error::Forbidden);
        }
        if reason.as_ref().is_some_and(|text| {
            text.chars().count() > MAX_REASON || text.chars().any(char::is_control)
        }) {
            return Err(Problem::new(
                &["reason"],
                ProblemCode::Invalid,
                format!(
                    "must have at most {MAX_REASON} characters, none of them control characters"
                ),
            )
            .into());
        }
        let body = (order_id, &reason);
        let once = Use::new(actor_id.as_str(), key, verb.operation(), &body).ok_or_else(bad_key)?;
        let id = OrderId::parse(order_id).ok_or_else(no_order)?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        match once.claim_in_txn(&txn, id.as_str(), now).await? {
            Claim::Go { .. } => {}
            Claim::Done { answer } => {
                drop(txn);
                return self.replay(&answer).await;
            }
            other => return Err(key_problem(&other).into()),
        }
        // A refusal rolls the claim back with the rest: the key stays free.
        let mut order = store::order_lock_in_txn(&txn, &id)
            .await?
            .ok_or_else(no_order)?;
        if !caller.may_see(&order.customer_id) {
            return Err(Error::Forbidden);
        }
        pause("change.locked", key).await;
        let before = order.status;
        let change = domain::transition(&mut order, verb.target(), actor, reason, now)?;
        store::order_move_in_txn(&txn, &order, &change).await?;
        self.follow_up_in_txn(&txn, &order, before).await?;
        once.finish_in_txn(&txn, &Answer::Order(id)).await?;
        txn.commit().await?;
        self.committed();
        Ok(order)
    }

    /// Notes what a cancelled or refunded order still needs: its money back,
    /// and its units, unless they have left the house.
    async fn follow_up_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        order: &Order,
        before: Status,
    ) -> Result<(), Error> {
        if !matches!(order.status, Status::Cancelled | Status::Refunded) {
            return Ok(());
        }
        let now = order.updated_at;
        let state = task::payment_fetch(txn, &order.id).await?.state;
        let todo = match state {
            PaymentState::Pending | PaymentState::Authorised => PaymentTask::Void,
            PaymentState::Captured => PaymentTask::Refund,
            _ => PaymentTask::None,
        };
        task::payment_set_in_txn(txn, &order.id, state, todo, now).await?;
        if matches!(before, Status::Pending | Status::Confirmed) {
            task::stock_task_set_in_txn(txn, &order.id, StockTask::Release).await?;
        }
        Ok(())
    }

    /// Keeps what the payment provider told, once, and makes the payment's
    /// step due: it asks the provider what holds now.
    ///
    /// # Errors
    /// If it could not be stored; the provider repeats it then.
    pub async fn event_store(&self, event: &Event, body: &[u8]) -> Result<(), Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let provider = self.provider.name();
        if task::event_insert_in_txn(&txn, provider, event, body, now).await?
            && let Some(order) = &event.order_id
        {
            task::payment_due_now_in_txn(&txn, order, now).await?;
        }
        txn.commit().await?;
        point("webhook.stored");
        self.work.notify_one();
        Ok(())
    }

    /// Wakes who waits for what was just committed.
    pub(crate) fn committed(&self) {
        self.relay.wake();
        self.work.notify_one();
    }

    pub async fn order_fetch_many(
        &self,
        ids: &[OrderId],
    ) -> Result<HashMap<OrderId, Order>, Error> {
        store::order_fetch_many(self.database.read(), ids).await
    }

    pub async fn line_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Line>>, Error> {
        store::line_fetch_many(self.database.read(), orders).await
    }

    pub async fn history_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Change>>, Error> {
        store::history_fetch_many(self.database.read(), orders).await
    }

    /// What the shop still has to do for orders; the caller must be an
    /// administrator.
    pub async fn payment_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, DuePayment>, Error> {
        task::payment_fetch_many(self.database.read(), orders).await
    }

    /// Whether a step has taken so long that somebody should look.
    pub fn is_stuck(&self, due: &DuePayment) -> bool {
        due.task != PaymentTask::None && due.since < self.stuck_since()
    }

    /// Before when a step must have begun to be stuck.
    pub fn stuck_since(&self) -> Micros {
        self.clock.now() - micros(STUCK_AFTER)
    }

    /// A page of orders, the newest first: one customer's, or, for
    /// administrators, everybody's.
    pub async fn order_list(
        &self,
        caller: &Caller,
        filter: &OrderFilter,
        request: &PageRequest,
    ) -> Result<Slice<Order>, Error> {
        match &filter.customer {
            _ if caller.is_admin() => {}
            Some(customer) if caller.may_see(customer) => {}
            _ if *caller == Caller::Anonymous => return Err(Error::Unauthenticated),
            _ => return Err(Error::Forbidden),
        }
        let page = request.check::<String>()?;
        let rows = store::order_list(self.database.read(), filter, &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn order_count(&self, filter: &OrderFilter) -> Result<u64, Error> {
        Ok(store::order_count(self.database.read(), filter).await?)
    }
}

fn user(caller: &Caller) -> Result<&UserId, Error> {
    caller.user_id().ok_or(Error::Unauthenticated)
}

fn no_order() -> Problem {
    Problem::new(
        &["orderId"],
        ProblemCode::NotFound,
        "there is no such order",
    )
}

fn bad_key() -> Problem {
    Problem::new(
        &["idempotencyKey"],
        ProblemCode::Invalid,
        "must have between 1 and 128 characters",
    )
}

fn key_problem(claim: &Claim) -> Problem {
    let (code, message) = if *claim == Claim::InProgress {
        (
            ProblemCode::InProgress,
            "a request with this key is still running; repeat it in a moment",
        )
    } else {
        (
            ProblemCode::IdempotencyKeyReused,
            "was used for another request; take a fresh key",
        )
    };
    Problem::new(&["idempotencyKey"], code, message)
}
