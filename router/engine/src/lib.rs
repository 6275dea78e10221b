//! Executes query plans against subgraphs.
//!
//! | module | what it does |
//! |---|---|
//! | [`transport`] | the one trait by which a subgraph is reached, and its errors |
//! | [`http`] | that trait over HTTP: JSON for answers, server-sent events for subscriptions |
//! | [`execute`] | runs a plan: each fetch as soon as what it needs is there |
//! | [`json`] | reads answers into the data, checking and decoding nothing twice |
//! | [`tree`] | the data: spans of what was received, merged into one tree |
//! | [`request`] | what is sent for them, in parts that a request may hold |
//! | [`settle`] | merges answers into the data and gives their errors places |
//! | [`representation`] | finds entities in the data and asks for each once |
//! | `groups` | what contexts give them |
//! | [`paths`] | from the data's slots to the client's keys |
//! | [`complete`] | turns the data into the client's answer: order, coercion, null propagation |
//! | [`response`] | the answer and its errors |

pub mod complete;
pub mod execute;
mod groups;
pub mod http;
pub mod json;
pub mod paths;
pub mod representation;
mod request;
pub mod response;
mod settle;
pub mod transport;
pub mod tree;

pub use execute::{Execution, execute, subscribe};
pub use http::{HttpLimits, HttpTransport};
pub use response::{GraphQLError, PathSegment, Response};
pub use transport::{SubgraphRequest, SubgraphResponse, Transport, TransportError};
