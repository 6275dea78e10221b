//! The notifications subgraph: each user's inbox, and live updates.
//!
//! | module | what it holds |
//! |---|---|
//! | [`domain`] | notifications and their texts; no I/O |
//! | [`app`] | the operations; the only place where a transaction begins |
//! | [`live`] | one reader of the bus for the process, fanned out to subscribers |
//! | [`cursor`] | signed positions of subscribers in the stream |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |

pub mod app;
pub mod cursor;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod live;
pub mod store;

use std::sync::Arc;

use stoa_migrations::NotificationsMigrator;
use stoa_runtime::clock::Clock;
use stoa_schema::events::ORDER_SUBJECTS;
use stoa_service::bus::Bus;
use stoa_service::consume::consume;
use stoa_service::database::Database;
use stoa_service::outbox::Relay;
use stoa_service::peer::{NoPeerMethods, Peers};
use stoa_service::service::{Routes, Service};

pub use app::App;
pub use error::Error;

/// The name of the durable consumer that fills the inboxes.
const INBOX_CONSUMER: &str = "notifications-inbox";

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub bus: Arc<dyn Bus>,
    pub peers: Peers,
    pub clock: Clock,
    /// Signs cursors; all replicas share it.
    pub cursor_secret: String,
}

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
    let hub = live::Hub::new(config.bus.clone(), &info);
    let app = App::new(
        config.database.clone(),
        config.peers,
        relay.clone(),
        config.clock,
        hub.clone(),
        cursor::CursorKey::new(&config.cursor_secret),
    );
    let schema = graphql::schema(app.clone());
    let inbox = app.clone();
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
        tasks: vec![
            Box::pin(relay.run()),
            Box::pin(hub.run()),
            Box::pin(async move {
                consume(bus, INBOX_CONSUMER, ORDER_SUBJECTS, move |message| {
                    let app = inbox.clone();
                    async move { app.order_event_receive(&message).await }
                })
                .await;
            }),
        ],
        checks,
    };
    Ok((service, app))
}
