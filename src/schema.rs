//! SDL: printing what the services serve, composing files, planning queries.

use std::path::Path;

use apollo_compiler::ExecutableDocument;
use serde_json::value::RawValue;
use stoa_engine::Variables;
use stoa_federation::operation::condition_variables;
use stoa_federation::plan::Decisions;
use stoa_federation::{
    Composition, CompositionErrors, Level, Subgraph, Supergraph, apollo_compiler,
};
use stoa_runtime::settings::Environment;
use stoa_runtime::startup::StartupListener;
use stoa_service::peer::{LocalPeers, Peers};

use crate::output::{line, text};
use crate::service_name::ServiceName;
use crate::settings::Settings;
use crate::up::ephemeral_folder;
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
    // The schemas are built with the services, which need a database.
    let folder = ephemeral_folder()?;
    let settings = Settings::embedded(Environment::Development, folder.path().to_owned());
    let startup = StartupListener::default();
    let bus = services::bus(&settings, &startup).await?.bus;
    let peers = Peers::local("schema", LocalPeers::default());
    let (users, _) = services::users(&settings, &startup).await?;
    let (products, _) = services::products(&settings, &startup, String::new()).await?;
    let (orders, _) = services::orders(
        &settings,
        &startup,
        bus.clone(),
        peers.clone(),
        String::new(),
    )
    .await?;
    let (notifications, _) = services::notifications(&settings, &startup, bus, peers).await?;
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

/// Composes files given as `NAME=FILE[@URL]`. Hints go to standard error, or,
/// as JSON, with the errors to standard output.
///
/// # Errors
/// If a file cannot be read, or with everything that keeps them from composing.
pub fn compose(specs: &[String], out: Option<&Path>, as_json: bool) -> Result<(), Error> {
    let composed = compose_files(specs)?;
    let (errors, hints, sdl) = match &composed {
        Ok(composition) => (
            &[][..],
            composition.hints.as_slice(),
            Some(&composition.supergraph_sdl),
        ),
        Err(errors) => (errors.0.as_slice(), &[][..], None),
    };
    if as_json {
        let mut report = serde_json::json!({ "errors": errors, "hints": hints });
        if out.is_none() {
            report["supergraphSdl"] = serde_json::json!(sdl);
        }
        line(format_args!("{report:#}"));
    } else {
        for hint in hints.iter().filter(|hint| hint.level > Level::Debug) {
            eprintln!("hint: {hint}");
        }
    }
    let sdl = composed?.supergraph_sdl;
    match out {
        Some(path) => std::fs::write(path, sdl)
            .map_err(|error| Error::failed(format!("cannot write {}", path.display()), error)),
        None if as_json => Ok(()),
        None => {
            text(sdl);
            Ok(())
        }
    }
}

fn compose_files(specs: &[String]) -> Result<Result<Composition, CompositionErrors>, Error> {
    let mut subgraphs = Vec::new();
    let mut errors = Vec::new();
    // As in composition, the order of the arguments changes nothing.
    let mut specs: Vec<&String> = specs.iter().collect();
    specs.sort();
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
        match Subgraph::parse(name, url, &read(Path::new(file))?) {
            Ok(subgraph) => subgraphs.push(subgraph),
            Err(found) => errors.extend(found.0),
        }
    }
    Ok(if errors.is_empty() {
        stoa_federation::compose(&subgraphs)
    } else {
        Err(CompositionErrors(errors))
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::failed(format!("cannot read {}", path.display()), error))
}

/// Prints the plan of a query.
///
/// # Errors
/// If a file cannot be read, or the query is invalid or has no plan.
pub fn plan(
    supergraph: &Path,
    query: &Path,
    operation: Option<&str>,
    variables: Option<&str>,
    labels: &[String],
) -> Result<(), Error> {
    let graph = Supergraph::parse(&read(supergraph)?)?;
    let invalid =
        |problem: String| Error::failed(format!("cannot plan {}", query.display()), problem);
    let document = ExecutableDocument::parse_and_validate(graph.api(), read(query)?, query)
        .map_err(|error| invalid(error.errors.to_string()))?;
    let operation = document
        .operations
        .get(operation)
        .map_err(|error| invalid(error.message().to_string()))?;
    let given: &RawValue = serde_json::from_str(variables.unwrap_or("{}"))
        .map_err(|error| Error::failed("--variables is not a JSON object", error))?;
    let coerced = Variables::coerce(graph.api(), operation, given.get()).map_err(invalid)?;
    let decisions = Decisions {
        conditions: condition_variables(&document, operation)
            .into_iter()
            .filter_map(|name| Some((name.clone(), coerced.boolean(&name)?)))
            .collect(),
        denied: Default::default(),
        labels: labels.iter().map(|label| label.as_str().into()).collect(),
    };
    let plan = stoa_federation::plan::plan(&graph, &document, operation, &decisions)
        .map_err(|error| invalid(error.to_string()))?;
    text(plan.display(&graph));
    Ok(())
}
