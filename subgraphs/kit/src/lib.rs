//! What every service needs and no service is about.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | environment variables, read with errors that say what to do; development and production |
//! | [`secret`] | secrets from the environment or a file; made on first run in development |
//! | [`telemetry`] | structured logs, correlation ids, traces |
//! | [`redis`] | Redis, for what may be lost |
//! | [`identity`] | who calls: a short-lived signed header from the router or a peer |
//! | [`health`] | readiness: what a process depends on |
//! | [`front`] | the listener, open while the process still waits for something |
//! | [`listen`] | the accept loop, with its bounds |
//! | [`chaos`] | calls that fail at random, in development |
//! | [`clock`] | time as an input |
//! | [`fault`] | places at which a test ends the process |
//! | [`backoff`] | waiting longer and longer |
//! | [`shutdown`] | ending within a bound |
//!
//! With the feature `service`, what a subgraph is built from:
//!
//! | module | what it holds |
//! |---|---|
//! | [`service`] | a subgraph as a value: its schema, peer methods, routes and background tasks; and its server |
//! | [`graphql`] | scalars, money, connections, and how an error becomes `extensions.code` |
//! | [`sdl`] | a subgraph's SDL in the form in which it is served and committed |
//! | [`database`] | the pool: SQLite with one writer, or PostgreSQL |
//! | [`bus`] | the event bus trait; [`embedded_bus`] implements it on SQLite, [`nats_bus`] on NATS JetStream |
//! | [`consume`] | handling a durable consumer's messages, and laying aside what cannot be |
//! | [`outbox`] | events that commit with the change they tell of, and their relay |
//! | [`peer`] | direct calls between services |
//! | [`idempotency`] | mutations that must happen once |
//! | [`cache`] | a cache with times to live |
//! | [`page`] | keyset pagination |
//! | [`trim`] | deleting what has expired |
//! | [`audit`] | invariants as queries |

pub mod backoff;
pub mod chaos;
pub mod clock;
pub mod fault;
pub mod front;
pub mod health;
pub mod identity;
pub mod listen;
pub mod redis;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

#[cfg(feature = "service")]
pub mod audit;
#[cfg(feature = "service")]
pub mod bus;
#[cfg(feature = "service")]
pub mod cache;
#[cfg(feature = "service")]
pub mod consume;
#[cfg(feature = "service")]
pub mod database;
#[cfg(feature = "service")]
pub mod embedded_bus;
#[cfg(feature = "service")]
pub mod graphql;
#[cfg(feature = "service")]
pub mod idempotency;
#[cfg(feature = "service")]
pub mod nats_bus;
#[cfg(feature = "service")]
pub mod outbox;
#[cfg(feature = "service")]
pub mod page;
#[cfg(feature = "service")]
pub mod peer;
#[cfg(feature = "service")]
pub mod sdl;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "service")]
pub mod trim;
