//! Rows.

pub mod account;
pub mod refresh_token;
pub mod session;
