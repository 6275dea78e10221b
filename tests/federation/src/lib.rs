//! Federations of told subgraphs: each has SDL and data, and answers as any
//! GraphQL server with a subgraph library would, by `apollo-compiler`'s own
//! executor, which shares no code with ours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`told`] | a subgraph that answers from data |
//! | [`federation`] | several of them composed, planned and executed |
//! | [`case`] | federations written as text, with what is expected of them |
//! | [`fuzz`] | what fuzzers feed |
//! | [`random`] | federations, data and queries made from a seed |

pub mod case;
pub mod federation;
pub mod fuzz;
pub mod random;
pub mod told;

pub use federation::{Answer, Federation, Given};
pub use told::Told;
