//! The contracts between the shop's processes. Next to this crate are each
//! subgraph's committed SDL and the composed `supergraph.graphql`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | typed identifiers |
//! | [`address`] | postal addresses |
//! | [`money`] | amounts in minor units |
//! | [`events`] | what is published on the bus, and under which subjects |
//! | [`peer`] | the messages that services send each other directly |

pub mod address;
pub mod events;
pub mod ids;
pub mod money;
pub mod peer;

pub use ids::{CategoryId, NotificationId, OrderId, ProductId, UserId};
pub use money::{Currency, Money};
