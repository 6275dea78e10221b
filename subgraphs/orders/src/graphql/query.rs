//! Reading orders.

use async_graphql::{Context, ID, Object, Result};
use stoa_kit::graphql::{Connection, fault};
use stoa_kit::identity::Caller;
use stoa_kit::page::PageRequest;
use stoa_schema::{OrderId, UserId};

use super::types::{Order, OrderStatus, User, list};
use super::{app, call, loader};
use crate::error::Error;
use crate::store::OrderFilter;

pub struct Query;

#[Object]
impl Query {
    /// One's own order; administrators see every one.
    async fn order(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        let caller = &call(ctx)?.caller;
        if *caller == Caller::Anonymous {
            return Err(fault(Error::Unauthenticated));
        }
        let Some(order) = fetch(ctx, &id).await? else {
            return Ok(None);
        };
        if !caller.may_see(&order.0.customer_id) {
            return Err(fault(Error::Forbidden));
        }
        Ok(Some(order))
    }

    /// Everybody's orders, the newest first: for administrators.
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
        status: Option<OrderStatus>,
        #[graphql(desc = "Only those whose step has taken more than ten minutes.")] stuck: Option<
            bool,
        >,
    ) -> Result<Option<Connection<Order>>> {
        let since = app(ctx)?.stuck_since();
        let filter = OrderFilter {
            customer: None,
            status: status.map(Into::into),
            stuck_since: stuck.unwrap_or(false).then_some(since),
        };
        list(ctx, filter, PageRequest { first, after })
            .await
            .map(Some)
    }

    /// What the caller may not see does not exist for them.
    #[graphql(entity)]
    async fn find_order_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        let order = fetch(ctx, &id).await?;
        let caller = &call(ctx)?.caller;
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
    let found = loader(ctx)?.load_one(id).await.map_err(fault)?;
    Ok(found.map(Order))
}
