//! Reading orders.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_runtime::identity::Caller;
use stoa_schema::OrderId;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::error::CommonError;
use stoa_service::page::{PageRequest, Slice};
use stoa_service::peer::Peers;

use super::cart::Carts;
use super::discount::Discounts;
use super::wakeup::Wakeup;
use crate::domain::{
    Change, Line, Order, OrderFilter, PaymentTask, Rates, Refund, STUCK_AFTER, Shipment, StockTask,
};
use crate::error::Error;
use crate::payment::PaymentProvider;
use crate::store::{fulfilment, order, payment};

/// The use cases of orders; placing and changing them stand in files of their own.
#[derive(Clone)]
pub struct Orders {
    pub(super) database: Database,
    pub(super) peers: Peers,
    pub(super) provider: Arc<dyn PaymentProvider>,
    pub(super) rates: Arc<dyn Rates>,
    pub(super) clock: Clock,
    pub(super) wakeup: Wakeup,
    pub(super) carts: Carts,
    pub(super) discounts: Discounts,
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

impl Orders {
    /// The payment provider accepts this method.
    pub fn accepts_method(&self, method: &str) -> bool {
        self.provider.check_method(method).is_ok()
    }

    /// Whether there is any order at all.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.order_count(&OrderFilter::default()).await? == 0)
    }

    pub async fn order_fetch_many(
        &self,
        ids: &[OrderId],
    ) -> Result<HashMap<OrderId, Order>, Error> {
        order::order_fetch_many(self.database.read(), ids).await
    }

    pub async fn line_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Line>>, Error> {
        order::line_fetch_many(self.database.read(), orders).await
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
        order::history_fetch_many(self.database.read(), orders).await
    }

    /// The steps still to be done for orders; the caller must be an administrator.
    pub async fn progress_fetch_many(
        &self,
        orders: &[OrderId],
    ) -> Result<HashMap<OrderId, Vec<Progress>>, Error> {
        let db = self.database.read();
        let since = self.stuck_since();
        let mut found: HashMap<OrderId, Vec<Progress>> = HashMap::new();
        for due in payment::payment_fetch_many(db, orders).await? {
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
        for due in payment::stock_task_fetch_many(db, orders).await? {
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
        let rows = order::order_list(self.database.read(), filter, &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn order_count(&self, filter: &OrderFilter) -> Result<u64, Error> {
        Ok(order::order_count(self.database.read(), filter).await?)
    }
}

/// An order that other rows refer to.
///
/// # Errors
/// If it is missing.
pub(super) async fn order_must_exist(database: &Database, id: &OrderId) -> Result<Order, Error> {
    order::order_fetch_many(database.read(), std::slice::from_ref(id))
        .await?
        .remove(id)
        .ok_or_else(|| Error::corrupt(format!("order {id} does not exist")))
}
