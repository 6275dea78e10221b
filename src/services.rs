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

use crate::output::line;
use stoa_users::token::{SigningKey, generate_signing_key};

use crate::Error;
use crate::service_name::ServiceName;
use crate::settings::{BusUrl, Settings};

/// Opens a service's database and brings it up to date, waiting until it is
/// available.
///
/// # Errors
/// If it cannot be opened, and waiting would not help.
pub async fn database(
    settings: &Settings,
    startup: &StartupListener,
    service: ServiceName,
) -> Result<Database, Error> {
    let (url, name) = (settings.database_url(service), service.as_str());
    match service {
        ServiceName::Users => open::<UsersMigrator>(settings, startup, &url, name).await,
        ServiceName::Products => open::<ProductsMigrator>(settings, startup, &url, name).await,
        ServiceName::Orders => open::<OrdersMigrator>(settings, startup, &url, name).await,
        ServiceName::Notifications => {
            open::<NotificationsMigrator>(settings, startup, &url, name).await
        }
    }
}

/// Opens a service's database as it is, without creating or migrating it.
///
/// # Errors
/// If it does not exist, or cannot be opened.
pub async fn existing_database(
    settings: &Settings,
    service: ServiceName,
) -> Result<Database, Error> {
    let url = settings.database_url(service);
    let what = format!("cannot open the database of {}", service.as_str());
    let file = url.strip_prefix("sqlite://");
    let file = file.map(|path| path.split('?').next().unwrap_or(path));
    if let Some(file) = file.filter(|file| !std::path::Path::new(file).exists()) {
        return Err(missing(what, file));
    }
    Database::connect(&url, &settings.pool)
        .await
        .map_err(|error| Error::failed(what, error))
}

fn missing(what: String, file: &str) -> Error {
    Error::failed(
        what,
        format!("there is no {file}; start the shop first, or name its folder with --data-dir"),
    )
}

/// The users service on a database that exists, for a command that ends.
///
/// # Errors
/// If the database does not exist, or cannot be opened.
pub async fn existing_users(settings: &Settings) -> Result<(Service, stoa_users::App), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("cannot open users", error);
    let config = stoa_users::Config {
        database: existing_database(settings, ServiceName::Users).await?,
        clock: settings.clock.clone(),
        // No token is issued: the key is discarded.
        key: SigningKey::from_pem(&generate_signing_key()).map_err(|error| failed(&error))?,
        secure_cookies: true,
    };
    stoa_users::build(config)
        .await
        .map_err(|error| failed(&error))
}

/// The event bus as it is, for a command that ends.
///
/// # Errors
/// If it does not exist, or cannot be opened.
pub async fn existing_bus(settings: &Settings) -> Result<Arc<dyn Bus>, Error> {
    let file = settings.data_dir.join("bus.db");
    if matches!(settings.bus, BusUrl::Embedded) && !file.exists() {
        let what = "cannot open the event bus".to_owned();
        return Err(missing(what, &file.display().to_string()));
    }
    Ok(bus(settings, &StartupListener::default()).await?.bus)
}

async fn open<M: MigratorTrait>(
    settings: &Settings,
    startup: &StartupListener,
    url: &str,
    name: &str,
) -> Result<Database, Error> {
    if url.starts_with("sqlite:") {
        std::fs::create_dir_all(&settings.data_dir).map_err(|error| {
            Error::failed(
                format!(
                    "cannot make the data folder {}",
                    settings.data_dir.display()
                ),
                error,
            )
        })?;
    }
    let what = format!("the database of {name}");
    startup
        .wait_until_available(&what, may_become_available, async || {
            let database = Database::connect(url, &settings.pool).await?;
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
pub async fn bus(settings: &Settings, startup: &StartupListener) -> Result<OpenBus, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("cannot open the event bus", error);
    match &settings.bus {
        BusUrl::Embedded => {
            let url = settings.bus_database_url();
            let database = open::<BusMigrator>(settings, startup, &url, "the event bus").await?;
            let bus = EmbeddedBus::open(database, settings.clock.clone())
                .await
                .map_err(|error| failed(&error))?;
            let running = bus.clone();
            Ok(OpenBus {
                bus: Arc::new(bus),
                task: Some(Box::pin(async move { running.run().await })),
            })
        }
        BusUrl::Nats { url, options } => {
            let unavailable = |error: &BusError| matches!(error, BusError::Unavailable(_));
            let bus = startup
                .wait_until_available("the event bus (NATS)", unavailable, async || {
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
    settings: &Settings,
    startup: &StartupListener,
) -> Result<(Service, stoa_users::App), Error> {
    let config = stoa_users::Config {
        database: database(settings, startup, ServiceName::Users).await?,
        clock: settings.clock.clone(),
        key: settings.signing_key()?,
        secure_cookies: !settings.environment.is_development(),
    };
    stoa_users::build(config)
        .await
        .map_err(|error| Error::failed("cannot start users", error))
}

/// `image_base` is the prefix of image URLs.
pub async fn products(
    settings: &Settings,
    startup: &StartupListener,
    image_base: String,
) -> Result<(Service, stoa_products::App), Error> {
    let config = stoa_products::Config {
        database: database(settings, startup, ServiceName::Products).await?,
        cache: settings.cache(),
        clock: settings.clock.clone(),
        image_base,
    };
    stoa_products::build(config)
        .await
        .map_err(|error| Error::failed("cannot start products", error))
}

/// `own_url` is where this process listens.
pub async fn orders(
    settings: &Settings,
    startup: &StartupListener,
    bus: Arc<dyn Bus>,
    peers: Peers,
    own_url: String,
) -> Result<(Service, stoa_orders::App), Error> {
    let config = stoa_orders::Config {
        database: database(settings, startup, ServiceName::Orders).await?,
        bus,
        peers,
        clock: settings.clock.clone(),
        payments: settings.payments(own_url)?,
        rates: Arc::new(settings.rates()),
    };
    stoa_orders::build(config)
        .await
        .map_err(|error| Error::failed("cannot start orders", error))
}

pub async fn notifications(
    settings: &Settings,
    startup: &StartupListener,
    bus: Arc<dyn Bus>,
    peers: Peers,
) -> Result<(Service, stoa_notifications::App), Error> {
    // The live feed begins at the end of the stream, so the bus must be available.
    let unavailable = |error: &BusError| matches!(error, BusError::Unavailable(_));
    startup
        .wait_until_available("the event bus", unavailable, async || bus.info().await)
        .await
        .map_err(|error| Error::failed("cannot read the event bus", error))?;
    let config = stoa_notifications::Config {
        database: database(settings, startup, ServiceName::Notifications).await?,
        bus,
        peers,
        clock: settings.clock.clone(),
        cursor_secret: settings.cursor_secret()?,
    };
    stoa_notifications::build(config)
        .await
        .map_err(|error| Error::failed("cannot start notifications", error))
}

/// Brings every database up to date, and creates the bus if it is missing.
///
/// # Errors
/// At the first that fails; those before it are done.
pub async fn migrate(settings: &Settings) -> Result<(), Error> {
    let startup = StartupListener::default();
    for service in ServiceName::ALL {
        let database = database(settings, &startup, service).await?;
        line(format_args!("{}: up to date", service.as_str()));
        database.close().await;
    }
    bus(settings, &startup).await?;
    line("bus: up to date");
    Ok(())
}
