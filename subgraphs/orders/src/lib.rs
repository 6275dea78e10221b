//! The orders subgraph: placing, paying and fulfilling orders.
//!
//! | module | what it holds |
//! |---|---|
//! | [`domain`] | orders, their states and the transitions between them; no I/O |
//! | [`app`] | the use cases, with authorization and transactions |
//! | [`saga`] | the steps that confirm a placed order, or cancel it |
//! | [`worker`] | runs the steps that are due, and returns units to stock |
//! | [`payment`] | the payment provider trait, the embedded sandbox, and Stripe |
//! | [`webhook`] | receives the payment provider's webhooks |
//! | [`audit`] | consistency rules for orders, checked on the database |
//! | [`store`] | rows and queries |
//! | [`graphql`] | the schema |
//! | [`peer`] | serves the requests of other services |
//! | [`seed`] | demo orders |

pub mod app;
pub mod audit;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod payment;
pub mod peer;
pub mod saga;
pub mod seed;
pub mod store;
pub mod webhook;
pub mod worker;

use std::sync::Arc;

use stoa_migrations::OrdersMigrator;
use stoa_runtime::clock::Clock;
use stoa_service::bus::Bus;
use stoa_service::database::Database;
use stoa_service::idempotency;
use stoa_service::outbox::Relay;
use stoa_service::peer::Peers;
use stoa_service::purge;
use stoa_service::service::{Service, Task};

pub use app::App;
use domain::Rates;
pub use error::Error;
use payment::PaymentProvider;
use payment::sandbox::Sandbox;
use payment::sandbox::webhook::Callback;
use payment::stripe::{Stripe, StripeOptions};

/// The dependencies of the service.
pub struct Config {
    pub database: Database,
    pub bus: Arc<dyn Bus>,
    pub peers: Peers,
    pub clock: Clock,
    pub payments: Payments,
    /// The rates for tax and shipping.
    pub rates: Arc<dyn Rates>,
}

/// The payment provider to use.
pub enum Payments {
    /// The embedded provider, which moves no money.
    Sandbox {
        /// The URL of this service, to which the sandbox sends its webhooks.
        own_url: String,
        /// The secret that signs them.
        secret: String,
    },
    Stripe(StripeOptions),
}

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
    let mut tasks: Vec<Task> = Vec::new();
    let (database, clock) = (&config.database, &config.clock);
    let provider: Arc<dyn PaymentProvider> = match config.payments {
        Payments::Sandbox { own_url, secret } => {
            let callback = Callback::new(&own_url, secret)?;
            let sandbox = Sandbox::new(database.clone(), clock.clone(), Some(callback));
            tasks.push(Box::pin(sandbox.clone().run_webhooks()));
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
        config.clock,
    );
    let schema = graphql::schema(app.clone());
    let database = config.database.clone();
    let (carts, events) = (app.clone(), app.clone());
    tasks.extend::<[Task; 5]>([
        Box::pin(
            async move { purge::run_purge("guests' carts", || carts.carts_purge_expired()).await },
        ),
        Box::pin(async move {
            purge::run_purge("payment events", || events.events_purge_expired()).await
        }),
        Box::pin(idempotency::run_purge(database, app.clock.clone())),
        Box::pin(relay.run()),
        Box::pin(worker::run(app.clone())),
    ]);
    let service = Service {
        name: "orders",
        graphql: Service::graphql(schema),
        peer: Arc::new(peer::Peer(app.clone())),
        database: config.database,
        routes: webhook::routes(app.clone()),
        tasks,
        checks,
    };
    Ok((service, app))
}
