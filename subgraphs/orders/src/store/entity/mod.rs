//! Rows.

pub mod cart;
pub mod cart_line;
pub mod discount;
pub mod discount_use;
pub mod order;
pub mod order_history;
pub mod order_line;
pub mod payment;
pub mod payment_event;
pub mod payment_movement;
pub mod refund;
pub mod refund_line;
pub mod shipment;
pub mod shipment_line;
pub mod stock_task;
