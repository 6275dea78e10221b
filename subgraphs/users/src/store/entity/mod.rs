//! Rows.

pub mod account;
pub mod refresh_token;
pub mod saved_address;
pub mod session;
