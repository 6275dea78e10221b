//! Runs a plan. One task owns the data; fetches run beside it and each starts
//! as soon as those that it depends on are done.

use std::sync::Arc;

use ::http::HeaderMap;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use serde_json::{Map, Value};
use stoa_federation::Supergraph;
use stoa_federation::plan::{Fetch, FetchKind, PathStep, QueryPlan, REPRESENTATIONS};

use crate::complete::complete;
use crate::paths;
use crate::representation::{self, Batch};
use crate::response::{GraphQLError, PathSegment, Response};
use crate::transport::{SubgraphRequest, SubgraphResponse, Transport, TransportError};

/// At most this many errors without a position are spread over null entities.
const MAX_SPREAD_ERRORS: usize = 100;

/// Everything that running one plan needs.
#[derive(Clone)]
pub struct Execution {
    pub graph: Arc<Supergraph>,
    pub plan: Arc<QueryPlan>,
    pub transport: Arc<dyn Transport>,
    /// The operation's variables, coerced.
    pub variables: Arc<Map<String, Value>>,
    /// The answers to `__schema` and `__type`, by response key.
    pub introspection: Arc<Map<String, Value>>,
    /// Makes the headers for each subgraph, by its position in the graph: once
    /// for an operation, and anew for each event of a subscription, for what
    /// they hold may be short-lived.
    pub headers: Arc<dyn Fn() -> Arc<[HeaderMap]> + Send + Sync>,
}

