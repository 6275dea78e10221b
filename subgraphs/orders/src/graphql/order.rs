//! Orders and reading them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_schema::{Money, UserId};
use stoa_service::context::CallerExt;
use stoa_service::graphql::{
    AddressObject, Connection, DateTime, MoneyObject, OrderStatus, call_context, list_size,
    page_arguments, page_fields, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::cart::Cart;
use super::fulfilment::{OrderActor, OrderLine, Refund, Shipment};
use super::loader::{HistoryKey, LinesKey, ProgressKey, RefundsKey, ShipmentsKey};
use super::{app, loader};
use crate::app::order::Step;
use crate::domain::{self, CartRef, OrderFilter, PaymentTask, StockTask};

/// A customer's order.
pub struct Order(pub domain::Order);

#[Object]
impl Order {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// The order number to show to people; short and unique.
    async fn number(&self) -> &str {
        &self.0.number
    }

    async fn customer(&self) -> Option<User> {
        Some(User(self.0.customer_id.clone()))
    }

    async fn lines(&self, ctx: &Context<'_>) -> Result<Vec<OrderLine>> {
        let key = LinesKey(self.0.id.clone());
        let lines = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let order = &self.0.id;
        let lines = lines.unwrap_or_default().into_iter();
        Ok(lines
            .map(|line| OrderLine {
                order: order.clone(),
                line,
            })
            .collect())
    }

    /// The sum of the lines, before discount, shipping and tax.
    async fn subtotal(&self) -> MoneyObject {
        self.money(self.0.parts.subtotal)
    }

    /// The amount taken off by the discount code.
    async fn discount(&self) -> MoneyObject {
        self.money(self.0.parts.discount)
    }

    async fn discount_code(&self) -> Option<&str> {
        self.0.discount_code.as_deref()
    }

    async fn shipping(&self) -> MoneyObject {
        self.money(self.0.parts.shipping)
    }

    /// Tax on the lines and on the shipping.
    async fn tax(&self) -> MoneyObject {
        self.money(self.0.parts.tax)
    }

    /// Subtotal, less discount, plus shipping, plus tax.
    async fn total(&self) -> MoneyObject {
        self.0.total.into()
    }

    /// The amount refunded, including refunds still in progress.
    async fn refunded(&self, ctx: &Context<'_>) -> Result<MoneyObject> {
        let refunds = self.load_refunds(ctx).await?;
        Ok(self.money(refunds.iter().map(|refund| refund.amount).sum()))
    }

    /// Shipments, oldest first.
    async fn shipments(&self, ctx: &Context<'_>) -> Result<Vec<Shipment>> {
        let shipments = self.load_shipments(ctx).await?;
        Ok(shipments.into_iter().map(Shipment::from).collect())
    }

    /// Refunds, oldest first.
    async fn refunds(&self, ctx: &Context<'_>) -> Result<Vec<Refund>> {
        let currency = self.0.total.currency;
        let refunds = self.load_refunds(ctx).await?.into_iter();
        Ok(refunds
            .map(|refund| Refund::new(refund, currency))
            .collect())
    }

    async fn status(&self) -> OrderStatus {
        self.0.status.into()
    }

    /// The states that the order can move to from its current one.
    async fn next_statuses(&self) -> Vec<OrderStatus> {
        domain::next_statuses(self.0.status)
            .iter()
            .map(|status| (*status).into())
            .collect()
    }

    async fn shipping_address(&self) -> AddressObject {
        self.0.shipping_address.clone().into()
    }

    /// Every change, oldest first: state changes, and the shipments and refunds
    /// that did not change the state.
    async fn history(&self, ctx: &Context<'_>) -> Result<Vec<OrderHistoryEntry>> {
        let key = HistoryKey(self.0.id.clone());
        let history = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let mut entries: Vec<_> = history
            .unwrap_or_default()
            .into_iter()
            .map(|change| OrderHistoryEntry {
                kind: OrderChange::Status,
                status: change.status.into(),
                previous_status: change.previous.map(Into::into),
                actor: change.actor.into(),
                reason: change.reason,
                occurred_at: DateTime(change.at),
            })
            .collect();
        let shipments = self.load_shipments(ctx).await?.into_iter();
        let refunds = self.load_refunds(ctx).await?.into_iter();
        let others = shipments
            .map(|one| (OrderChange::Shipment, one.actor, one.reason, one.at))
            .chain(refunds.map(|one| (OrderChange::Refund, one.actor, one.reason, one.at)));
        // A shipment or refund that changed the state has the same time as that change.
        let moved: Vec<_> = entries.iter().map(|entry| entry.occurred_at.0).collect();
        let others = others.filter(|(.., at)| !moved.contains(at));
        for (kind, actor, reason, at) in others {
            let place = entries.partition_point(|entry| entry.occurred_at.0 <= at);
            let before = place.checked_sub(1).and_then(|index| entries.get(index));
            let status = before.map_or(self.0.status.into(), |entry| entry.status);
            let entry = OrderHistoryEntry {
                kind,
                status,
                previous_status: Some(status),
                actor: actor.into(),
                reason,
                occurred_at: DateTime(at),
            };
            entries.insert(place, entry);
        }
        Ok(entries)
    }

    /// The steps still to be done for the order. For administrators; null for
    /// everyone else.
    async fn progress(&self, ctx: &Context<'_>) -> Result<Option<Vec<OrderProgress>>> {
        if !call_context(ctx)?.caller.is_admin() {
            return Ok(None);
        }
        let key = ProgressKey(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let steps = found.unwrap_or_default().into_iter();
        let steps = steps.filter_map(|progress| {
            Some(OrderProgress {
                step: OrderStep::from_step(progress.step)?,
                attempts: i32::try_from(progress.attempts).unwrap_or(i32::MAX),
                last_error: progress.last_error,
                since: DateTime(progress.since),
                stuck: progress.stuck,
            })
        });
        Ok(Some(steps.collect()))
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
}

impl Order {
    fn money(&self, amount: i64) -> MoneyObject {
        Money::new(amount, self.0.total.currency).into()
    }

    async fn load_shipments(&self, ctx: &Context<'_>) -> Result<Vec<domain::Shipment>> {
        let key = ShipmentsKey(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        Ok(found.unwrap_or_default())
    }

    async fn load_refunds(&self, ctx: &Context<'_>) -> Result<Vec<domain::Refund>> {
        let key = RefundsKey(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        Ok(found.unwrap_or_default())
    }
}

/// What an entry of an order's history records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderChange {
    Status,
    Shipment,
    Refund,
}

/// A change to an order.
#[derive(SimpleObject)]
pub struct OrderHistoryEntry {
    kind: OrderChange,
    /// The state after the change.
    status: OrderStatus,
    /// Null for the first entry.
    previous_status: Option<OrderStatus>,
    actor: OrderActor,
    reason: Option<String>,
    occurred_at: DateTime,
}

/// A step of an order that is not done yet.
#[derive(SimpleObject)]
pub struct OrderProgress {
    step: OrderStep,
    /// How many attempts have failed.
    attempts: i32,
    /// Why the last attempt did not complete the step.
    last_error: Option<String>,
    /// When the step first became due.
    since: DateTime,
    /// It has taken more than ten minutes and needs attention.
    stuck: bool,
}

/// A step in processing an order: the payment steps run one after the other, and
/// the steps that return units to stock run independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderStep {
    /// The payment provider authorises the amount (puts a hold on it).
    Authorise,
    /// The stock reservation is made permanent.
    Commit,
    /// The payment provider takes the authorised amount.
    Capture,
    /// The payment provider releases the authorisation.
    Void,
    /// The payment provider returns the money.
    Refund,
    /// The units of a cancelled order go back to stock.
    Release,
    /// The units of a refund go back to stock.
    Return,
}

impl OrderStep {
    fn from_step(step: Step) -> Option<Self> {
        Some(match step {
            Step::Payment(PaymentTask::None) => return None,
            Step::Payment(PaymentTask::Authorise) => Self::Authorise,
            Step::Payment(PaymentTask::Commit) => Self::Commit,
            Step::Payment(PaymentTask::Capture) => Self::Capture,
            Step::Payment(PaymentTask::Void) => Self::Void,
            Step::Payment(PaymentTask::Refund) => Self::Refund,
            Step::Stock(StockTask::Release) => Self::Release,
            Step::Stock(StockTask::Return) => Self::Return,
        })
    }
}

/// A page of orders.
pub async fn list(
    ctx: &Context<'_>,
    filter: OrderFilter,
    page: PageRequest,
) -> Result<Connection<Order>> {
    let app = app(ctx)?;
    let slice = app
        .orders
        .order_list(&call_context(ctx)?.caller, &filter, &page)
        .await
        .map_err(to_graphql_error)?;
    let counter = app.clone();
    let count = move || {
        let (app, filter) = (counter.clone(), filter.clone());
        Box::pin(async move {
            app.orders
                .order_count(&filter)
                .await
                .map_err(to_graphql_error)
        }) as _
    };
    Ok(Connection::new(
        slice,
        |order| order.id.to_string(),
        Order,
        Arc::new(count),
    ))
}

/// A user, with their cart and their orders.
pub struct User(pub UserId);

#[Object]
impl User {
    async fn id(&self) -> ID {
        ID(self.0.to_string())
    }

    /// The user's open cart; null for anyone but the user.
    async fn cart(&self, ctx: &Context<'_>) -> Result<Option<Cart>> {
        let caller = &call_context(ctx)?.caller;
        if !caller.is_user(&self.0) {
            return Ok(None);
        }
        let found = app(ctx)?
            .carts
            .cart_fetch(caller, &CartRef::default())
            .await;
        Ok(found.map_err(to_graphql_error)?.map(Cart::new))
    }

    /// The user's orders, newest first. For the user and administrators.
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
        status: Option<OrderStatus>,
    ) -> Result<Option<Connection<Order>>> {
        let filter = OrderFilter {
            customer: Some(self.0.clone()),
            status: status.map(Into::into),
            ..OrderFilter::default()
        };
        list(ctx, filter, PageRequest { first, after })
            .await
            .map(Some)
    }
}
