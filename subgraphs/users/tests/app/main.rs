//! The use cases over an embedded database, with a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
mod addresses;
mod cookies;
mod fixture;
mod sessions;
