//! A subgraph that breaks every rule of `tests/architecture/rules.rs`. It is read,
//! never compiled.

pub mod app;
pub mod domain;
pub mod graphql;
pub mod store;
