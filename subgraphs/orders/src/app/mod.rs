//! The use cases of ordering, including authorization.

pub mod cart;
mod change;
mod discount;
mod place;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_runtime::identity::Caller;
use stoa_schema::OrderId;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::error::CommonError;
use stoa_service::failpoint;
use stoa_service::outbox::Relay;
use stoa_service::page::{PageRequest, Slice};
use stoa_service::peer::Peers;
use stoa_service::purge;
use tokio::sync::Notify;

pub use change::{OrderAction, ShipmentRequest};

use crate::domain::{Change, Line, Order, Problem, ProblemCode, Rates, Refund, Shipment};
use crate::error::Error;
use crate::payment::{Event, FreeOrderProvider, PaymentProvider};
use crate::saga::STUCK_AFTER;
use crate::store::task::{self, PaymentTask, StockTask};
use crate::store::{self, OrderFilter, fulfilment};

/// How long a provider's webhook events are kept.
const EVENT_RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The orders service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) peers: Peers,
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) rates: Arc<dyn Rates>,
    pub(crate) relay: Relay,
    pub(crate) clock: Clock,
    /// Wakes the worker.
    pub(crate) worker_wakeup: Arc<Notify>,
}

/// A step that is still to be done for an order.
#[derive(Debug, Clone)]
pub struct Progress {
    pub step: Step,
    /// Failed attempts so far.
    pub attempts: i64,
    pub last_error: Option<String>,
    pub since: Micros,
    pub stuck: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Payment(PaymentTask),
    Stock(StockTask),
}

/// The stored outcome of an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredOutcome {
    Order(OrderId),
    Problems(Vec<Problem>),
}

impl App {
    pub fn new(
        database: Database,
        peers: Peers,
        provider: Arc<dyn PaymentProvider>,
        rates: Arc<dyn Rates>,
        relay: Relay,
        clock: Clock,
    ) -> Self {
        Self {
            database,
            peers,
            provider: Arc::new(FreeOrderProvider(provider)),
            rates,
            relay,
            clock,
            worker_wakeup: Arc::new(Notify::new()),
        }
    }

    /// The same service with another clock, to create past orders.
    pub fn with_clock(&self, clock: Clock) -> Self {
        Self {
            clock,
            ..self.clone()
        }
    }

    async fn replay(&self, answer: &str) -> Result<Order, Error> {
        match serde_json::from_str(answer).map_err(|error| Error::corrupt(error.to_string()))? {
            StoredOutcome::Order(id) => self.order_must_exist(&id).await,
            StoredOutcome::Problems(problems) => Err(Error::Invalid(problems)),
        }
    }

    pub(crate) async fn order_must_exist(&self, id: &OrderId) -> Result<Order, Error> {
        store::order_fetch_many(self.database.read(), std::slice::from_ref(id))
            .await?
            .remove(id)
            .ok_or_else(|| Error::corrupt(format!("order {id} is gone")))
    }

    /// Stores an event from the payment provider once, and makes the payment's
    /// step due; the step then asks the provider for the current state.
    ///
    /// # Errors
    /// If it could not be stored; the provider will then retry.
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
        failpoint::crash_if_chosen("webhook.stored");
        self.worker_wakeup.notify_one();
        Ok(())
    }

    /// Deletes a batch of events so old that no provider repeats them any more;
    /// returns how many.
    pub async fn events_purge_expired(&self) -> Result<u64, Error> {
        let before = self.clock.now() - micros(EVENT_RETENTION);
        let txn = self.database.begin().await?;
        let deleted = task::event_purge_expired_in_txn(&txn, before, purge::BATCH).await?;
        txn.commit().await?;
        Ok(deleted)
    }

    /// Wakes the outbox relay and the worker after a commit.
    pub(crate) fn wake_after_commit(&self) {
        self.relay.wake();
        self.worker_wakeup.notify_one();
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

    pub async fn shipment_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Shipment>>, Error> {
        fulfilment::shipment_fetch_many(self.database.read(), orders).await
    }

    pub async fn refund_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Refund>>, Error> {
        fulfilment::refund_fetch_many(self.database.read(), orders).await
    }

    pub async fn history_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Change>>, Error> {
        store::history_fetch_many(self.database.read(), orders).await
    }

    /// The steps still to be done for orders; the caller must be an administrator.
    pub async fn progress_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Progress>>, Error> {
        let db = self.database.read();
        let since = self.stuck_since();
        let mut found: HashMap<OrderId, Vec<Progress>> = HashMap::new();
        for due in task::payment_fetch_many(db, orders).await? {
            if due.task != PaymentTask::None {
                let order = due.payment.order_id;
                found.entry(order).or_default().push(Progress {
                    step: Step::Payment(due.task),
                    attempts: due.attempts,
                    last_error: due.last_error,
                    stuck: due.since < since,
                    since: due.since,
                });
            }
        }
        for due in task::stock_task_fetch_many(db, orders).await? {
            found.entry(due.order_id).or_default().push(Progress {
                step: Step::Stock(due.task),
                attempts: due.attempts,
                last_error: due.last_error,
                stuck: due.since < since,
                since: due.since,
            });
        }
        Ok(found)
    }

    /// A step that began before this time is stuck and needs attention.
    pub fn stuck_since(&self) -> Micros {
        self.clock.now() - micros(STUCK_AFTER)
    }

    /// A page of orders, newest first: one customer's, or, for administrators, of
    /// all customers.
    pub async fn order_list(
        &self,
        caller: &Caller,
        filter: &OrderFilter,
        request: &PageRequest,
    ) -> Result<Slice<Order>, Error> {
        match &filter.customer {
            _ if caller.is_admin() => {}
            Some(customer) if caller.may_see(customer) => {}
            _ if *caller == Caller::Anonymous => return Err(CommonError::Unauthenticated.into()),
            _ => return Err(CommonError::NotOwner.into()),
        }
        let page = request.check::<String>()?;
        let rows = store::order_list(self.database.read(), filter, &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn order_count(&self, filter: &OrderFilter) -> Result<u64, Error> {
        Ok(store::order_count(self.database.read(), filter).await?)
    }
}

fn order_not_found() -> Problem {
    Problem::new(
        &["orderId"],
        ProblemCode::NotFound,
        "there is no such order",
    )
}
