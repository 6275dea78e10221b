//! Finding orders.

use async_graphql::{Context, ErrorExtensions, ID, InputObject, Object, Result};
use stoa_runtime::identity::Caller;
use stoa_schema::{OrderId, UserId};
use stoa_service::context::CallerExt;
use stoa_service::error::{BAD_USER_INPUT, CommonError};
use stoa_service::graphql::{
    Connection, DateTime, OrderStatus, call_context, list_size, page_arguments, page_fields,
    to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::order::{Order, User, list};
use super::{app, loader};
use crate::domain::OrderFilter;

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
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
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
