//! Notifications, and their texts.

use stoa_runtime::clock::Micros;
use stoa_schema::events::{OrderStatus, OrderStatusChanged};
use stoa_schema::{NotificationId, OrderId, UserId};

#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub id: NotificationId,
    pub user_id: UserId,
    /// What it is about, such as `ORDER_SHIPPED`.
    pub kind: String,
    pub title: String,
    pub body: String,
    pub order_id: Option<OrderId>,
    pub created_at: Micros,
    pub read_at: Option<Micros>,
}

/// The notification for a change to a customer's order.
pub fn order_notification(event: &OrderStatusChanged, now: Micros) -> Notification {
    let number = &event.number;
    let (title, body) = match event.status {
        OrderStatus::Pending => (
            format!("Order {number} received"),
            "We have your order and wait for the payment.",
        ),
        OrderStatus::Confirmed => (
            format!("Order {number} confirmed"),
            "Your payment has arrived. We are packing.",
        ),
        OrderStatus::Shipped => (
            format!("Order {number} shipped"),
            "It is on its way to you.",
        ),
        OrderStatus::Delivered => (
            format!("Order {number} delivered"),
            "It has arrived. Enjoy!",
        ),
        OrderStatus::Cancelled => (
            format!("Order {number} cancelled"),
            "Nothing was charged, or it is on its way back to you.",
        ),
        OrderStatus::Refunded => (
            format!("Order {number} refunded"),
            "The money is on its way back to you.",
        ),
    };
    Notification {
        id: NotificationId::new(),
        user_id: event.customer_id.clone(),
        kind: format!("ORDER_{}", event.status.into_str()),
        title,
        body: body.to_owned(),
        order_id: Some(event.order_id.clone()),
        created_at: now,
        read_at: None,
    }
}
