//! SDL: printing what the services serve, and composing files.

use std::path::Path;

use stoa_federation::{CompositionErrors, Subgraph};
use stoa_kit::front::Front;
use stoa_kit::peer::{LocalPeers, Peers};
use stoa_kit::settings::Environment;

use crate::services::ServiceName;
use crate::settings::Shared;
use crate::up::Ephemeral;
use crate::{Error, services};

/// A service's SDL, or, without a name, the supergraph of all four at their
/// default URLs.
///
/// # Errors
/// If a service cannot be built, or they do not compose.
pub async fn print(name: Option<ServiceName>) -> Result<String, Error> {
    let all = service_sdls().await?;
    match name {
        Some(name) => Ok(all
            .into_iter()
            .find(|(service, _)| *service == name)
            .map(|(_, sdl)| sdl)
            .unwrap_or_default()),
        None => supergraph(&all),
    }
}

/// The SDL of every service, generated from the code.
///
/// # Errors
/// If a service cannot be built.
pub async fn service_sdls() -> Result<Vec<(ServiceName, String)>, Error> {
    // The schemas are made with the services, which want a database.
    let folder = Ephemeral::create()?;
    let shared = Shared::embedded(Environment::Development, folder.path().to_owned());
    let front = Front::default();
    let bus = services::bus(&shared, &front).await?.bus;
    let peers = Peers::local("schema", LocalPeers::default());
    let (users, _) = services::users(&shared, &front).await?;
    let (products, _) = services::products(&shared, &front, String::new()).await?;
    let (orders, _) = services::orders(&shared, &front, bus.clone(), peers.clone()).await?;
    let (notifications, _) = services::notifications(&shared, &front, bus, peers).await?;
    let built = [users, products, orders, notifications];
    let sdls = ServiceName::ALL
        .into_iter()
        .zip(&built)
        .map(|(name, service)| (name, service.graphql.sdl().to_owned()))
        .collect();
    for service in &built {
        service.database.close().await;
    }
    Ok(sdls)
}

/// The supergraph of services at their default URLs.
///
/// # Errors
/// If they do not compose.
pub fn supergraph(sdls: &[(ServiceName, String)]) -> Result<String, Error> {
    let subgraphs = sdls
        .iter()
        .map(|(name, sdl)| {
            let url = format!("http://127.0.0.1:{}/graphql", name.default_port());
            Subgraph::parse(name.as_str(), &url, sdl)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(stoa_federation::compose(&subgraphs)?.supergraph_sdl)
}

/// Composes files given as `NAME=FILE[@URL]`.
///
/// # Errors
/// If a file cannot be read, or with everything that keeps them from composing.
pub fn compose(specs: &[String], out: Option<&Path>) -> Result<(), Error> {
    let mut subgraphs = Vec::new();
    let mut errors = Vec::new();
    for spec in specs {
        let (name, rest) = spec.split_once('=').ok_or_else(|| {
            Error::failed(
                format!("cannot read --subgraph {spec}"),
                "it is of the form NAME=FILE[@URL]",
            )
        })?;
        let (file, url) = match rest.rsplit_once('@') {
            Some((file, url)) if url.contains("://") => (file, url),
            _ => (rest, ""),
        };
        let sdl = std::fs::read_to_string(file)
            .map_err(|error| Error::failed(format!("cannot read {file}"), error))?;
        match Subgraph::parse(name, url, &sdl) {
            Ok(subgraph) => subgraphs.push(subgraph),
            Err(found) => errors.extend(found.0),
        }
    }
    if !errors.is_empty() {
        return Err(CompositionErrors(errors).into());
    }
    let sdl = stoa_federation::compose(&subgraphs)?.supergraph_sdl;
    match out {
        Some(path) => std::fs::write(path, sdl)
            .map_err(|error| Error::failed(format!("cannot write {}", path.display()), error)),
        None => {
            print!("{sdl}");
            Ok(())
        }
    }
}
