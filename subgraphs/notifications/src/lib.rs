//! The notifications subgraph: each user's inbox, and live updates.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what the service needs from outside |
//! | [`domain`] | the rules: notifications and their texts; no I/O |
//! | [`app`] | the use cases; transactions begin here |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`tasks`] | what runs in the background |
//! | [`hub`] | one reader of the bus for the process, fanned out to subscribers |
//! | [`cursor`] | signed positions of subscribers in the stream |
//!
//! No other service calls this one: it has no peer methods.

pub mod app;
pub mod config;
pub mod cursor;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod hub;
pub mod store;
pub mod tasks;

use std::sync::Arc;

use secrecy::ExposeSecret;
use stoa_migrations::NotificationsMigrator;
use stoa_service::outbox::Relay;
use stoa_service::peer::NoPeerMethods;
use stoa_service::service::{Routes, Service};

pub use app::App;
pub use config::Config;
use cursor::CursorKey;
pub use error::Error;
use hub::Hub;

/// Builds the service on a database, which it migrates first.
///
/// # Errors
/// If the migration fails or the bus cannot be read.
pub async fn build(config: Config) -> Result<(Service, App), Error> {
    config.database.migrate::<NotificationsMigrator>().await?;
    let relay = Relay::new(
        config.database.clone(),
        config.bus.clone(),
        config.clock.clone(),
    );
    let info = config.bus.info().await?;
    let hub = Hub::new(config.bus.clone(), &info);
    let app = App::new(
        config.database.clone(),
        config.peers,
        relay.clone(),
        config.clock,
        hub.clone(),
        CursorKey::new(config.cursor_secret.expose_secret()),
    );
    let schema = graphql::schema(app.clone());
    let bus = config.bus;
    let checks = vec![
        Service::database_check(&config.database),
        Service::bus_check(&bus),
    ];
    let service = Service {
        name: "notifications",
        graphql: Service::graphql(schema),
        peer: Arc::new(NoPeerMethods),
        database: config.database,
        routes: Routes::new(),
        tasks: tasks::background(&app, relay, hub, bus),
        checks,
    };
    Ok((service, app))
}
