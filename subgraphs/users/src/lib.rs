//! The users subgraph: accounts, sessions and access tokens.
//!
//! | module | what it holds |
//! |---|---|
//! | `address` | address books |
//! | [`domain`] | accounts and the rules for user input; no I/O |
//! | [`password`] | password hashing, on blocking threads, a few at a time |
//! | [`token`] | access tokens (EdDSA), refresh tokens, and the public keys |
//! | [`app`] | the operations; the only place where a transaction begins |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`seed`] | the demo accounts |

mod address;
pub mod app;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod password;
pub mod seed;
pub mod store;
pub mod token;

use std::sync::Arc;

use axum::Json;
use axum::routing::get;
use stoa_migrations::UsersMigrator;
use stoa_runtime::clock::Clock;
use stoa_service::database::Database;
use stoa_service::peer::NoPeerMethods;
use stoa_service::service::{Routes, Service};

pub use app::App;
pub use error::Error;
use token::SigningKey;

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub clock: Clock,
    pub key: SigningKey,
    /// Whether cookies are sent over TLS only.
    pub secure_cookies: bool,
}

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
        tasks: vec![Box::pin(app::run_token_purge(app.clone()))],
    };
    Ok((service, app))
}