impl Execution {
    fn request(
        &self,
        fetch: &Fetch,
        representations: Option<Vec<Value>>,
        headers: &[HeaderMap],
    ) -> SubgraphRequest {
        let info = self.graph.subgraph(fetch.subgraph);
        let mut variables = Map::new();
        for name in &fetch.variables {
            if let Some(value) = self.variables.get(name.as_str()) {
                variables.insert(name.to_string(), value.clone());
            }
        }
        if let Some(representations) = representations {
            variables.insert(REPRESENTATIONS.to_owned(), Value::Array(representations));
        }
        SubgraphRequest {
            subgraph: info.name.as_str().into(),
            url: info.url.as_str().into(),
            text: fetch.text.clone(),
            operation_name: fetch.operation_name.clone(),
            variables,
            headers: headers
                .get(usize::from(fetch.subgraph.0))
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// Executes a query or mutation.
pub async fn execute(execution: &Execution) -> Response {
    run(execution, State::new(execution.plan.fetches.len())).await
}

/// Starts a subscription and answers each of its events.
///
/// The outer error is a request error: the source stream never began.
pub async fn subscribe(execution: Execution) -> Result<BoxStream<'static, Response>, Response> {
    let Some(source) = execution.plan.fetches.first() else {
        return Err(Response::request_error(GraphQLError::new(
            "BAD_REQUEST",
            "a subscription must select a field of the graph",
        )));
    };
    let request = execution.request(source, None, &(execution.headers)());
    let events = match execution.transport.subscribe(request).await {
        Ok(events) => events,
        Err(error) => {
            log_failure(&error);
            return Err(Response::request_error(error.to_graphql()));
        }
    };
    // One event at a time: the next is taken when this one is answered, so a
    // slow client slows its source and not this process.
    Ok(events
        .then(move |event| {
            let execution = execution.clone();
            async move {
                let mut state = State::new(execution.plan.fetches.len());
                if let Some(done) = state.done.first_mut() {
                    *done = true;
                }
                match event {
                    Ok(event) => {
                        let cursor = cursor_of(&execution.plan, &event.data);
                        state.settle_root(event, &execution, 0, &[Vec::new()]);
                        let mut response = run(&execution, state).await;
                        response.cursor = cursor;
                        response
                    }
                    Err(error) => {
                        log_failure(&error);
                        Response::request_error(error.to_graphql())
                    }
                }
            }
        })
        .boxed())
}

fn cursor_of(plan: &QueryPlan, event: &Value) -> Option<String> {
    let resume = plan.resume.as_ref()?;
    let [field, cursor] = &resume.cursor;
    Some(
        event
            .get(field.as_str())?
            .get(cursor.as_str())?
            .as_str()?
            .to_owned(),
    )
}

/// The data so far and what is known of each fetch.
struct State {
    data: Value,
    errors: Vec<GraphQLError>,
    /// Where data is missing for a reason that one error tells for all.
    explained: Vec<Vec<PathSegment>>,
    headers: Vec<(Arc<str>, HeaderMap)>,
    started: Vec<bool>,
    done: Vec<bool>,
}

type Settled = (usize, Batch, Result<SubgraphResponse, TransportError>);

async fn run(execution: &Execution, mut state: State) -> Response {
    let mut running = FuturesUnordered::new();
    let headers = (execution.headers)();
    loop {
        // Starting one may settle it at once, when there is nothing to ask for.
        while let Some(index) = state.next_ready(&execution.plan) {
            state.started[index] = true;
            let fetch = &execution.plan.fetches[index];
            let (batch, request) = match &fetch.kind {
                FetchKind::Root { .. } => {
                    let found = representation::find(&state.data, &fetch.path);
                    if found.is_empty() {
                        state.done[index] = true;
                        continue;
                    }
                    let batch = Batch {
                        targets: vec![found],
                        ..Batch::default()
                    };
                    (batch, execution.request(fetch, None, &headers))
                }
                FetchKind::Entities { inputs } => {
                    let mut batch = representation::collect(&state.data, &fetch.path, inputs);
                    if batch.representations.is_empty() {
                        state.done[index] = true;
                        continue;
                    }
                    let representations = std::mem::take(&mut batch.representations);
                    let request = execution.request(fetch, Some(representations), &headers);
                    (batch, request)
                }
            };
            let transport = execution.transport.clone();
            running.push(async move { (index, batch, transport.execute(request).await) });
        }
        let Some(settled) = running.next().await else {
            break;
        };
        state.settle(settled, execution);
    }
    let shape = &execution.plan.shape;
    let mut errors: Vec<GraphQLError> = Vec::with_capacity(state.errors.len());
    for error in state.errors {
        let path = paths::to_client(shape, &error.path);
        let placed = GraphQLError { path, ..error };
        // Fetches that ask for the same objects may fail for the same reason.
        if !errors.contains(&placed) {
            errors.push(placed);
        }
    }
    let explained = state
        .explained
        .iter()
        .map(|path| paths::to_client(shape, path))
        .collect();
    let data = complete(
        shape,
        &state.data,
        &execution.introspection,
        &mut errors,
        explained,
    );
    Response {
        data: Some(data),
        errors,
        headers: state.headers,
        ..Response::default()
    }
}

impl State {
    fn new(fetches: usize) -> Self {
        Self {
            data: Value::Object(Map::new()),
            errors: Vec::new(),
            explained: Vec::new(),
            headers: Vec::new(),
            started: vec![false; fetches],
            done: vec![false; fetches],
        }
    }

    fn next_ready(&self, plan: &QueryPlan) -> Option<usize> {
        plan.fetches.iter().enumerate().position(|(index, fetch)| {
            !self.started[index]
                && !self.done[index]
                && fetch.depends_on.iter().all(|needed| self.done[*needed])
        })
    }

    fn settle(&mut self, (index, batch, result): Settled, execution: &Execution) {
        self.done[index] = true;
        let fetch = &execution.plan.fetches[index];
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                log_failure(&error);
                self.fail(&error, fetch, &batch);
                return;
            }
        };
        match &fetch.kind {
            FetchKind::Root { .. } => {
                let targets = batch.targets.first().map_or(&[][..], Vec::as_slice);
                self.settle_root(response, execution, index, targets);
            }
            FetchKind::Entities { .. } => {
                self.keep_headers(response.headers, execution, fetch);
                self.settle_entities(response.data, response.errors, &batch, &fetch.path);
            }
        }
    }

    /// Merges an answer from a root type into the objects that it belongs to.
    fn settle_root(
        &mut self,
        response: SubgraphResponse,
        execution: &Execution,
        index: usize,
        targets: &[Vec<PathSegment>],
    ) {
        if let Some(fetch) = execution.plan.fetches.get(index) {
            self.keep_headers(response.headers, execution, fetch);
        }
        for target in targets {
            for error in &response.errors {
                let mut error = error.clone();
                error.locations.clear();
                error.path.splice(0..0, target.iter().cloned());
                self.errors.push(error);
            }
        }
        self.merge_all(targets, response.data);
    }

