//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

use std::sync::Arc;

use async_graphql::{
    Context, Enum, ID, Object, Result, Schema, SimpleObject, Subscription, TypeDirective,
};
use futures_util::{Stream, StreamExt};
use stoa_runtime::clock::from_rfc3339;
use stoa_schema::UserId;
use stoa_schema::events::{OrderStatus as Status, OrderStatusChanged};
use stoa_service::context::CallContext;
use stoa_service::graphql::{Connection, DateTime, to_graphql_error};
use stoa_service::page::PageRequest;

use crate::app::{App, LiveEvent};
use crate::domain;
use crate::error::Error;

pub type NotificationsSchema = Schema<QueryRoot, MutationRoot, SubscriptionRoot>;

pub fn schema(app: App) -> NotificationsSchema {
    Schema::build(QueryRoot, MutationRoot, SubscriptionRoot)
        .enable_federation()
        .enable_subscription_in_federation()
        .data(app)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> Result<&'a App> {
    ctx.data::<App>()
}

fn call<'a>(ctx: &Context<'a>) -> Result<&'a CallContext> {
    ctx.data::<CallContext>()
}

/// As [`fault`], with the cursor from which to resume.
fn to_live_graphql_error(error: Error) -> async_graphql::Error {
    let cursor = match &error {
        Error::ResumeRequired { cursor } => cursor.clone(),
        _ => None,
    };
    let mut fault = to_graphql_error(error);
    if let Some(cursor) = cursor {
        fault
            .extensions
            .get_or_insert_with(Default::default)
            .set("cursor", cursor);
    }
    fault
}

/// A subscription that can be resumed: each event carries its cursor in the
/// field named by `cursor`; passed in the argument named by `after`, it
/// continues the stream after that event.
#[TypeDirective(
    location = "FieldDefinition",
    composable = "https://stoa.dev/specs/resumable/v1.0"
)]
fn resumable(cursor: String, after: String) {}

/// The state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum OrderStatus {
    /// Placed: the units are reserved and the payment is in progress.
    Pending,
    /// Paid.
    Confirmed,
    Shipped,
    Delivered,
    /// Cancelled before it was shipped, or never paid.
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

#[derive(Clone, SimpleObject)]
#[graphql(unresolvable)]
pub struct Order {
    id: ID,
}

/// A message in a user's inbox.
pub struct Notification(domain::Notification);

#[Object]
impl Notification {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// What it is about, such as ORDER_SHIPPED.
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    async fn title(&self) -> &str {
        &self.0.title
    }

    async fn body(&self) -> &str {
        &self.0.body
    }

    async fn order(&self) -> Option<Order> {
        self.0.order_id.as_ref().map(|id| Order {
            id: ID(id.to_string()),
        })
    }

    async fn is_read(&self) -> bool {
        self.0.read_at.is_some()
    }

    async fn read_at(&self) -> Option<DateTime> {
        self.0.read_at.map(DateTime)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// The part of a user that this service resolves: the inbox.
pub struct User(UserId);

#[Object]
impl User {
    async fn id(&self) -> ID {
        ID(self.0.to_string())
    }

    /// The user's inbox, newest first. Visible only to the user and to
    /// administrators.
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
    ) -> Result<Option<Connection<Notification>>> {
        let app = app(ctx)?;
        let slice = app
            .notification_list(&call(ctx)?.caller, &self.0, &PageRequest { first, after })
            .await
            .map_err(to_graphql_error)?;
        let (counter, owner) = (app.clone(), self.0.clone());
        let count = move || {
            let (app, owner) = (counter.clone(), owner.clone());
            Box::pin(async move {
                app.notification_count(&owner)
                    .await
                    .map_err(to_graphql_error)
            }) as _
        };
        Ok(Some(Connection::new(
            slice,
            |notification| notification.id.to_string(),
            Notification,
            Arc::new(count),
        )))
    }
}

pub struct QueryRoot;

#[Object(name = "Query")]
impl QueryRoot {
    /// A cursor for this moment. Read it, then read a list, then subscribe
    /// with it as `after`: no event is lost between the list and the stream.
    async fn live_cursor(&self, ctx: &Context<'_>) -> Result<String> {
        app(ctx)?
            .cursor_now(&call(ctx)?.caller)
            .await
            .map_err(to_graphql_error)
    }

    #[graphql(entity)]
    async fn find_user_by_id(&self, id: ID) -> Option<User> {
        UserId::parse(&id).map(User)
    }
}

/// Why a notification was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum NotificationErrorCode {
    /// There is no such notification in the caller's inbox.
    NotFound,
}

#[derive(Debug, Clone, SimpleObject)]
pub struct NotificationUserError {
    /// The path of the argument that is wrong.
    field: Option<Vec<String>>,
    code: NotificationErrorCode,
    /// For developers, in English.
    message: String,
}

/// The result of a change to a notification.
#[derive(SimpleObject)]
pub struct NotificationPayload {
    notification: Option<Notification>,
    user_errors: Vec<NotificationUserError>,
}

pub struct MutationRoot;

#[Object(name = "Mutation")]
impl MutationRoot {
    /// Marks one of the caller's notifications as read.
    async fn mark_notification_read(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> Result<NotificationPayload> {
        match app(ctx)?
            .notification_mark_read(&call(ctx)?.caller, &id)
            .await
        {
            Ok(notification) => Ok(NotificationPayload {
                notification: Some(Notification(notification)),
                user_errors: Vec::new(),
            }),
            Err(error @ Error::NoSuchNotification) => Ok(NotificationPayload {
                notification: None,
                user_errors: vec![NotificationUserError {
                    field: Some(vec!["id".to_owned()]),
                    code: NotificationErrorCode::NotFound,
                    message: error.to_string(),
                }],
            }),
            Err(error) => Err(to_graphql_error(error)),
        }
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
            .order_follow(call(ctx)?, &order_id, after.as_deref())
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
            .own_orders_follow(&call(ctx)?.caller, after.as_deref())
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
            .inbox_follow(&call(ctx)?.caller, after.as_deref())
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
