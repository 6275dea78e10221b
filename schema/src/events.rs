//! Events on the bus: CloudEvents 1.0 in JSON, versioned by type.
//!
//! Each aggregate (an order, a notification) has a subject of its own, whose
//! tokens name its owner first: one wildcard selects all events of a customer.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::ids::{NotificationId, OrderId, UserId};

/// The states of an order, as all services name them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum OrderStatus {
    Pending,
    Confirmed,
    Shipped,
    Delivered,
    Cancelled,
    Refunded,
}

impl OrderStatus {
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Confirmed,
        Self::Shipped,
        Self::Delivered,
        Self::Cancelled,
        Self::Refunded,
    ];
}

/// A CloudEvent (<https://cloudevents.io>, version 1.0.2) around one payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<T> {
    pub specversion: String,
    /// Unique; the bus deduplicates by it.
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// The aggregate's identifier.
    pub subject: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// The aggregate's version after this event, counting from 1 without gaps;
    /// a consumer drops a version that it has seen.
    pub aggregateversion: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    pub data: T,
}

/// A payload's type and where it is published.
pub trait Payload: Serialize + for<'de> Deserialize<'de> {
    const KIND: &'static str;
    const SOURCE: &'static str;

    /// The subject of the bus.
    fn bus_subject(&self) -> String;

    /// The aggregate's identifier.
    fn aggregate(&self) -> &str;
}

/// An order was placed (`previous_status` is absent) or changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderStatusChanged {
    pub order_id: OrderId,
    pub number: String,
    pub customer_id: UserId,
    pub status: OrderStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_status: Option<OrderStatus>,
}

impl Payload for OrderStatusChanged {
    const KIND: &'static str = "stoa.order.status_changed.v1";
    const SOURCE: &'static str = "/stoa/orders";

    fn bus_subject(&self) -> String {
        order_subject(&self.customer_id, &self.order_id)
    }

    fn aggregate(&self) -> &str {
        self.order_id.as_str()
    }
}

/// A notification entered a user's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationCreated {
    pub notification_id: NotificationId,
    pub user_id: UserId,
}

impl Payload for NotificationCreated {
    const KIND: &'static str = "stoa.notification.created.v1";
    const SOURCE: &'static str = "/stoa/notifications";

    fn bus_subject(&self) -> String {
        format!(
            "stoa.notifications.{}.{}",
            self.user_id, self.notification_id
        )
    }

    fn aggregate(&self) -> &str {
        self.notification_id.as_str()
    }
}

/// Every subject that events are published under.
pub const ALL_SUBJECTS: &str = "stoa.>";
/// Every order's events.
pub const ORDER_SUBJECTS: &str = "stoa.orders.*.*";

/// One order's events.
pub fn order_subject(customer: &UserId, order: &OrderId) -> String {
    format!("stoa.orders.{customer}.{order}")
}

/// The events of all orders of one customer.
pub fn customer_subjects(customer: &UserId) -> String {
    format!("stoa.orders.{customer}.*")
}

/// The events of all notifications of one user.
pub fn notification_subjects(user: &UserId) -> String {
    format!("stoa.notifications.{user}.*")
}

/// Whether a subject matches a filter: `*` stands for one token, a final `>`
/// for one or more (NATS subject-based messaging).
pub fn subject_matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_by_token() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b.c", "a.b", false),
            ("*.b", "a.b", true),
        ] {
            assert_eq!(
                subject_matches(filter, subject),
                expected,
                "{filter} {subject}"
            );
        }
    }
}
