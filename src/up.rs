//! Everything in one process: the services, the bus, and the router over them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use stoa_federation::{Subgraph, Supergraph};
use stoa_router::{Server, Verifier};
use stoa_runtime::health::{Check, watch};
use stoa_runtime::startup::StartupListener;
use stoa_service::bus::Bus;
use stoa_service::database::Database;
use stoa_service::peer::{LocalPeers, Peers};
use stoa_service::service::{Service, Task, spawn_tasks};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::local::LocalTransport;
use crate::output::notice;
use crate::roles::{check_tasks, own_url};
use crate::services::OpenBus;
use crate::settings::Settings;
use crate::{Error, seed, services};

/// The built services, and the router over them.
pub struct Shop {
    server: Server,
    services: Vec<Service>,
    tasks: Vec<Task>,
    seeded: bool,
}

impl Shop {
    /// Opens the databases, builds the services and composes their graph. In
    /// development on loopback an empty shop gets demo data.
    ///
    /// # Errors
    /// What could not be opened or built.
    pub async fn build(
        settings: &Settings,
        startup: &StartupListener,
        address: SocketAddr,
    ) -> Result<Self, Error> {
        let OpenBus { bus, task } = services::bus(settings, startup).await?;
        let local = LocalPeers::default();
        let peers = |name: &str| Peers::local(name, local.clone());
        let (users, users_app) = services::users(settings, startup).await?;
        // Without a prefix for image URLs: this process serves the images, too.
        let (products, products_app) = services::products(settings, startup, String::new()).await?;
        let (orders, orders_app) = services::orders(
            settings,
            startup,
            bus.clone(),
            peers("orders"),
            // For the webhooks of the payment sandbox.
            own_url(address),
        )
        .await?;
        let (notifications, _) =
            services::notifications(settings, startup, bus.clone(), peers("notifications")).await?;
        let mut services = vec![users, products, orders, notifications];
        // Only now does every service exist that the others call.
        local.connect(
            services
                .iter()
                .map(|service| (service.name, service.peer.clone()))
                .collect(),
        );
        // Demo accounts have a public password: no other machine may reach them.
        let seeded = settings.environment.is_development() && address.ip().is_loopback();
        if seeded {
            seed::seed(&users_app, &products_app, &orders_app).await?;
        } else {
            seed::refuse_demo_accounts(&users_app).await?;
        }
        let graph = Arc::new(compose_services(&services)?);
        let key = settings.identity_key()?;
        let transport = LocalTransport::new(
            services
                .iter()
                .map(|service| (service.name, service.graphql.clone()))
                .collect::<HashMap<_, _>>(),
            key.clone(),
        );
        // The router verifies tokens with our own key, without fetching it over HTTP.
        let jwks = serde_json::from_value(settings.signing_key()?.jwks())
            .map_err(|error| Error::failed("cannot read our own keys", error))?;
        let mut tasks: Vec<Task> = task.into_iter().collect();
        for service in &mut services {
            tasks.append(&mut service.tasks);
        }
        let checks: Vec<Check> = checks(&services, &bus)
            .chain(settings.cache_check())
            .collect();
        tasks.push(Box::pin(watch(checks.clone())));
        let server = Server {
            graph,
            transport: Arc::new(transport),
            verifier: Some(Verifier::with_keys(jwks, settings.clock.clone())),
            identity: Some(key),
            config: settings.router_config(),
            clock: settings.clock.clone(),
            checks,
            routes: services.iter().fold(Router::new(), |all, service| {
                all.merge(service.routes.clone())
            }),
        };
        Ok(Self {
            server,
            services,
            tasks,
            seeded,
        })
    }

    /// Prints the URLs and how to sign in.
    pub fn print_welcome(&self, address: SocketAddr) {
        notice("\n  Stoa is open.\n");
        notice(format_args!("  Playground  http://{address}/"));
        notice(format_args!(
            "  GraphQL     http://{address}/graphql   (HTTP, WebSocket, server-sent events)"
        ));
        notice(format_args!(
            "  Health      http://{address}/health    Metrics http://{address}/metrics"
        ));
        if self.seeded {
            notice(format_args!(
                "\n  Sign in (development only), password {}:",
                stoa_users::seed::PASSWORD
            ));
            for (email, first, last, role) in stoa_users::seed::ACCOUNTS {
                notice(format_args!(
                    "    {email:<18} {first} {last}, {}",
                    role.into_str().to_lowercase()
                ));
            }
        }
        notice("\n  Stop with Ctrl-C.\n");
    }

    /// Serves requests until `stop` is cancelled; leaves the databases open for the
    /// requests that are still in progress.
    ///
    /// # Errors
    /// If a background task fails.
    pub async fn run(
        self,
        startup: &StartupListener,
        stop: CancellationToken,
    ) -> Result<Vec<Database>, Error> {
        startup.serve_app(stoa_router::app(self.server, stop.clone()));
        check_tasks(spawn_tasks(self.tasks, &stop)).await?;
        Ok(self
            .services
            .into_iter()
            .map(|service| service.database)
            .collect())
    }
}

/// Composes the graph of the services that run here.
fn compose_services(services: &[Service]) -> Result<Supergraph, Error> {
    let subgraphs = services
        .iter()
        .map(|service| Subgraph::parse(service.name, "local:", service.graphql.sdl()))
        .collect::<Result<Vec<_>, _>>()?;
    let composed = stoa_federation::compose(&subgraphs)?;
    Ok(Supergraph::parse(&composed.supergraph_sdl)?)
}

fn checks<'s>(services: &'s [Service], bus: &Arc<dyn Bus>) -> impl Iterator<Item = Check> + 's {
    services
        .iter()
        .map(|service| Check {
            name: format!("{}-database", service.name),
            ..Service::database_check(&service.database)
        })
        .chain([Service::bus_check(bus)])
}

/// A data folder that is deleted when it is dropped.
///
/// # Errors
/// If the folder cannot be made.
pub fn ephemeral_folder() -> Result<TempDir, Error> {
    tempfile::Builder::new()
        .prefix("stoa-")
        .tempdir()
        .map_err(|error| Error::failed("cannot make a temporary folder", error))
}
