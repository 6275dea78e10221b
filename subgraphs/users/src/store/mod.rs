//! Rows and queries of accounts and sessions. Functions named `_in_txn` must run
//! within a transaction. No row leaves this module.

pub mod account;
pub mod address;
mod entity;
pub mod session;
