//! Orders as clients see them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::{Money, UserId};
use stoa_service::context::CallerExt;
use stoa_service::graphql::{AddressObject, Connection, DateTime, MoneyObject, to_graphql_error};
use stoa_service::page::PageRequest;

use super::cart::Cart;
use super::lines::{OrderLine, Refund, Shipment};
use super::loader::{HistoryOf, LinesOf, ProgressOf, RefundsOf, ShipmentsOf};
use super::{app, call, loader};
use crate::app::Step;
use crate::domain::{self, Actor, CartRef, ProblemCode};
use crate::store::OrderFilter;
use crate::store::task::{PaymentTask, StockTask};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderStatus {
    /// Placed; the units are reserved, the payment is under way.
    Pending,
    /// Paid.
    Confirmed,
    Shipped,
    Delivered,
    /// Called off before it was shipped, or never paid.
    Cancelled,
    Refunded,
}

impl From<Status> for OrderStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Confirmed => Self::Confirmed,
            Status::Shipped => Self::Shipped,
            Status::Delivered => Self::Delivered,
            Status::Cancelled => Self::Cancelled,
            Status::Refunded => Self::Refunded,
        }
    }
}

impl From<OrderStatus> for Status {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::Confirmed => Self::Confirmed,
            OrderStatus::Shipped => Self::Shipped,
            OrderStatus::Delivered => Self::Delivered,
            OrderStatus::Cancelled => Self::Cancelled,
            OrderStatus::Refunded => Self::Refunded,
        }
    }
}

/// What somebody bought.
pub struct Order(pub domain::Order);

#[Object]
impl Order {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// For people: short, and unique.
    async fn number(&self) -> &str {
        &self.0.number
    }

    async fn customer(&self) -> Option<User> {
        Some(User(self.0.customer_id.clone()))
    }

