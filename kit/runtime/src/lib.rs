//! What every process needs, router and service alike. Knows nothing of the
//! shop and of GraphQL.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | environment variables, read with errors that say what to do; development and production |
//! | [`secret`] | secrets from the environment or a file; generated on first run in development |
//! | [`startup`] | the listener, open while the process still waits for a dependency |
//! | [`listen`] | the accept loop and its limits |
//! | [`shutdown`] | graceful shutdown with a time limit |
//! | [`health`] | readiness: what a process depends on |
//! | [`identity`] | the caller: a short-lived signed header from the router or a peer |
//! | [`telemetry`] | structured logs, correlation ids, traces |
//! | [`redis`] | Redis, for values that may be lost |
//! | [`backoff`] | pauses that grow between attempts |
//! | [`clock`] | an injectable clock |

pub mod backoff;
pub mod clock;
pub mod health;
pub mod identity;
pub mod listen;
pub mod redis;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod startup;
pub mod telemetry;