    fn merge_all(&mut self, targets: &[Vec<PathSegment>], from: Value) {
        let Some((last, others)) = targets.split_last() else {
            return;
        };
        for target in others {
            if let Some(value) = representation::at(&mut self.data, target) {
                representation::merge(value, from.clone());
            }
        }
        if let Some(value) = representation::at(&mut self.data, last) {
            representation::merge(value, from);
        }
    }

    fn keep_headers(&mut self, headers: HeaderMap, execution: &Execution, fetch: &Fetch) {
        if !headers.is_empty() {
            let name = execution.graph.subgraph(fetch.subgraph).name.as_str();
            self.headers.push((name.into(), headers));
        }
    }

    fn settle_entities(
        &mut self,
        data: Value,
        errors: Vec<GraphQLError>,
        batch: &Batch,
        path: &[PathStep],
    ) {
        let entities = match data {
            Value::Object(mut object) => match object.remove("_entities") {
                Some(Value::Array(entities)) => entities,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        for error in errors {
            self.place(error, &entities, batch, path);
        }
        for (entity, targets) in entities.into_iter().zip(&batch.targets) {
            self.merge_all(targets, entity);
        }
    }

    /// Moves an entity error to the client's path. Some servers give it no
    /// index; then it belongs to the entities that lack what it is about.
    fn place(
        &mut self,
        mut error: GraphQLError,
        entities: &[Value],
        batch: &Batch,
        path: &[PathStep],
    ) {
        error.locations.clear();
        let rest = match error.path.split_first() {
            Some((PathSegment::Key(key), rest)) if &**key == "_entities" => rest.to_vec(),
            _ => Vec::new(),
        };
        let (indexes, rest): (Vec<usize>, Vec<PathSegment>) = match rest.split_first() {
            Some((PathSegment::Index(index), rest)) => (vec![*index], rest.to_vec()),
            Some((PathSegment::Key(key), _)) => {
                let lacking = |entity: &Value| entity.get(&**key).is_none_or(Value::is_null);
                (indexes_where(entities, lacking), rest.clone())
            }
            None => (indexes_where(entities, Value::is_null), Vec::new()),
        };
        let mut placed = 0;
        for target in indexes
            .iter()
            .filter_map(|index| batch.targets.get(*index))
            .flatten()
            .take(MAX_SPREAD_ERRORS)
        {
            let mut path = target.clone();
            path.extend(rest.iter().cloned());
            self.errors.push(GraphQLError {
                path,
                ..error.clone()
            });
            placed += 1;
        }
        if placed == 0 {
            error.path = static_path(path);
            self.errors.push(error);
        }
    }

    /// A fetch that gave no answer: one error where its data would be.
    fn fail(&mut self, error: &TransportError, fetch: &Fetch, batch: &Batch) {
        let error = error.to_graphql();
        match &fetch.kind {
            FetchKind::Root { keys } => {
                for target in batch.targets.iter().flatten() {
                    for key in keys {
                        let mut path = target.clone();
                        path.push(PathSegment::Key(key.as_str().into()));
                        self.errors.push(error.clone().at(path));
                    }
                }
            }
            FetchKind::Entities { .. } => {
                let first = batch.targets.first().and_then(|targets| targets.first());
                let path = first.cloned().unwrap_or_else(|| static_path(&fetch.path));
                self.errors.push(error.at(path));
                self.explained
                    .extend(batch.targets.iter().flatten().cloned());
            }
        }
    }
}

fn indexes_where(entities: &[Value], lacking: impl Fn(&Value) -> bool) -> Vec<usize> {
    entities
        .iter()
        .enumerate()
        .filter(|(_, entity)| lacking(entity))
        .map(|(index, _)| index)
        .collect()
}

fn static_path(path: &[PathStep]) -> Vec<PathSegment> {
    path.iter()
        .filter_map(|step| match step {
            PathStep::Key(key) => Some(PathSegment::Key(key.as_str().into())),
            PathStep::Types(_) => None,
        })
        .collect()
}

fn log_failure(error: &TransportError) {
    let cause = match error {
        TransportError::Unreachable { cause, .. } | TransportError::Invalid { cause, .. } => cause,
        _ => "",
    };
    tracing::warn!(
        subgraph = %error.subgraph(),
        code = error.code(),
        cause,
        "subgraph request failed"
    );
}
