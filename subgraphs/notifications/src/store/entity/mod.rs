//! Rows.

pub mod known_order;
pub mod notification;
