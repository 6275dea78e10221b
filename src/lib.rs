//! Stoa as a library: each role as a function that takes its configuration and
//! a listener. `main.rs` is the command line over it; tests call it directly.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`commands`] | running each command |
//! | [`output`] | what a command prints |
//! | [`settings`] | secrets, URLs and limits from the environment |
//! | [`service_name`] | the names of the services |
//! | [`services`] | builds the four services on their databases |
//! | [`up`] | everything in one process |
//! | [`roles`] | the router alone, one subgraph alone |
//! | [`local`] | the transport that calls subgraphs in this process |
//! | [`seed`] | demo data |
//! | [`doctor`] | consistency checks of stock, payments and orders |
//! | [`events`] | dead letters |
//! | [`schema`] | SDL: printing and composing |

pub mod cli;
pub mod commands;
pub mod doctor;
pub mod events;
pub mod local;
pub mod output;
pub mod roles;
pub mod schema;
pub mod seed;
pub mod service_name;
pub mod services;
pub mod settings;
pub mod up;

/// Why a command stopped: one sentence that says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] stoa_runtime::settings::SettingErrors),
    #[error("{what}: {cause}")]
    Failed { what: String, cause: String },
    #[error("{0}")]
    Composition(#[from] stoa_federation::CompositionErrors),
}

impl Error {
    /// An error with what was being done and why it failed.
    pub fn failed(what: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Failed {
            what: what.into(),
            cause: cause.to_string(),
        }
    }
}
