//! Federations of mock subgraphs: each has SDL and data, and behaves as any GraphQL
//! server with a subgraph library would, using `apollo-compiler`'s own executor, which
//! shares no code with ours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mock_subgraph`] | a mock subgraph that resolves fields from JSON data |
//! | [`federation`] | several of them composed, planned and executed |
//! | [`closing`] | serves them, closing kept connections |
//! | [`case`] | federations and their expected results, written as text |
//! | [`fuzz`] | fuzz targets |
//! | [`random`] | federations, data and queries generated from a seed |

pub mod case;
pub mod closing;
pub mod federation;
pub mod fuzz;
pub mod mock_subgraph;
pub mod random;

pub use federation::{Answer, Federation, RequestContext};
pub use mock_subgraph::MockSubgraph;
