//! Starts whole systems from the real binary and uses them as clients do.
//!
//! | module | what it holds |
//! |---|---|
//! | [`shop`] | starting, killing and restarting a shop, in one process or in many |
//! | [`servers`] | private PostgreSQL, Redis and NATS |
//! | `native` | how those are started as native processes |
//! | [`nginx`] | the proxy in front of replicas |
//! | [`poll`] | waiting for what is to happen |
//! | [`process`] | child processes that cannot outlive the test |
//! | [`in_process`] | orders and products in the test's own process, with manual clocks |
//! | [`faulty`] | their dependencies, with injected faults |
//! | [`fault_proxy`] | proxies between router and services, with faults |
//! | [`stripe`] | a mock of the part of Stripe's API that the shop uses |
//! | [`client`] | a GraphQL client over HTTP and server-sent events |

pub mod client;
pub mod fault_proxy;
pub mod faulty;
pub mod in_process;
mod native;
pub mod nginx;
pub mod poll;
pub mod process;
pub mod servers;
pub mod shop;
pub mod stripe;

pub use client::{Client, Events};
pub use fault_proxy::FaultProxies;
pub use servers::Servers;
pub use shop::{Mode, Shop};
