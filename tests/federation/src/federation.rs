//! Composes, plans and executes federations of mock subgraphs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use apollo_compiler::ExecutableDocument;
use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use stoa_engine::transport::Events;
use stoa_engine::{
    Execution, SubgraphRequest, SubgraphResponse, Transport, TransportError, Variables,
};
use stoa_federation::operation::{condition_variables, demands};
use stoa_federation::plan::{self, Decisions};
use stoa_federation::{Grants, Hint, QueryPlan, Subgraph, Supergraph, compose, one_of};

use crate::mock_subgraph::{MockSubgraph, MockSubgraphs};

/// A composed graph over mock subgraphs.
pub struct Federation {
    pub graph: Arc<Supergraph>,
    /// The supergraph's text.
    pub sdl: String,
    pub subgraphs: Arc<MockSubgraphs>,
    /// The hints of composition.
    pub hints: Vec<Hint>,
}

/// The override labels and grants of one request.
#[derive(Debug, Default)]
pub struct RequestContext<'a> {
    /// Override labels that are on.
    pub labels: Vec<&'a str>,
    pub grants: Grants,
}

/// The result of a query.
#[derive(Debug)]
pub struct Answer {
    pub json: Value,
    pub text: String,
    /// The number of requests by subgraph.
    pub fetches: BTreeMap<String, usize>,
    pub plan: Option<String>,
}

impl Answer {
    fn refused(message: String) -> Self {
        Self {
            json: json!({ "errors": [{ "message": message }] }),
            text: String::new(),
            fetches: BTreeMap::new(),
            plan: None,
        }
    }
}

impl Federation {
    /// Composes subgraphs given as (name, SDL, data).
    ///
    /// # Errors
    /// The errors of composition, or of loading its result.
    pub fn compose(subgraphs: &[(String, String, Value)]) -> Result<Self, String> {
        Self::over(subgraphs, None)
    }

    /// The same with a supergraph that was composed elsewhere.
    ///
    /// # Errors
    /// The errors of loading it.
    pub fn over(
        subgraphs: &[(String, String, Value)],
        supergraph: Option<&str>,
    ) -> Result<Self, String> {
        let parsed: Vec<Subgraph> = subgraphs
            .iter()
            .map(|(name, sdl, _)| Subgraph::parse(name, &format!("http://{name}"), sdl))
            .collect::<Result<_, _>>()
            .map_err(|errors| errors.to_string())?;
        let (sdl, hints) = match supergraph {
            Some(sdl) => (sdl.to_owned(), Vec::new()),
            None => {
                let composed = compose(&parsed).map_err(|errors| errors.to_string())?;
                (composed.supergraph_sdl, composed.hints)
            }
        };
        let graph = Supergraph::parse(&sdl).map_err(|errors| format!("{errors}\n{sdl}"))?;
        let mock = parsed
            .iter()
            .zip(subgraphs)
            .map(|(subgraph, (name, _, data))| {
                let mock = MockSubgraph::new(subgraph.schema(), Arc::new(data.clone()));
                (name.clone(), Arc::new(mock))
            })
            .collect();
        Ok(Self {
            graph: Arc::new(graph),
            sdl,
            subgraphs: Arc::new(mock),
            hints,
        })
    }

    /// Plans a query.
    ///
    /// # Errors
    /// Why it is invalid, or has no plan.
    pub fn plan(
        &self,
        query: &str,
        variables: &Map<String, Value>,
        given: &RequestContext<'_>,
    ) -> Result<(QueryPlan, Variables), String> {
        let document = ExecutableDocument::parse_and_validate(self.graph.api(), query, "query")
            .map_err(|invalid| format!("invalid: {}", invalid.errors))?;
        let operation = document
            .operations
            .get(None)
            .map_err(|_| "no operation".to_owned())?;
        let json = Value::Object(variables.clone()).to_string();
        let coerced = Variables::coerce(self.graph.api(), operation, &json)?;
        one_of::check_operation(self.graph.api(), &document, operation)?;
        let decisions = Decisions {
            conditions: condition_variables(&document, operation)
                .into_iter()
                .filter_map(|name| {
                    let value = coerced.boolean(&name)?;
                    Some((name, value))
                })
                .collect(),
            labels: given.labels.iter().map(|label| Arc::from(*label)).collect(),
            denied: demands(&self.graph, &document, operation)
                .into_iter()
                .filter(|id| !self.graph.demands()[*id as usize].is_met(&given.grants))
                .collect(),
        };
        let plan = plan::plan(&self.graph, &document, operation, &decisions)
            .map_err(|error| error.to_string())?;
        Ok((plan, coerced))
    }

