//! The products subgraph: catalogue, categories, search and stock.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what the service needs from outside |
//! | [`domain`] | the rules: products, categories, stock; no I/O |
//! | [`app`] | the use cases; transactions begin here |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`peer`] | requests from other services |
//! | [`tasks`] | what runs in the background |
//! | [`image`] | product images, drawn on request |
//! | [`audit`] | consistency rules, checked on the database |
//! | [`seed`] | the demo catalogue |

pub mod app;
pub mod audit;
pub mod config;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod image;
pub mod peer;
pub mod seed;
pub mod store;
pub mod tasks;

use std::sync::Arc;

use stoa_migrations::ProductsMigrator;
use stoa_service::service::Service;

pub use app::App;
pub use config::Config;
pub use error::Error;

/// Builds the service on a database, which it migrates first.
///
/// # Errors
/// If the migration fails.
pub async fn build(config: Config) -> Result<(Service, App), Error> {
    config.database.migrate::<ProductsMigrator>().await?;
    let app = App::new(config.database.clone(), &config.cache, config.clock);
    let schema = graphql::schema(app.clone(), config.image_base);
    let service = Service {
        name: "products",
        graphql: Service::graphql(schema),
        peer: Arc::new(peer::Peer(app.clone())),
        checks: vec![Service::database_check(&config.database)],
        database: config.database,
        routes: image::routes(),
        tasks: tasks::background(&app),
    };
    Ok((service, app))
}
