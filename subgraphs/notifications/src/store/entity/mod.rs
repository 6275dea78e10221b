//! The rows of the database's tables.

pub mod known_order;
pub mod notification;
