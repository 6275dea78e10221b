//! Rows.

pub mod order;
pub mod order_history;
pub mod order_line;
pub mod payment;
pub mod payment_event;
pub mod payment_movement;
