//! Boots whole systems from the real binary and speaks to them as clients do.
//!
//! | module | what it holds |
//! |---|---|
//! | [`shop`] | starting, killing and restarting a shop, in one process or in five |
//! | [`client`] | a GraphQL client over HTTP and server-sent events |

pub mod client;
pub mod shop;

pub use client::{Client, Events};
pub use shop::{Mode, Shop};
