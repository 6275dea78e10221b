//! The orders subgraph: placing, paying for and fulfilling orders.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what the service needs from outside |
//! | [`domain`] | the rules: orders, carts, discounts, prices, fulfilment; no I/O |
//! | [`app`] | the use cases; transactions begin here |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`peer`] | requests from other services |
//! | [`tasks`] | what runs in the background |
//! | [`payment`] | payment providers: the trait, the embedded sandbox, Stripe |
//! | [`webhook`] | events from the payment provider |
//! | [`audit`] | consistency rules, checked on the database |
//! | [`seed`] | demo orders |

pub mod app;
pub mod audit;
pub mod config;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod payment;
pub mod peer;
pub mod seed;
pub mod store;
pub mod tasks;
pub mod webhook;

use std::sync::Arc;

use stoa_migrations::OrdersMigrator;
use stoa_service::outbox::Relay;
use stoa_service::service::{Service, Task};

pub use app::App;
pub use config::{Config, Payments};
pub use error::Error;
use payment::PaymentProvider;
use payment::sandbox::Sandbox;
use payment::sandbox::webhook::Callback;
use payment::stripe::Stripe;

/// Builds the service on a database, which it migrates first.
///
/// # Errors
/// If the migration fails.
pub async fn build(config: Config) -> Result<(Service, App), Error> {
    config.database.migrate::<OrdersMigrator>().await?;
    let checks = vec![
        Service::database_check(&config.database),
        Service::bus_check(&config.bus),
    ];
    let mut background: Vec<Task> = Vec::new();
    let (database, clock) = (&config.database, &config.clock);
    let provider: Arc<dyn PaymentProvider> = match config.payments {
        Payments::Sandbox { own_url, secret } => {
            let callback = Callback::new(&own_url, secret)?;
            let sandbox = Sandbox::new(database.clone(), clock.clone(), Some(callback));
            background.push(Box::pin(sandbox.clone().run_webhooks()));
            Arc::new(sandbox)
        }
        Payments::Stripe(options) => Arc::new(Stripe::new(options, clock.clone())?),
    };
    let relay = Relay::new(config.database.clone(), config.bus, config.clock.clone());
    let app = App::new(
        config.database.clone(),
        config.peers,
        provider,
        config.rates,
        relay.clone(),
        config.clock.clone(),
    );
    let schema = graphql::schema(app.clone());
    let (database, clock) = (config.database.clone(), config.clock);
    background.extend(tasks::background(&app, relay, database, clock));
    let service = Service {
        name: "orders",
        graphql: Service::graphql(schema),
        peer: Arc::new(peer::Peer(app.clone())),
        database: config.database,
        routes: webhook::routes(app.saga.clone()),
        tasks: background,
        checks,
    };
    Ok((service, app))
}
