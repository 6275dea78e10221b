//! Everything in one process: the services, the bus, and the router over them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use futures_util::FutureExt;
use stoa_federation::{Subgraph, Supergraph};
use stoa_kit::bus::Bus;
use stoa_kit::peer::{LocalPeers, Peers};
use stoa_kit::service::{Service, Task, spawn_tasks};
use stoa_router::health::Check;
use stoa_router::{Server, Verifier};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::local::LocalTransport;
use crate::settings::Shared;
use crate::{Error, seed, services};

/// A built shop.
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
    pub async fn build(shared: &Shared, on_loopback: bool) -> Result<Self, Error> {
        let embedded = services::bus(shared).await?;
        let bus: Arc<dyn Bus> = Arc::new(embedded.clone());
        let local = LocalPeers::default();
        let peers = |name: &str| Peers::local(name, local.clone());
        let (users, users_app) = services::users(shared).await?;
        let (products, products_app) = services::products(shared, String::new()).await?;
        let (orders, orders_app) = services::orders(shared, bus.clone(), peers("orders")).await?;
        let (notifications, _) =
            services::notifications(shared, bus.clone(), peers("notifications")).await?;
        let mut services = vec![users, products, orders, notifications];
        local.connect(
            services
                .iter()
                .map(|service| (service.name, service.peer.clone()))
                .collect(),
        );
        let seeded = shared.environment.is_development() && on_loopback;
        if seeded {
            seed::seed(&users_app, &products_app, &orders_app).await?;
        } else {
            seed::refuse_demo_accounts(&users_app).await?;
        }
        let graph = Arc::new(graph_of(&services)?);
        let key = shared.identity_key()?;
        let transport = LocalTransport::new(
            services
                .iter()
                .map(|service| (service.name, service.graphql.clone()))
                .collect::<HashMap<_, _>>(),
            key.clone(),
        );
        let jwks = serde_json::from_value(shared.signing_key()?.jwks())
            .map_err(|error| Error::failed("cannot read our own keys", error))?;
        let mut tasks: Vec<Task> = vec![Box::pin(async move { embedded.watch_others().await })];
        for service in &mut services {
            tasks.append(&mut service.tasks);
        }
        let server = Server {
            graph,
            transport: Arc::new(transport),
            verifier: Some(Verifier::fixed(jwks, shared.clock.clone())),
            identity: Some(key),
            config: shared.router_config()?,
            clock: shared.clock.clone(),
            checks: checks(&services, bus),
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

    /// Says where to click and how to sign in.
    pub fn greet(&self, address: SocketAddr) {
        println!("\n  Stoa is open.\n");
        println!("  Playground  http://{address}/");
        println!("  GraphQL     http://{address}/graphql   (HTTP, WebSocket, server-sent events)");
        println!("  Health      http://{address}/health    Metrics http://{address}/metrics");
        if self.seeded {
            println!(
                "\n  Sign in (development only), password {}:",
                stoa_users::seed::PASSWORD
            );
            for (email, first, last, role) in stoa_users::seed::ACCOUNTS {
                println!(
                    "    {email:<18} {first} {last}, {}",
                    role.as_str().to_lowercase()
                );
            }
        }
        println!("\n  Stop with Ctrl-C.\n");
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), Error> {
        let tasks = spawn_tasks(self.tasks, &stop);
        let served = stoa_router::serve(self.server, listener, stop.clone()).await;
        stop.cancel();
        let _ = tasks.await;
        for service in &self.services {
            service.database.close().await;
        }
        served.map_err(|error| Error::failed("cannot serve", error))
    }
}

/// Composes the graph of the services that run here.
fn graph_of(services: &[Service]) -> Result<Supergraph, Error> {
    let subgraphs = services
        .iter()
        .map(|service| Subgraph::parse(service.name, "local:", service.graphql.sdl()))
        .collect::<Result<Vec<_>, _>>()?;
    let composed = stoa_federation::compose(&subgraphs)?;
    Ok(Supergraph::parse(&composed.supergraph_sdl)?)
}

fn checks(services: &[Service], bus: Arc<dyn Bus>) -> Vec<Check> {
    let mut checks: Vec<Check> = services
        .iter()
        .map(|service| {
            let database = service.database.clone();
            Check {
                name: format!("{}-database", service.name),
                is_ready: Arc::new(move || {
                    let database = database.clone();
                    async move { database.is_ready().await }.boxed()
                }),
            }
        })
        .collect();
    checks.push(Check {
        name: "bus".to_owned(),
        is_ready: Arc::new(move || {
            let bus = bus.clone();
            async move { bus.info().await.is_ok() }.boxed()
        }),
    });
    checks
}

/// A data folder that is deleted when this is dropped.
pub struct Ephemeral(PathBuf);

impl Ephemeral {
    /// # Errors
    /// If the folder cannot be made.
    pub fn create() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("stoa-{}", stoa_schema::ids::new_id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::failed("cannot make a temporary folder", error))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
