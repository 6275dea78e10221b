//! Operations on inboxes and live updates. Permissions are checked here.

use std::collections::HashMap;

use futures_util::stream::{self, Stream};
use serde::de::DeserializeOwned;
use stoa_runtime::clock::{self, Clock};
use stoa_runtime::identity::Caller;
use stoa_runtime::telemetry;
use stoa_schema::events::{
    Event, NotificationCreated, OrderStatusChanged, customer_subjects, notification_subjects,
    order_subject,
};
use stoa_schema::peer::GetOrderOwner;
use stoa_schema::{NotificationId, OrderId, UserId};
use stoa_service::bus::Message;
use stoa_service::consume::Failure;
use stoa_service::context::CallContext;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::outbox::{Relay, outbox_append_in_txn};
use stoa_service::page::{PageRequest, Slice};
use stoa_service::peer::Peers;
use tracing::Instrument;

use crate::cursor::{ANY_SCOPE, CursorKey};
use crate::domain::{self, Notification};
use crate::error::Error;
use crate::live::{Hub, Subscriber};
use crate::store;

/// How many aggregates' versions a subscription remembers, to drop repeated
/// events.
const MAX_TRACKED_AGGREGATES: usize = 10_000;

/// The notifications service, independent of any transport.
#[derive(Clone)]
pub struct App {
    database: Database,
    peers: Peers,
    relay: Relay,
    clock: Clock,
    hub: Hub,
    cursors: CursorKey,
}

/// A live event, with the cursor that continues after it.
#[derive(Debug, Clone)]
pub struct LiveEvent<T> {
    pub cursor: String,
    pub event: Event<T>,
}

impl App {
    pub fn new(
        database: Database,
        peers: Peers,
        relay: Relay,
        clock: Clock,
        hub: Hub,
        cursors: CursorKey,
    ) -> Self {
        Self {
            database,
            peers,
            relay,
            clock,
            hub,
            cursors,
        }
    }

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
        if !store::event_record_in_txn(&txn, event).await? {
            return Ok(());
        }
        let order = &event.data;
        let happened = clock::from_rfc3339(&event.time).unwrap_or(now);
        let notification = domain::order_notification(order, happened);
        store::notification_insert_in_txn(&txn, &notification).await?;
        let created = NotificationCreated {
            notification_id: notification.id,
            user_id: notification.user_id,
        };
        let correlation = event.correlationid.as_deref();
        outbox_append_in_txn(&txn, created, 1, now, correlation).await?;
        txn.commit().await?;
        tracing::info!(status = order.status.as_str(), "customer notified");
        self.relay.wake();
        Ok(())
    }

    /// Subscribes to one order: from its first event on, or after a cursor.
    pub async fn order_follow(
        &self,
        context: &CallContext,
        order_id: &str,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LiveEvent<OrderStatusChanged>, Error>> + use<>, Error>
    {
        let principal = &context.caller.signed_in()?;
        let order = OrderId::parse(order_id).ok_or(Error::NoSuchOrder)?;
        let owner = match store::order_owner(self.database.read(), &order).await? {
            Some(owner) => owner,
            None => {
                let ask = GetOrderOwner {
                    order_id: order.clone(),
                };
                self.peers
                    .call(&context.correlation_id, &ask)
                    .await?
                    .customer_id
                    .ok_or(Error::NoSuchOrder)?
            }
        };
        context.caller.require_access_to(&owner)?;
        let filter = order_subject(&owner, &order);
        self.follow(principal, &filter, after, Some(0)).await
    }

    /// Subscribes to all orders of the caller: from now on, or after a cursor.
    pub async fn own_orders_follow(
        &self,
        caller: &Caller,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LiveEvent<OrderStatusChanged>, Error>> + use<>, Error>
    {
        let principal = &caller.signed_in()?;
        let filter = customer_subjects(principal);
        self.follow(principal, &filter, after, None).await
    }

    /// Subscribes to the caller's inbox: from now on, or after a cursor.
    pub async fn inbox_follow(
        &self,
        caller: &Caller,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LiveEvent<NotificationCreated>, Error>> + use<>, Error>
    {
        let principal = &caller.signed_in()?;
        let filter = notification_subjects(principal);
        self.follow(principal, &filter, after, None).await
    }

    async fn follow<T: DeserializeOwned>(
        &self,
        principal: &UserId,
        filter: &str,
        after: Option<&str>,
        start: Option<u64>,
    ) -> Result<impl Stream<Item = Result<LiveEvent<T>, Error>> + use<T>, Error> {
        let stream = self.hub.bus().info().await?;
        let after = match after {
            Some(cursor) => Some(self.cursors.verify(cursor, &stream, filter, principal)?),
            None => start,
        };
        let following = LiveStreamState {
            subscriber: self.hub.subscribe(filter, after)?,
            cursors: self.cursors.clone(),
            stream: stream.identity,
            scope: filter.to_owned(),
            principal: principal.clone(),
            versions: HashMap::new(),
            cursor: None,
            ended: false,
        };
        Ok(stream::unfold(following, |mut following| async move {
            let item = following.next().await?;
            Some((item, following))
        }))
    }

    /// A cursor for this moment: data read after it was made and events that
    /// follow it overlap, and leave no gap.
    pub async fn cursor_now(&self, caller: &Caller) -> Result<String, Error> {
        let principal = &caller.signed_in()?;
        let stream = self.hub.bus().info().await?;
        Ok(self
            .cursors
            .sign(&stream.identity, ANY_SCOPE, principal, stream.last))
    }

    pub async fn notification_fetch_many(
        &self,
        ids: &[NotificationId],
    ) -> Result<HashMap<NotificationId, Notification>, Error> {
        Ok(store::notification_fetch_many(self.database.read(), ids).await?)
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
        let rows = store::notification_list(self.database.read(), owner, &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn notification_count(&self, owner: &UserId) -> Result<u64, Error> {
        Ok(store::notification_count(self.database.read(), owner).await?)
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
        store::notification_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .filter(|notification| notification.user_id == *owner)
            .ok_or(Error::NoSuchNotification)?;
        store::notification_mark_read_in_txn(&txn, &id, self.clock.now()).await?;
        let read = store::notification_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .ok_or(Error::NoSuchNotification)?;
        txn.commit().await?;
        Ok(read)
    }
}

struct LiveStreamState {
    subscriber: Subscriber,
    cursors: CursorKey,
    stream: String,
    scope: String,
    principal: UserId,
    /// The last version delivered of each aggregate.
    versions: HashMap<String, u64>,
    cursor: Option<String>,
    ended: bool,
}

impl LiveStreamState {
    async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<LiveEvent<T>, Error>> {
        if self.ended {
            return None;
        }
        loop {
            let message = match self.subscriber.next().await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    self.ended = true;
                    return Some(Err(Error::ResumeRequired {
                        cursor: self.cursor.clone(),
                    }));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
            };
            let event: Event<T> = match serde_json::from_str(&message.payload) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, sequence = message.sequence, "an event cannot be read and is skipped");
                    continue;
                }
            };
            if self.versions.len() >= MAX_TRACKED_AGGREGATES {
                self.versions.clear();
            }
            let seen = self.versions.entry(event.subject.clone()).or_insert(0);
            if event.aggregateversion <= *seen {
                continue;
            }
            *seen = event.aggregateversion;
            let cursor =
                self.cursors
                    .sign(&self.stream, &self.scope, &self.principal, message.sequence);
            self.cursor = Some(cursor.clone());
            return Some(Ok(LiveEvent { cursor, event }));
        }
    }
}
