//! One role in a process of its own: the router, or one service.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stoa_engine::HttpTransport;
use stoa_federation::Supergraph;
use stoa_router::{Server, Verifier};
use stoa_runtime::health::{Check, watch};
use stoa_runtime::startup::StartupListener;
use stoa_service::database::Database;
use stoa_service::peer::Peers;
use stoa_service::service::{Service, spawn_tasks};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::service_name::ServiceName;
use crate::services::OpenBus;
use crate::settings::Settings;
use crate::settings::subgraphs::SubgraphSettings;
use crate::{Error, seed, services};

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the router over the subgraphs that a supergraph names.
///
/// With `STOA_JWKS_URL` it verifies access tokens, signs identities and uses
/// the shop's configuration; without, it forwards `Authorization` unchanged and has
/// no rate limits.
///
/// # Errors
/// If the supergraph cannot be loaded, a setting is wrong, or the listener fails.
pub async fn router(
    settings: &Settings,
    supergraph: &str,
    subgraph_urls: &[String],
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut graph = Supergraph::parse(supergraph)?;
    for named in subgraph_urls {
        override_subgraph_url(&mut graph, named)?;
    }
    let graph = Arc::new(graph);
    let client = |error: reqwest::Error| Error::failed("cannot make an HTTP client", error);
    let (verifier, identity, config) = match &settings.jwks_url {
        Some(url) => (
            Some(Verifier::from_url(url, settings.clock.clone()).map_err(client)?),
            Some(settings.identity_key()?),
            settings.router_config(),
        ),
        None => (None, None, settings.open_router_config()),
    };
    let mut checks = subgraph_checks(&graph).map_err(client)?;
    checks.extend(settings.cache_check());
    tokio::spawn(
        stop.clone()
            .run_until_cancelled_owned(watch(checks.clone())),
    );
    let server = Server {
        transport: Arc::new(transport(settings, &graph)?),
        graph,
        verifier,
        identity,
        config,
        clock: settings.clock.clone(),
        checks,
        routes: axum::Router::new(),
    };
    let startup = StartupListener::default();
    startup.serve_app(stoa_router::app(server, stop.clone()));
    tracing::info!(address = ?listener.local_addr().ok(), "router is ready");
    serve(&startup, listener, stop, async { Ok(Vec::new()) }).await
}

fn transport(settings: &Settings, graph: &Supergraph) -> Result<HttpTransport, Error> {
    let SubgraphSettings { all, own } = &settings.subgraphs;
    let is_known = |name: &str| graph.subgraphs.iter().any(|s| s.name == name);
    if let Some(unknown) = own.keys().find(|name| !is_known(name)) {
        return Err(Error::failed(
            "the STOA_SUBGRAPH_* settings are wrong",
            format!("the supergraph has no subgraph \"{unknown}\""),
        ));
    }
    HttpTransport::with_settings(*all, own.clone())
        .map_err(|error| Error::failed("cannot make an HTTP client", error))
}

/// Replaces a subgraph's URL, given as `NAME=URL`.
fn override_subgraph_url(graph: &mut Supergraph, named: &str) -> Result<(), Error> {
    let refuse = |problem: String| Error::failed(format!("--subgraph-url {named}"), problem);
    let (name, url) = named
        .split_once('=')
        .ok_or_else(|| refuse("is not of the form NAME=URL".to_owned()))?;
    let known: Vec<_> = graph.subgraphs.iter().map(|s| s.name.clone()).collect();
    let subgraph = graph.subgraphs.iter_mut().find(|s| s.name == name);
    let subgraph = subgraph.ok_or_else(|| {
        refuse(format!(
            "the supergraph has no such subgraph, but {}",
            known.join(", ")
        ))
    })?;
    url.clone_into(&mut subgraph.url);
    Ok(())
}

/// A subgraph is ready when it answers a minimal query.
fn subgraph_checks(graph: &Supergraph) -> Result<Vec<Check>, reqwest::Error> {
    // A kept connection may just have been closed.
    let client = reqwest::Client::builder()
        .timeout(CHECK_TIMEOUT)
        .pool_max_idle_per_host(0)
        .build()?;
    Ok(graph
        .subgraphs
        .iter()
        .map(|subgraph| {
            let (client, url) = (client.clone(), subgraph.url.clone());
            // Queries of the others are still answered.
            Check::partial(&subgraph.name, move || {
                let request = client
                    .post(&url)
                    .json(&serde_json::json!({ "query": "{ __typename }" }));
                async move {
                    let answer = request.send().await;
                    // A refusal is an answer, too: it may accept only known queries.
                    answer.is_ok_and(|answer| !answer.status().is_server_error())
                }
            })
        })
        .collect())
}

