//! Orders and reading them.

use std::sync::Arc;

use async_graphql::{
    Context, Enum, ErrorExtensions, ID, InputObject, Object, Result, SimpleObject,
};
use stoa_runtime::identity::Caller;
use stoa_schema::{Money, OrderId, UserId};
use stoa_service::context::CallerExt;
use stoa_service::error::{BAD_USER_INPUT, CommonError};
use stoa_service::graphql::{
    AddressObject, Connection, DateTime, MoneyObject, OrderStatus, call_context, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::fulfilment::{OrderLine, Refund, Shipment};
use super::loader::{HistoryKey, LinesKey, ProgressKey, RefundsKey, ShipmentsKey};
use super::user::User;
use super::{app, loader};
use crate::app::order::Step;
use crate::domain::{self, Actor, OrderFilter, PaymentTask, StockTask};

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

/// Who changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Actor")]
pub enum OrderActor {
    Customer,
    Admin,
    /// The shop itself: a payment was confirmed or declined.
    System,
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

/// The longest search text.
const MAX_SEARCH: usize = 100;

/// Filters orders; an order must match all the given conditions.
#[derive(Debug, Default, InputObject)]
pub struct OrderFilterInput {
    pub customer_id: Option<ID>,
    /// The beginning of an order number, a complete tracking number or SKU, or a
    /// part of a product name; not case-sensitive.
    pub search: Option<String>,
    /// Placed at this time or later.
    pub placed_from: Option<DateTime>,
    /// Placed before this time.
    pub placed_before: Option<DateTime>,
}

#[derive(Default)]
pub struct OrderQuery;

#[Object]
impl OrderQuery {
    /// An order of the caller; administrators can see any order.
    async fn order(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        let caller = &call_context(ctx)?.caller;
        if *caller == Caller::Anonymous {
            return Err(to_graphql_error(CommonError::Unauthenticated));
        }
        let Some(order) = fetch(ctx, &id).await? else {
            return Ok(None);
        };
        if !caller.may_see(&order.0.customer_id) {
            return Err(to_graphql_error(CommonError::NotOwner));
        }
        Ok(Some(order))
    }

    /// All orders, newest first. For administrators.
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
        status: Option<OrderStatus>,
        #[graphql(desc = "If true, only orders with a step that has taken over ten minutes.")]
        stuck: Option<bool>,
        filter: Option<OrderFilterInput>,
    ) -> Result<Option<Connection<Order>>> {
        let since = app(ctx)?.orders.stuck_since();
        let wanted = filter.unwrap_or_default();
        let filter = OrderFilter {
            customer: wanted.customer_id.map(|id| customer(&id)).transpose()?,
            status: status.map(Into::into),
            placed_from: wanted.placed_from.map(|at| at.0),
            placed_before: wanted.placed_before.map(|at| at.0),
            search: search_text(wanted.search.as_deref())?,
            stuck_since: stuck.unwrap_or(false).then_some(since),
        };
        list(ctx, filter, PageRequest { first, after })
            .await
            .map(Some)
    }

    /// Orders that the caller may not see are treated as missing.
    #[graphql(entity)]
    async fn find_order_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        let order = fetch(ctx, &id).await?;
        let caller = &call_context(ctx)?.caller;
        Ok(order.filter(|order| caller.may_see(&order.0.customer_id)))
    }

    #[graphql(entity)]
    async fn find_user_by_id(&self, id: ID) -> Option<User> {
        UserId::parse(&id).map(User)
    }
}

async fn fetch(ctx: &Context<'_>, id: &ID) -> Result<Option<Order>> {
    let Some(id) = OrderId::parse(id) else {
        return Ok(None);
    };
    let found = loader(ctx)?.load_one(id).await.map_err(to_graphql_error)?;
    Ok(found.map(Order))
}

fn customer(id: &str) -> Result<UserId> {
    let bad = || invalid("customerId", "is not a valid ID");
    UserId::parse(id).ok_or_else(bad)
}

/// The search text; `None` if it is blank.
fn search_text(text: Option<&str>) -> Result<Option<String>> {
    let text = text.unwrap_or_default().trim();
    if text.chars().count() > MAX_SEARCH || text.chars().any(char::is_control) {
        let message = format!("must have at most {MAX_SEARCH} characters");
        return Err(invalid("search", &message));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn invalid(field: &str, message: &str) -> async_graphql::Error {
    let error = async_graphql::Error::new(format!("{field} {message}"));
    error.extend_with(|_, extensions| extensions.set("code", BAD_USER_INPUT))
}
