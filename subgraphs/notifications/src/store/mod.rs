//! Rows and queries of inboxes. Functions named `_in_txn` must run within a
//! transaction. No row leaves this module.

mod entity;
pub mod notification;