    async fn lines(&self, ctx: &Context<'_>) -> Result<Vec<OrderLine>> {
        let key = LinesOf(self.0.id.clone());
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

    /// The lines, before anything is taken off or put on.
    async fn subtotal(&self) -> MoneyObject {
        self.money(self.0.parts.subtotal)
    }

    /// What a discount code took off.
    async fn discount(&self) -> MoneyObject {
        self.money(self.0.parts.discount)
    }

    async fn discount_code(&self) -> Option<&str> {
        self.0.discount_code.as_deref()
    }

    async fn shipping(&self) -> MoneyObject {
        self.money(self.0.parts.shipping)
    }

    /// Of the lines and the shipping.
    async fn tax(&self) -> MoneyObject {
        self.money(self.0.parts.tax)
    }

    /// Subtotal, less discount, plus shipping, plus tax.
    async fn total(&self) -> MoneyObject {
        self.0.total.into()
    }

    /// What has been refunded, or is on its way back.
    async fn refunded(&self, ctx: &Context<'_>) -> Result<MoneyObject> {
        let refunds = self.refunds_of(ctx).await?;
        Ok(self.money(refunds.iter().map(|refund| refund.amount).sum()))
    }

    /// Parcels, the first one first.
    async fn shipments(&self, ctx: &Context<'_>) -> Result<Vec<Shipment>> {
        let shipments = self.shipments_of(ctx).await?;
        Ok(shipments.into_iter().map(Shipment::from).collect())
    }

    /// Money that went back, the first first.
    async fn refunds(&self, ctx: &Context<'_>) -> Result<Vec<Refund>> {
        let currency = self.0.total.currency;
        let refunds = self.refunds_of(ctx).await?.into_iter();
        Ok(refunds
            .map(|refund| Refund::new(refund, currency))
            .collect())
    }

    async fn status(&self) -> OrderStatus {
        self.0.status.into()
    }

    /// The states to which the order may move from here.
    async fn next_statuses(&self) -> Vec<OrderStatus> {
        domain::next_statuses(self.0.status)
            .iter()
            .map(|status| (*status).into())
            .collect()
    }

    async fn shipping_address(&self) -> AddressObject {
        self.0.shipping_address.clone().into()
    }

    /// Every change, the first one first: of the state, and each parcel and
    /// refund that left it as it was.
    async fn history(&self, ctx: &Context<'_>) -> Result<Vec<OrderHistoryEntry>> {
        let key = HistoryOf(self.0.id.clone());
        let history = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let mut entries: Vec<_> = history
            .unwrap_or_default()
            .into_iter()
            .map(|change| OrderHistoryEntry {
                kind: OrderChange::Status,
                status: change.status.into(),
                previous_status: change.previous.map(Into::into),
                actor: change.actor,
                reason: change.reason,
                occurred_at: DateTime(change.at),
            })
            .collect();
        let shipments = self.shipments_of(ctx).await?.into_iter();
        let refunds = self.refunds_of(ctx).await?.into_iter();
        let others = shipments
            .map(|one| (OrderChange::Shipment, one.actor, one.reason, one.at))
            .chain(refunds.map(|one| (OrderChange::Refund, one.actor, one.reason, one.at)));
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
                actor,
                reason,
                occurred_at: DateTime(at),
            };
            entries.insert(place, entry);
        }
        Ok(entries)
    }

    /// The steps that the shop still has to take, for administrators; null for
    /// everybody else.
    async fn progress(&self, ctx: &Context<'_>) -> Result<Option<Vec<OrderProgress>>> {
        if !call(ctx)?.caller.is_admin() {
            return Ok(None);
        }
        let key = ProgressOf(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let steps = found.unwrap_or_default().into_iter();
        let steps = steps.filter_map(|progress| {
            Some(OrderProgress {
                step: OrderStep::of(progress.step)?,
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

    async fn shipments_of(&self, ctx: &Context<'_>) -> Result<Vec<domain::Shipment>> {
        let key = ShipmentsOf(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        Ok(found.unwrap_or_default())
    }

    async fn refunds_of(&self, ctx: &Context<'_>) -> Result<Vec<domain::Refund>> {
        let key = RefundsOf(self.0.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        Ok(found.unwrap_or_default())
    }
}

/// What an entry of an order's history tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderChange {
    Status,
    Shipment,
    Refund,
}

/// A change of an order.
#[derive(SimpleObject)]
pub struct OrderHistoryEntry {
    kind: OrderChange,
    /// After it.
    status: OrderStatus,
    /// Null for the first entry.
    previous_status: Option<OrderStatus>,
    actor: Actor,
    reason: Option<String>,
    occurred_at: DateTime,
}

/// A step of an order that is not done yet.
#[derive(SimpleObject)]
pub struct OrderProgress {
    step: OrderStep,
    /// How often it came to nothing.
    attempts: i32,
    /// Why it is not done, the last time that it was tried.
    last_error: Option<String>,
    /// When it was first to be done.
    since: DateTime,
    /// It has taken more than ten minutes: somebody should look.
    stuck: bool,
}

/// What the shop does for an order: its payment one step after the other, and
/// beside that the units that go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderStep {
    /// The provider sets the money aside.
    Authorise,
    /// The reserved units become the order's.
    Commit,
    /// The provider takes the money.
    Capture,
    /// The provider lets go of what it set aside.
    Void,
    /// The provider returns the money.
    Refund,
    /// The units of a cancelled order go back to stock.
    Release,
    /// The units of a refund go back to stock.
    Return,
}

impl OrderStep {
    fn of(step: Step) -> Option<Self> {
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

/// A customer, as far as orders know them.
pub struct User(pub UserId);

#[Object]
impl User {
    async fn id(&self) -> ID {
        ID(self.0.to_string())
    }

    /// The user's open cart: for themselves alone.
    async fn cart(&self, ctx: &Context<'_>) -> Result<Option<Cart>> {
        let caller = &call(ctx)?.caller;
        if !caller.is_user(&self.0) {
            return Ok(None);
        }
        let found = app(ctx)?.cart_fetch(caller, &CartRef::default()).await;
        Ok(found.map_err(to_graphql_error)?.map(Cart::new))
    }

    /// The user's orders, the newest first: for themselves and administrators.
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
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

/// A page of orders.
pub async fn list(
    ctx: &Context<'_>,
    filter: OrderFilter,
    page: PageRequest,
) -> Result<Connection<Order>> {
    let app = app(ctx)?;
    let slice = app
        .order_list(&call(ctx)?.caller, &filter, &page)
        .await
        .map_err(to_graphql_error)?;
    let counter = app.clone();
    let count = move || {
        let (app, filter) = (counter.clone(), filter.clone());
        Box::pin(async move { app.order_count(&filter).await.map_err(to_graphql_error) }) as _
    };
    Ok(Connection::new(
        slice,
        |order| order.id.to_string(),
        Order,
        Arc::new(count),
    ))
}

/// Why an order was not placed or changed.
#[derive(Debug, Clone, SimpleObject)]
pub struct OrderUserError {
    /// Where in the arguments.
    pub field: Option<Vec<String>>,
    pub code: ProblemCode,
    /// For developers, in English.
    pub message: String,
}

impl From<domain::Problem> for OrderUserError {
    fn from(problem: domain::Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code,
            message: problem.message,
        }
    }
}
