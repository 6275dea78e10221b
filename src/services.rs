//! Builds the services on their databases, whatever process they run in.

use std::sync::Arc;

use stoa_migrations::{
    BusMigrator, MigratorTrait, NotificationsMigrator, OrdersMigrator, ProductsMigrator,
    UsersMigrator,
};
use stoa_runtime::startup::StartupListener;
use stoa_service::bus::{Bus, BusError};
use stoa_service::database::{Database, may_become_available};
use stoa_service::embedded_bus::EmbeddedBus;
use stoa_service::nats_bus::NatsBus;
use stoa_service::peer::Peers;
use stoa_service::service::{Service, Task};

use crate::Error;
use crate::settings::{BusUrl, Settings};

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

/// Opens a service's database and brings it up to date, waiting until it is
/// available.
///
/// # Errors
/// If it cannot be opened, and waiting would not help.
pub async fn database(
    shared: &Settings,
    front: &StartupListener,
    service: ServiceName,
) -> Result<Database, Error> {
    let (url, name) = (shared.database_url(service), service.as_str());
    match service {
        ServiceName::Users => open::<UsersMigrator>(shared, front, &url, name).await,
        ServiceName::Products => open::<ProductsMigrator>(shared, front, &url, name).await,
        ServiceName::Orders => open::<OrdersMigrator>(shared, front, &url, name).await,
        ServiceName::Notifications => {
            open::<NotificationsMigrator>(shared, front, &url, name).await
        }
    }
}

/// Opens a service's database as it is, without creating or migrating it.
///
/// # Errors
/// If it does not exist, or cannot be opened.
pub async fn existing_database(shared: &Settings, service: ServiceName) -> Result<Database, Error> {
    let url = shared.database_url(service);
    let what = format!("cannot open the database of {}", service.as_str());
    let file = url.strip_prefix("sqlite://");
    let file = file.map(|path| path.split('?').next().unwrap_or(path));
    if let Some(file) = file.filter(|file| !std::path::Path::new(file).exists()) {
        return Err(Error::failed(what, format!("there is no {file}")));
    }
    Database::connect(&url, &shared.pool)
        .await
        .map_err(|error| Error::failed(what, error))
}

async fn open<M: MigratorTrait>(
    shared: &Settings,
    front: &StartupListener,
    url: &str,
    name: &str,
) -> Result<Database, Error> {
    if url.starts_with("sqlite:") {
        std::fs::create_dir_all(&shared.data_dir).map_err(|error| {
            Error::failed(
                format!("cannot make the data folder {}", shared.data_dir.display()),
                error,
            )
        })?;
    }
    let what = format!("the database of {name}");
    front
        .wait_until_available(&what, may_become_available, async || {
            let database = Database::connect(url, &shared.pool).await?;
            database.migrate::<M>().await?;
            Ok(database)
        })
        .await
        .map_err(|error| Error::failed(format!("cannot open {what}"), error))
}

/// The event bus, and the task that must run for as long as it is used.
pub struct OpenBus {
    pub bus: Arc<dyn Bus>,
    pub task: Option<Task>,
}

/// Opens the event bus, waiting until it is available.
///
/// # Errors
/// If it cannot be opened, and waiting would not help.
pub async fn bus(shared: &Settings, front: &StartupListener) -> Result<OpenBus, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("cannot open the event bus", error);
    match &shared.bus {
        BusUrl::Embedded => {
            let url = shared.bus_database_url();
            let database = open::<BusMigrator>(shared, front, &url, "the event bus").await?;
            let bus = EmbeddedBus::open(database, shared.clock.clone())
                .await
                .map_err(|error| failed(&error))?;
            let running = bus.clone();
            Ok(OpenBus {
                bus: Arc::new(bus),
                task: Some(Box::pin(async move { running.run().await })),
            })
        }
        BusUrl::Nats { url, options } => {
            let away = |error: &BusError| matches!(error, BusError::Unavailable(_));
            let bus = front
                .wait_until_available("the event bus (NATS)", away, async || {
                    NatsBus::connect(url, options).await
                })
                .await
                .map_err(|error| failed(&error))?;
            Ok(OpenBus {
                bus: Arc::new(bus),
                task: None,
            })
        }
    }
}

pub async fn users(
    shared: &Settings,
    front: &StartupListener,
) -> Result<(Service, stoa_users::App), Error> {
    let config = stoa_users::Config {
        database: database(shared, front, ServiceName::Users).await?,
        clock: shared.clock.clone(),
        key: shared.signing_key()?,
        secure_cookies: !shared.environment.is_development(),
    };
    stoa_users::build(config)
        .await
        .map_err(|error| Error::failed("cannot start users", error))
}

/// `image_base` is the prefix of image URLs.
pub async fn products(
    shared: &Settings,
    front: &StartupListener,
    image_base: String,
) -> Result<(Service, stoa_products::App), Error> {
    let config = stoa_products::Config {
        database: database(shared, front, ServiceName::Products).await?,
        cache: shared.cache(),
        clock: shared.clock.clone(),
        image_base,
    };
    stoa_products::build(config)
        .await
        .map_err(|error| Error::failed("cannot start products", error))
}

/// `own_url` is where this process listens.
pub async fn orders(
    shared: &Settings,
    front: &StartupListener,
    bus: Arc<dyn Bus>,
    peers: Peers,
    own_url: String,
) -> Result<(Service, stoa_orders::App), Error> {
    let config = stoa_orders::Config {
        database: database(shared, front, ServiceName::Orders).await?,
        bus,
        peers,
        clock: shared.clock.clone(),
        payments: shared.payments(own_url)?,
        rates: Arc::new(shared.rates()?),
    };
    stoa_orders::build(config)
        .await
        .map_err(|error| Error::failed("cannot start orders", error))
}

pub async fn notifications(
    shared: &Settings,
    front: &StartupListener,
    bus: Arc<dyn Bus>,
    peers: Peers,
) -> Result<(Service, stoa_notifications::App), Error> {
    // The live feed begins at the end of the stream, so the bus must be available.
    let away = |error: &BusError| matches!(error, BusError::Unavailable(_));
    front
        .wait_until_available("the event bus", away, async || bus.info().await)
        .await
        .map_err(|error| Error::failed("cannot read the event bus", error))?;
    let config = stoa_notifications::Config {
        database: database(shared, front, ServiceName::Notifications).await?,
        bus,
        peers,
        clock: shared.clock.clone(),
        cursor_secret: shared.secret("STOA_CURSOR_SECRET")?,
    };
    stoa_notifications::build(config)
        .await
        .map_err(|error| Error::failed("cannot start notifications", error))
}

/// Brings every database up to date, and creates the bus if it is missing.
///
/// # Errors
/// At the first that fails; those before it are done.
pub async fn migrate(shared: &Settings) -> Result<(), Error> {
    let front = StartupListener::default();
    for service in ServiceName::ALL {
        let database = database(shared, &front, service).await?;
        println!("{}: up to date", service.as_str());
        database.close().await;
    }
    bus(shared, &front).await?;
    println!("bus: up to date");
    Ok(())
}
