//! Boots whole systems from the real binary and speaks to them as clients do.
//!
//! | module | what it holds |
//! |---|---|
//! | [`shop`] | starting, killing and restarting a shop, in one process or in many |
//! | [`servers`] | private PostgreSQL, Redis and NATS |
//! | `native` | how those are started natively |
//! | [`nginx`] | the proxy before replicas |
//! | [`process`] | processes that cannot outlive us |
//! | [`inside`] | orders and products in this very process, with clocks that a test moves |
//! | [`faulty`] | their neighbours, that fail when a test says so |
//! | [`stripe`] | a server that speaks as much of Stripe's API as the shop does |
//! | [`client`] | a GraphQL client over HTTP and server-sent events |

pub mod client;
pub mod faulty;
pub mod inside;
mod native;
pub mod nginx;
pub mod process;
pub mod servers;
pub mod shop;
pub mod stripe;

pub use client::{Client, Events};
pub use servers::Servers;
pub use shop::{Mode, Shop};
