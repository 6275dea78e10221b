//! Live updates: subscriptions that can be resumed.

use std::collections::HashMap;

use futures_util::stream::{self, Stream};
use serde::de::DeserializeOwned;
use stoa_runtime::identity::Caller;
use stoa_schema::events::{
    Event, NotificationCreated, OrderStatusChanged, customer_subjects, notification_subjects,
    order_subject,
};
use stoa_schema::peer::GetOrderOwner;
use stoa_schema::{OrderId, UserId};
use stoa_service::context::{CallContext, CallerExt};

use super::App;
use crate::cursor::{ANY_SCOPE, CursorKey};
use crate::error::Error;
use crate::hub::Subscriber;
use crate::store::notification::order_owner;

/// How many aggregates' versions a subscription remembers, to drop repeated
/// events.
const MAX_TRACKED_AGGREGATES: usize = 10_000;

/// A live event, with the cursor that continues after it.
#[derive(Debug, Clone)]
pub struct LiveEvent<T> {
    pub cursor: String,
    pub event: Event<T>,
}

impl App {
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
        let owner = match order_owner(self.database.read(), &order).await? {
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
}

/// What a subscription remembers between two events.
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
