//! What a service needs and no service is about.
//!
//! | module | what it holds |
//! |---|---|
//! | [`service`] | a subgraph as a value: its schema, peer methods, routes and background tasks |
//! | [`server`] | a subgraph over HTTP, in a process of its own |
//! | [`context`] | what is known of a call before its content: caller, correlation id, cookies |
//! | [`graphql`] | scalars, money, connections, and how an error becomes `extensions.code` |
//! | [`error`] | the catalogue of error codes, and the errors that every service can meet |
//! | [`problem`] | what is wrong with a client's input |
//! | [`sdl`] | a subgraph's SDL, as it is served and committed |
//! | [`database`] | the pool: SQLite with one writer, or PostgreSQL |
//! | [`bus`] | the event bus trait; [`embedded_bus`] implements it on SQLite, [`nats_bus`] on NATS JetStream |
//! | [`outbox`] | events that commit with the change they describe, and their relay |
//! | [`consume`] | handling a durable consumer's messages; those that cannot be handled become dead letters |
//! | [`peer`] | direct calls between services |
//! | `peer_retry` | when such a call is sent again |
//! | [`idempotency`] | idempotency keys, for mutations that must happen once |
//! | [`cache`] | a cache with times to live |
//! | [`page`] | keyset pagination |
//! | [`purge`] | deletion of expired rows |
//! | [`audit`] | invariants as SQL queries |
//! | [`signing`] | keyed hashes |
//! | [`failpoint`] | places at which a test crashes or holds the process |
//! | [`fault_injection`] | random fault injection, in development |

pub mod audit;
pub mod bus;
pub mod cache;
pub mod consume;
pub mod context;
pub mod database;
pub mod embedded_bus;
pub mod error;
pub mod failpoint;
pub mod fault_injection;
pub mod graphql;
pub mod idempotency;
pub mod nats_bus;
pub mod outbox;
pub mod page;
pub mod peer;
mod peer_retry;
pub mod problem;
pub mod purge;
pub mod sdl;
pub mod server;
pub mod service;
pub mod signing;
