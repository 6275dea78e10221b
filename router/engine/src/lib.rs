//! Executes query plans against subgraphs.
//!
//! | module | what it does |
//! |---|---|
//! | [`transport`] | the trait through which subgraphs are reached, and its errors |
//! | [`http`] | that trait over HTTP: JSON for responses, server-sent events for subscriptions |
//! | [`mod@execute`] | runs a plan: each fetch as soon as those it depends on are done |
//! | [`execution`] | what running one plan needs |
//! | [`batch`] | the objects that a fetch is for |
//! | [`json`] | reads responses into the data, checking and decoding nothing twice |
//! | `scan` | reads JSON text without decoding it |
//! | [`variables`] | coerces variables, whose text stays as it was written |
//! | [`tree`] | the data: spans of what was received, merged into one tree |
//! | `errors` | reads the errors that a subgraph sends; what is malformed costs only itself |
//! | [`request`] | builds the requests of a fetch, in parts of bounded size |
//! | [`settle`] | merges responses into the data and maps errors to paths |
//! | [`representation`] | finds entities in the data; equal ones are fetched once |
//! | `groups` | the context values of entities |
//! | [`paths`] | maps paths through the data to the client's response keys |
//! | [`complete`] | turns the data into the client's response: order, coercion, null propagation |
//! | [`response`] | the response and its errors |

pub mod batch;
pub mod complete;
mod errors;
pub mod execute;
pub mod execution;
mod groups;
pub mod http;
pub mod json;
pub mod paths;
pub mod representation;
mod request;
pub mod response;
mod scan;
mod settle;
pub mod transport;
pub mod tree;
pub mod variables;

pub use execute::{execute, subscribe};
pub use execution::Execution;
pub use http::HttpTransport;
pub use http::breaker::BreakerSettings;
pub use http::settings::{HttpLimits, HttpSettings};
pub use response::{GraphQLError, PathSegment, Response};
pub use transport::{SubgraphRequest, SubgraphResponse, Transport, TransportError};
pub use variables::Variables;
