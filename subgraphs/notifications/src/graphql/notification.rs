//! Inboxes: reading them, and marking notifications as read.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_schema::UserId;
use stoa_service::graphql::{
    Connection, DateTime, call_context, list_size, page_arguments, page_fields, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::app;
use crate::domain;
use crate::error::Error;

#[derive(Clone, SimpleObject)]
#[graphql(unresolvable)]
pub struct Order {
    pub id: ID,
}

/// A message in a user's inbox.
pub struct Notification(pub domain::Notification);

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
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
    ) -> Result<Option<Connection<Notification>>> {
        let app = app(ctx)?;
        let slice = app
            .notification_list(
                &call_context(ctx)?.caller,
                &self.0,
                &PageRequest { first, after },
            )
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

#[derive(Default)]
pub struct NotificationQuery;

#[Object]
impl NotificationQuery {
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

#[derive(Default)]
pub struct NotificationMutation;

#[Object]
impl NotificationMutation {
    /// Marks one of the caller's notifications as read.
    async fn mark_notification_read(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> Result<NotificationPayload> {
        match app(ctx)?
            .notification_mark_read(&call_context(ctx)?.caller, &id)
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
