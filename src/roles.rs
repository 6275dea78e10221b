//! One role in a process of its own: the router, or one service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use stoa_engine::HttpTransport;
use stoa_federation::Supergraph;
use stoa_kit::peer::Peers;
use stoa_kit::service;
use stoa_kit::settings::read;
use stoa_router::health::Check;
use stoa_router::{Config, Server, Verifier};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::services::ServiceName;
use crate::settings::{Shared, cors_origins};
use crate::{Error, seed, services};

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the router over the subgraphs that a supergraph names.
///
/// With `STOA_JWKS_URL` it verifies access tokens, signs identities and keeps
/// the shop's rules; without, it forwards `Authorization` as it is and limits
/// no rates.
///
/// # Errors
/// If the supergraph cannot be loaded, a setting is wrong, or the listener fails.
pub async fn router(
    shared: &Shared,
    supergraph: &str,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let graph = Arc::new(Supergraph::parse(supergraph)?);
    let client = |error: reqwest::Error| Error::failed("cannot make an HTTP client", error);
    let (verifier, identity, config) = match read("STOA_JWKS_URL") {
        Some(url) => (
            Some(Verifier::fetched(&url, shared.clock.clone()).map_err(client)?),
            Some(shared.identity_key()?),
            shared.router_config()?,
        ),
        None => {
            let config = Config {
                cors_origins: cors_origins(),
                ..Config::default()
            };
            (None, None, config)
        }
    };
    let checks = subgraph_checks(&graph).map_err(client)?;
    let server = Server {
        graph,
        transport: Arc::new(HttpTransport::new().map_err(client)?),
        verifier,
        identity,
        config,
        clock: shared.clock.clone(),
        checks,
        routes: axum::Router::new(),
    };
    tracing::info!(address = ?listener.local_addr().ok(), "router is ready");
    stoa_router::serve(server, listener, stop)
        .await
        .map_err(|error| Error::failed("cannot serve", error))
}

/// A subgraph is ready when it answers the smallest of queries.
fn subgraph_checks(graph: &Supergraph) -> Result<Vec<Check>, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(CHECK_TIMEOUT).build()?;
    Ok(graph
        .subgraphs
        .iter()
        .map(|subgraph| {
            let (client, url) = (client.clone(), subgraph.url.clone());
            Check {
                name: subgraph.name.clone(),
                is_ready: Arc::new(move || {
                    let request = client
                        .post(&url)
                        .json(&serde_json::json!({ "query": "{ __typename }" }));
                    async move {
                        let answer = request.send().await;
                        answer.is_ok_and(|answer| answer.status().is_success())
                    }
                    .boxed()
                }),
            }
        })
        .collect())
}

/// Runs one service.
///
/// # Errors
/// If it cannot be built, or the listener fails.
pub async fn subgraph(
    shared: &Shared,
    name: ServiceName,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let key = shared.identity_key()?;
    let peers = || {
        let urls = ServiceName::ALL
            .into_iter()
            .map(|peer| (peer.as_str().to_owned(), peer_url(peer)))
            .collect::<HashMap<_, _>>();
        Peers::http(name.as_str(), urls, key.clone())
            .map_err(|error| Error::failed("cannot make an HTTP client", error))
    };
    let bus = services::bus(shared).await?;
    let watching = bus.clone();
    let bus: Arc<dyn stoa_kit::bus::Bus> = Arc::new(bus);
    let mut built = match name {
        ServiceName::Users => {
            let (service, app) = services::users(shared).await?;
            let on_loopback = listener
                .local_addr()
                .is_ok_and(|address| address.ip().is_loopback());
            if !(shared.environment.is_development() && on_loopback) {
                seed::refuse_demo_accounts(&app).await?;
            }
            service
        }
        ServiceName::Products => services::products(shared, image_base(&listener)).await?.0,
        ServiceName::Orders => services::orders(shared, bus, peers()?).await?.0,
        ServiceName::Notifications => services::notifications(shared, bus, peers()?).await?.0,
    };
    built
        .tasks
        .push(Box::pin(async move { watching.watch_others().await }));
    tracing::info!(service = name.as_str(), address = ?listener.local_addr().ok(), "service is ready");
    service::serve(built, key, listener, stop)
        .await
        .map_err(|error| Error::failed("cannot serve", error))
}

/// Where a peer listens: `STOA_ORDERS_URL` and so on, else its default port.
fn peer_url(peer: ServiceName) -> String {
    let name = format!("STOA_{}_URL", peer.as_str().to_uppercase());
    read(&name).unwrap_or_else(|| format!("http://127.0.0.1:{}", peer.default_port()))
}

/// Where clients find pictures: `STOA_PRODUCTS_PUBLIC_URL`, else right here.
fn image_base(listener: &TcpListener) -> String {
    read("STOA_PRODUCTS_PUBLIC_URL").unwrap_or_else(|| {
        listener
            .local_addr()
            .map(|address| format!("http://{address}"))
            .unwrap_or_default()
    })
}