/// Runs one service.
///
/// # Errors
/// If it cannot be built, or the listener fails.
pub async fn subgraph(
    settings: &Settings,
    name: ServiceName,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let address = listener
        .local_addr()
        .map_err(|error| Error::failed("cannot listen", error))?;
    let startup = StartupListener::default();
    let (handle, ending) = (startup.clone(), stop.clone());
    let running = async move {
        let building = build(settings, &handle, name, address);
        let Some(service) = ending.run_until_cancelled(building).await else {
            return Ok(Vec::new());
        };
        let mut service = service?;
        service.checks.extend(settings.cache_check());
        service.checks.extend(peer_checks(settings, name)?);
        service.tasks.push(Box::pin(watch(service.checks.clone())));
        handle.serve_app(stoa_service::server::router(
            &service,
            settings.identity_key()?,
            ending.clone(),
        ));
        tracing::info!(service = name.as_str(), %address, "service is ready");
        let tasks = spawn_tasks(std::mem::take(&mut service.tasks), &ending);
        check_tasks(tasks).await?;
        Ok(vec![service.database])
    };
    serve(&startup, listener, stop, Box::pin(running)).await
}

/// Fails if a background task did, so that a supervisor restarts the process.
pub(crate) async fn check_tasks(tasks: JoinHandle<bool>) -> Result<(), Error> {
    match tasks.await {
        Ok(true) => Ok(()),
        _ => Err(Error::failed(
            "stopped",
            "a background task has ended; see the log",
        )),
    }
}

/// Listens at once and runs `running` concurrently; if either fails, both end. The
/// databases that `running` returns are closed when the last request is done.
pub(crate) async fn serve(
    startup: &StartupListener,
    listener: TcpListener,
    stop: CancellationToken,
    running: impl Future<Output = Result<Vec<Database>, Error>>,
) -> Result<(), Error> {
    let serving = startup.serve(listener, stop.clone());
    let serving = async {
        let served = serving.await.map_err(std::io::Error::other);
        stop.cancel();
        served.and_then(|served| served)
    };
    let running = async {
        let done = running.await;
        if done.is_err() {
            stop.cancel();
        }
        done
    };
    let (served, done) = tokio::join!(serving, running);
    for database in done? {
        database.close().await;
    }
    served.map_err(|error| Error::failed("cannot serve", error))
}

async fn build(
    settings: &Settings,
    startup: &StartupListener,
    name: ServiceName,
    address: SocketAddr,
) -> Result<Service, Error> {
    match name {
        ServiceName::Users => {
            let (service, app) = services::users(settings, startup).await?;
            if !(settings.environment.is_development() && address.ip().is_loopback()) {
                seed::refuse_demo_accounts(&app).await?;
            }
            Ok(service)
        }
        ServiceName::Products => {
            Ok(
                services::products(settings, startup, image_base(settings, address))
                    .await?
                    .0,
            )
        }
        ServiceName::Orders | ServiceName::Notifications => {
            let OpenBus { bus, task } = services::bus(settings, startup).await?;
            let peers = peers(settings, name)?;
            let mut service = if name == ServiceName::Orders {
                services::orders(settings, startup, bus, peers, own_url(address))
                    .await?
                    .0
            } else {
                services::notifications(settings, startup, bus, peers)
                    .await?
                    .0
            };
            service.tasks.extend(task);
            Ok(service)
        }
    }
}

/// Optional: a service can serve most requests without its peers.
fn peer_checks(settings: &Settings, name: ServiceName) -> Result<Vec<Check>, Error> {
    let peer = match name {
        ServiceName::Orders => ServiceName::Products,
        ServiceName::Notifications => ServiceName::Orders,
        ServiceName::Users | ServiceName::Products => return Ok(Vec::new()),
    };
    let client = reqwest::Client::builder()
        .timeout(CHECK_TIMEOUT)
        .build()
        .map_err(|error| Error::failed("cannot make an HTTP client", error))?;
    let url = format!("{}/health/live", settings.peer_url(peer));
    Ok(vec![Check::optional(peer.as_str(), move || {
        let request = client.get(&url);
        async move {
            let answer = request.send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        }
    })])
}

fn peers(settings: &Settings, name: ServiceName) -> Result<Peers, Error> {
    let urls = ServiceName::ALL
        .into_iter()
        .map(|peer| (peer.as_str().to_owned(), settings.peer_url(peer)))
        .collect::<HashMap<_, _>>();
    Peers::http(name.as_str(), urls, settings.identity_key()?)
        .map_err(|error| Error::failed("cannot make an HTTP client", error))
}

/// The base URL of images: the one that is set, else this process.
fn image_base(settings: &Settings, address: SocketAddr) -> String {
    let public = settings.products_public_url.clone();
    public.unwrap_or_else(|| format!("http://{address}"))
}

/// The URL at which this process reaches itself.
pub(crate) fn own_url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use stoa_federation::{Subgraph, compose};

    use super::*;

    #[tokio::test]
    async fn a_subgraph_that_refuses_the_probe_is_available() {
        for (status, expected) in [
            (StatusCode::OK, true),
            (StatusCode::BAD_REQUEST, true),
            (StatusCode::UNAUTHORIZED, true),
            (StatusCode::BAD_GATEWAY, false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = own_url(listener.local_addr().unwrap());
            let app = axum::Router::new().fallback(async move || status);
            tokio::spawn(async move { axum::serve(listener, app).await });
            let subgraph = Subgraph::parse("a", &url, "type Query { a: Int }").unwrap();
            let composed = compose(&[subgraph]).unwrap();
            let graph = Supergraph::parse(&composed.supergraph_sdl).unwrap();
            let checks = subgraph_checks(&graph).unwrap();
            assert_eq!((checks[0].is_ready)().await, expected, "{status}");
        }
    }
}
