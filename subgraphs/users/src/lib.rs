//! The users subgraph: accounts, sessions and access tokens.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what the service needs from outside |
//! | [`domain`] | the rules: accounts, sessions, addresses; no I/O |
//! | [`app`] | the use cases; transactions begin here |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`tasks`] | what runs in the background |
//! | [`password`] | hashing, off the async threads and bounded |
//! | [`token`] | access tokens (EdDSA), refresh tokens, and the public keys |
//! | [`seed`] | the demo accounts |
//!
//! No other service calls this one: it has no peer methods.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod password;
pub mod seed;
pub mod store;
pub mod tasks;
pub mod token;

use std::sync::Arc;

use axum::Json;
use axum::routing::get;
use stoa_migrations::UsersMigrator;
use stoa_service::peer::NoPeerMethods;
use stoa_service::service::{Routes, Service};

pub use app::App;
pub use config::Config;
pub use error::Error;

/// Builds the service on a database, which it migrates first.
///
/// # Errors
/// If the migration fails.
pub async fn build(config: Config) -> Result<(Service, App), Error> {
    config.database.migrate::<UsersMigrator>().await?;
    let jwks = config.key.jwks();
    let app = App::new(config.database.clone(), config.clock, config.key);
    let schema = graphql::schema(app.clone(), config.secure_cookies);
    let routes = Routes::new().route(
        "/.well-known/jwks.json",
        get(move || {
            let jwks = jwks.clone();
            async move { Json(jwks) }
        }),
    );
    let service = Service {
        name: "users",
        graphql: Service::graphql(schema),
        peer: Arc::new(NoPeerMethods),
        checks: vec![Service::database_check(&config.database)],
        database: config.database,
        routes,
        tasks: tasks::background(&app),
    };
    Ok((service, app))
}