    /// Plans and executes a query over a transport.
    pub async fn ask(
        &self,
        query: &str,
        variables: &Map<String, Value>,
        given: &RequestContext<'_>,
        inner: Arc<dyn Transport>,
    ) -> Answer {
        let (plan, variables) = match self.plan(query, variables, given) {
            Ok(planned) => planned,
            Err(message) => return Answer::refused(message),
        };
        let shown = plan.display(&self.graph).to_string();
        let counted = Arc::new(CountingTransport {
            inner,
            fetches: Mutex::default(),
        });
        let execution = Execution {
            graph: self.graph.clone(),
            plan: Arc::new(plan),
            transport: counted.clone(),
            variables: Arc::new(variables),
            introspection: Arc::default(),
            headers: Arc::new(|| Arc::from(vec![])),
        };
        let response = stoa_engine::execute(&execution).await;
        let fetches = counted
            .fetches
            .lock()
            .map(|fetches| fetches.clone())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&response.to_json()).into_owned();
        Answer {
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
            fetches,
            plan: Some(shown),
        }
    }

    /// A transport that calls the subgraphs directly, without HTTP.
    pub fn in_process(&self) -> Arc<dyn Transport> {
        Arc::new(InProcessTransport(self.subgraphs.clone()))
    }
}

struct CountingTransport {
    inner: Arc<dyn Transport>,
    fetches: Mutex<BTreeMap<String, usize>>,
}

#[async_trait]
impl Transport for CountingTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        if let Ok(mut fetches) = self.fetches.lock() {
            *fetches.entry(request.subgraph.to_string()).or_default() += 1;
        }
        self.inner.execute(request).await
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        self.inner.subscribe(request).await
    }
}

struct InProcessTransport(Arc<MockSubgraphs>);

#[async_trait]
impl Transport for InProcessTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let variables = serde_json::from_slice(&request.variables).unwrap_or_default();
        let answer = match self.0.get(&*request.subgraph) {
            Some(mock) => mock.answer(&request.text, &variables),
            None => Value::Null,
        };
        Ok(SubgraphResponse::from_json(&answer))
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        Err(TransportError::Unreachable {
            subgraph: request.subgraph,
            cause: "mock subgraphs have no events".to_owned(),
        })
    }
}

/// Serves subgraphs over HTTP at `/{name}`; returns the listen address.
///
/// # Errors
/// If no port is available.
pub async fn serve(subgraphs: Arc<MockSubgraphs>) -> std::io::Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/{name}", post(respond_over_http))
        .with_state(subgraphs);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

async fn respond_over_http(
    State(subgraphs): State<Arc<MockSubgraphs>>,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Json<Value> {
    Json(respond(&subgraphs, &name, &body))
}

/// A subgraph's answer to the body of a request.
pub(crate) fn respond(subgraphs: &MockSubgraphs, name: &str, body: &Value) -> Value {
    let query = body["query"].as_str().unwrap_or_default();
    let variables = body["variables"].as_object().cloned().unwrap_or_default();
    match subgraphs.get(name) {
        Some(mock) => mock.answer(query, &variables),
        None => Value::Null,
    }
}

/// A transport to subgraphs that [`serve`] serves.
pub struct ServedTransport {
    pub http: stoa_engine::HttpTransport,
    pub address: std::net::SocketAddr,
}

#[async_trait]
impl Transport for ServedTransport {
    async fn execute(
        &self,
        mut request: SubgraphRequest,
    ) -> Result<SubgraphResponse, TransportError> {
        request.url = format!("http://{}/{}", self.address, request.subgraph).into();
        self.http.execute(request).await
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        self.http.subscribe(request).await
    }
}
