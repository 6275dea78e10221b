//! The rows of the database's tables.

pub mod account;
pub mod refresh_token;
pub mod saved_address;
pub mod session;
