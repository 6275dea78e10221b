//! Inboxes: filling and reading them.

use std::collections::HashMap;

use stoa_runtime::clock;
use stoa_runtime::identity::Caller;
use stoa_runtime::telemetry;
use stoa_schema::events::{Event, NotificationCreated, OrderStatusChanged};
use stoa_schema::{NotificationId, UserId};
use stoa_service::bus::Message;
use stoa_service::consume::Failure;
use stoa_service::context::CallerExt;
use stoa_service::outbox::outbox_append_in_txn;
use stoa_service::page::{PageRequest, Slice};
use tracing::Instrument;

use super::App;
use crate::domain::{self, Notification};
use crate::error::Error;
use crate::store::notification as rows;

impl App {
    /// Handles an order's event from the bus: once, however often it is delivered.
    ///
    /// # Errors
    /// [`Failure`] says whether to try again.
    pub async fn order_event_receive(&self, message: &Message) -> Result<(), Failure> {
        let event: Event<OrderStatusChanged> = serde_json::from_str(&message.payload)
            .map_err(|error| Failure::Poison(format!("it cannot be read: {error}")))?;
        let span = tracing::info_span!(
            "notify",
            otel.kind = "consumer",
            correlation_id = event.correlationid.as_deref().unwrap_or_default(),
            order_id = %event.data.order_id
        );
        telemetry::continue_from_traceparent(&span, event.traceparent.as_deref());
        self.order_event_handle(&event)
            .instrument(span)
            .await
            .map_err(Error::into_failure)
    }

    async fn order_event_handle(&self, event: &Event<OrderStatusChanged>) -> Result<(), Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        if !rows::event_record_in_txn(&txn, event).await? {
            return Ok(());
        }
        let order = &event.data;
        let happened = clock::from_rfc3339(&event.time).unwrap_or(now);
        let notification = domain::order_notification(order, happened);
        rows::notification_insert_in_txn(&txn, &notification).await?;
        let created = NotificationCreated {
            notification_id: notification.id,
            user_id: notification.user_id,
        };
        let correlation = event.correlationid.as_deref();
        outbox_append_in_txn(&txn, created, 1, now, correlation).await?;
        txn.commit().await?;
        tracing::info!(status = order.status.into_str(), "customer notified");
        self.relay.wake();
        Ok(())
    }

    pub async fn notification_fetch_many(
        &self,
        ids: &[NotificationId],
    ) -> Result<HashMap<NotificationId, Notification>, Error> {
        Ok(rows::notification_fetch_many(self.database.read(), ids).await?)
    }

    /// A page of an inbox, newest first: for its user and administrators.
    pub async fn notification_list(
        &self,
        caller: &Caller,
        owner: &UserId,
        request: &PageRequest,
    ) -> Result<Slice<Notification>, Error> {
        caller.signed_in()?;
        caller.require_access_to(owner)?;
        let page = request.check::<String>()?;
        let rows = rows::notification_list(self.database.read(), owner, &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn notification_count(&self, owner: &UserId) -> Result<u64, Error> {
        Ok(rows::notification_count(self.database.read(), owner).await?)
    }

    /// Marks one of the caller's notifications as read.
    pub async fn notification_mark_read(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<Notification, Error> {
        let owner = &caller.signed_in()?;
        let id = NotificationId::parse(id).ok_or(Error::NoSuchNotification)?;
        let txn = self.database.begin().await?;
        rows::notification_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .filter(|notification| notification.user_id == *owner)
            .ok_or(Error::NoSuchNotification)?;
        rows::notification_mark_read_in_txn(&txn, &id, self.clock.now()).await?;
        let read = rows::notification_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .ok_or(Error::NoSuchNotification)?;
        txn.commit().await?;
        Ok(read)
    }
}
