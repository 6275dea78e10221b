//! Federation as pure functions: subgraph SDL in, supergraph SDL out; a
//! supergraph and an operation in, a query plan out. No I/O, no async, and no
//! knowledge of any particular graph.
//!
//! | module | what it does |
//! |---|---|
//! | [`subgraph`] | parses and validates one subgraph's SDL and resolves its `@link`s |
//! | [`mod@compose`] | merges subgraphs into supergraph SDL (join v0.4 or v0.5, link v1.0), or reports errors |
//! | [`supergraph`] | loads supergraph SDL (from any composer) into the model that planning reads |
//! | [`access`] | access control: which fields a client may see |
//! | `arguments` | reads arguments of directives |
//! | [`operation`] | a client operation with fragments inlined and conditions decided |
//! | `links` | what a `@link` says: a specification, and the names it brings |
//! | [`cost`] | what an operation may cost, by `@cost` and `@listSize` |
//! | [`one_of`] | the rules of `@oneOf`, which apollo-compiler does not check |
//! | [`plan`] | chooses the fetches for an operation, and the shape of its response |
//!
//! The format is that of the Apollo Federation 2 specification and its
//! `join`/`link` supergraph specifications.

pub mod access;
mod arguments;
pub mod compose;
pub mod cost;
pub mod decisions;
pub mod error;
pub mod field_set;
mod links;
pub mod one_of;
pub mod operation;
pub mod plan;
pub mod subgraph;
pub mod supergraph;

pub use access::Grants;
pub use apollo_compiler;
pub use compose::{Composition, compose};
pub use cost::CostFormula;
pub use error::{CompositionError, CompositionErrors, Hint, Level, Location};
pub use plan::QueryPlan;
pub use subgraph::Subgraph;
pub use supergraph::{Labels, SubgraphId, Supergraph};
