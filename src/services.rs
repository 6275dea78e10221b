//! Builds the services on their databases, whatever process they run in.

use std::sync::Arc;

use stoa_kit::bus::Bus;
use stoa_kit::database::Database;
use stoa_kit::embedded_bus::EmbeddedBus;
use stoa_kit::peer::Peers;
use stoa_kit::service::Service;
use stoa_migrations::{
    BusMigrator, NotificationsMigrator, OrdersMigrator, ProductsMigrator, UsersMigrator,
};

use crate::Error;
use crate::settings::Shared;

/// The services, by the names that the supergraph gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ServiceName {
    Users,
    Products,
    Orders,
    Notifications,
}

impl ServiceName {
    pub const ALL: [Self; 4] = [
        Self::Users,
        Self::Products,
        Self::Orders,
        Self::Notifications,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::Notifications => "notifications",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Users => 3001,
            Self::Products => 3002,
            Self::Orders => 3003,
            Self::Notifications => 3004,
        }
    }
}

/// Opens a service's database.
///
/// # Errors
/// If it cannot be opened; the message names the URL's variable.
pub async fn database(shared: &Shared, service: ServiceName) -> Result<Database, Error> {
    open(shared, &shared.database_url(service), service.as_str()).await
}

async fn open(shared: &Shared, url: &str, name: &str) -> Result<Database, Error> {
    std::fs::create_dir_all(&shared.data_dir).map_err(|error| {
        Error::failed(
            format!("cannot make the data folder {}", shared.data_dir.display()),
            error,
        )
    })?;
    Database::connect(url)
        .await
        .map_err(|error| Error::failed(format!("cannot open the database of {name}"), error))
}

/// Opens the event bus.
///
/// # Errors
/// If its database cannot be opened or migrated.
pub async fn bus(shared: &Shared) -> Result<EmbeddedBus, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("cannot open the event bus", error);
    let database = open(shared, &shared.bus_database_url(), "the event bus").await?;
    database
        .migrate::<BusMigrator>()
        .await
        .map_err(|error| failed(&error))?;
    EmbeddedBus::open(database)
        .await
        .map_err(|error| failed(&error))
}

pub async fn users(shared: &Shared) -> Result<(Service, stoa_users::App), Error> {
    let config = stoa_users::Config {
        database: database(shared, ServiceName::Users).await?,
        clock: shared.clock.clone(),
        key: shared.signing_key()?,
        secure_cookies: !shared.environment.is_development(),
    };
    stoa_users::build(config)
        .await
        .map_err(|error| Error::failed("cannot start users", error))
}

/// `image_base` stands before the path of a picture.
pub async fn products(
    shared: &Shared,
    image_base: String,
) -> Result<(Service, stoa_products::App), Error> {
    let config = stoa_products::Config {
        database: database(shared, ServiceName::Products).await?,
        clock: shared.clock.clone(),
        image_base,
    };
    stoa_products::build(config)
        .await
        .map_err(|error| Error::failed("cannot start products", error))
}

pub async fn orders(
    shared: &Shared,
    bus: Arc<dyn Bus>,
    peers: Peers,
) -> Result<(Service, stoa_orders::App), Error> {
    let config = stoa_orders::Config {
        database: database(shared, ServiceName::Orders).await?,
        bus,
        peers,
        clock: shared.clock.clone(),
    };
    stoa_orders::build(config)
        .await
        .map_err(|error| Error::failed("cannot start orders", error))
}

pub async fn notifications(
    shared: &Shared,
    bus: Arc<dyn Bus>,
    peers: Peers,
) -> Result<(Service, stoa_notifications::App), Error> {
    let config = stoa_notifications::Config {
        database: database(shared, ServiceName::Notifications).await?,
        bus,
        peers,
        clock: shared.clock.clone(),
        cursor_secret: shared.secret("STOA_CURSOR_SECRET")?,
    };
    stoa_notifications::build(config)
        .await
        .map_err(|error| Error::failed("cannot start notifications", error))
}

/// Brings every database up to date.
///
/// # Errors
/// At the first that fails; those before it are done.
pub async fn migrate(shared: &Shared) -> Result<(), Error> {
    for service in ServiceName::ALL {
        let database = database(shared, service).await?;
        let done = match service {
            ServiceName::Users => database.migrate::<UsersMigrator>().await,
            ServiceName::Products => database.migrate::<ProductsMigrator>().await,
            ServiceName::Orders => database.migrate::<OrdersMigrator>().await,
            ServiceName::Notifications => database.migrate::<NotificationsMigrator>().await,
        };
        done.map_err(|error| Error::failed(format!("cannot migrate {}", service.as_str()), error))?;
        println!("{}: up to date", service.as_str());
        database.close().await;
    }
    bus(shared).await?;
    println!("bus: up to date");
    Ok(())
}
