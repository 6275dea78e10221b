//! Live updates.

use async_graphql::{Context, ID, Object, Result, SimpleObject, Subscription, TypeDirective};
use futures_util::{Stream, StreamExt};
use stoa_runtime::clock::from_rfc3339;
use stoa_schema::events::OrderStatusChanged;
use stoa_service::graphql::{DateTime, OrderStatus, call_context, to_graphql_error};

use super::app;
use super::notification::{Notification, Order};
use crate::app::live::LiveEvent;
use crate::error::Error;

/// As [`to_graphql_error`], with the cursor from which to resume.
fn to_live_graphql_error(error: Error) -> async_graphql::Error {
    let cursor = match &error {
        Error::ResumeRequired { cursor } => cursor.clone(),
        _ => None,
    };
    let mut error = to_graphql_error(error);
    if let Some(cursor) = cursor {
        error
            .extensions
            .get_or_insert_with(Default::default)
            .set("cursor", cursor);
    }
    error
}

/// A subscription that can be resumed: each event carries its cursor in the
/// field named by `cursor`; passed in the argument named by `after`, it
/// continues the stream after that event.
#[TypeDirective(
    location = "FieldDefinition",
    composable = "https://stoa.dev/specs/resumable/v1.0"
)]
fn resumable(cursor: String, after: String) {}

#[derive(Default)]
pub struct LiveQuery;

#[Object]
impl LiveQuery {
    /// A cursor for this moment. Read it, then read a list, then subscribe
    /// with it as `after`: no event is lost between the list and the stream.
    async fn live_cursor(&self, ctx: &Context<'_>) -> Result<String> {
        app(ctx)?
            .cursor_now(&call_context(ctx)?.caller)
            .await
            .map_err(to_graphql_error)
    }
}

/// A change of an order's status, sent as it happens.
#[derive(Clone, SimpleObject)]
pub struct OrderUpdate {
    /// To resume after this event, pass this as `after`.
    cursor: String,
    order_id: ID,
    status: OrderStatus,
    /// Null when the order was placed.
    previous_status: Option<OrderStatus>,
    occurred_at: DateTime,
    /// The order as it is now, which may be newer than this event.
    order: Option<Order>,
}

impl From<LiveEvent<OrderStatusChanged>> for OrderUpdate {
    fn from(live: LiveEvent<OrderStatusChanged>) -> Self {
        let id = ID(live.event.data.order_id.to_string());
        Self {
            cursor: live.cursor,
            order_id: id.clone(),
            status: live.event.data.status.into(),
            previous_status: live.event.data.previous_status.map(Into::into),
            occurred_at: DateTime(from_rfc3339(&live.event.time).unwrap_or_default()),
            order: Some(Order { id }),
        }
    }
}

/// A new notification in the caller's inbox.
#[derive(SimpleObject)]
pub struct NotificationUpdate {
    /// To resume after this event, pass this as `after`.
    cursor: String,
    notification: Option<Notification>,
}

pub struct SubscriptionRoot;

#[Subscription(name = "Subscription")]
impl SubscriptionRoot {
    /// Every status change of one order, from its first one on, or after a cursor.
    #[graphql(directive = resumable::apply("cursor".to_owned(), "after".to_owned()))]
    async fn order_status_changed(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderUpdate>> + use<>> {
        let updates = app(ctx)?
            .order_follow(call_context(ctx)?, &order_id, after.as_deref())
            .await
            .map_err(to_live_graphql_error)?;
        Ok(updates.map(|update| update.map(Into::into).map_err(to_live_graphql_error)))
    }

    /// Every status change of the caller's orders, from now on, or after a cursor.
    #[graphql(directive = resumable::apply("cursor".to_owned(), "after".to_owned()))]
    async fn my_order_updates(
        &self,
        ctx: &Context<'_>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderUpdate>> + use<>> {
        let updates = app(ctx)?
            .own_orders_follow(&call_context(ctx)?.caller, after.as_deref())
            .await
            .map_err(to_live_graphql_error)?;
        Ok(updates.map(|update| update.map(Into::into).map_err(to_live_graphql_error)))
    }

    /// Every new notification in the caller's inbox, from now on, or after a cursor.
    #[graphql(directive = resumable::apply("cursor".to_owned(), "after".to_owned()))]
    async fn notification_received(
        &self,
        ctx: &Context<'_>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<NotificationUpdate>> + use<>> {
        let app = app(ctx)?.clone();
        let created = app
            .inbox_follow(&call_context(ctx)?.caller, after.as_deref())
            .await
            .map_err(to_live_graphql_error)?;
        Ok(created.then(move |live| {
            let app = app.clone();
            async move {
                let live = live.map_err(to_live_graphql_error)?;
                let id = live.event.data.notification_id;
                let found = app.notification_fetch_many(std::slice::from_ref(&id)).await;
                Ok(NotificationUpdate {
                    cursor: live.cursor,
                    notification: found
                        .map_err(to_graphql_error)?
                        .remove(&id)
                        .map(Notification),
                })
            }
        }))
    }
}
