//! A user, as far as orders know them.

use async_graphql::{Context, ID, Object, Result};
use stoa_schema::UserId;
use stoa_service::context::CallerExt;
use stoa_service::graphql::{Connection, OrderStatus, call_context, to_graphql_error};
use stoa_service::page::PageRequest;

use super::app;
use super::cart::Cart;
use super::order::{Order, list};
use crate::domain::{CartRef, OrderFilter};

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
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
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
