//! Rows and queries. Functions run outside a transaction or within one; those
//! named `_in_txn` must run within one. No row leaves this module.

pub mod category;
mod entity;
pub mod product;
pub mod stock;
