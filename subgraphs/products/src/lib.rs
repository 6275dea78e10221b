//! The products subgraph: catalogue, categories, search and stock.
//!
//! | module | what it holds |
//! |---|---|
//! | [`domain`] | products, categories and the rules for them; no I/O |
//! | [`app`] | the operations; the only place where a transaction begins |
//! | [`stock`] | the operations that orders calls: reserve, commit, release, return |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`peer`] | requests from other services |
//! | [`audit`] | the stock rules that `stoa doctor` checks |
//! | [`image`] | product images, drawn on request |
//! | [`seed`] | the demo catalogue |

pub mod app;
pub mod audit;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod image;
pub mod peer;
pub mod seed;
pub mod stock;
pub mod store;

use std::sync::Arc;

use stoa_migrations::ProductsMigrator;
use stoa_runtime::clock::Clock;
use stoa_service::cache::Cache;
use stoa_service::database::Database;
use stoa_service::idempotency;
use stoa_service::service::Service;

pub use app::App;
pub use error::Error;

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub cache: Cache,
    pub clock: Clock,
    /// The URL prefix of product images: empty where the router serves them.
    pub image_base: String,
}

/// Builds the service on a database, which it migrates first.
///
/// # Errors
/// If the migration fails.
pub async fn build(config: Config) -> Result<(Service, App), Error> {
    config.database.migrate::<ProductsMigrator>().await?;
    let app = App::new(config.database.clone(), &config.cache, config.clock);
    let schema = graphql::schema(app.clone(), config.image_base);
    let database = config.database.clone();
    let service = Service {
        name: "products",
        graphql: Service::graphql(schema),
        peer: Arc::new(peer::Peer(app.clone())),
        checks: vec![Service::database_check(&config.database)],
        database: config.database,
        routes: image::routes(),
        tasks: vec![
            Box::pin(stock::run_reservation_expiry(app.clone())),
            Box::pin(idempotency::run_purge(database, app.clock.clone())),
        ],
    };
    Ok((service, app))
}
