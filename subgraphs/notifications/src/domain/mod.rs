//! The rules of notifications: pure decisions about values, without I/O.

mod notification;

pub use notification::{Notification, order_notification};
