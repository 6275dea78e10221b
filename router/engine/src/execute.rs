//! Runs a plan. One task owns the data; fetches run beside it and each starts
//! as soon as those that it depends on are done.

use std::collections::HashSet;
use std::sync::Arc;

use ::http::HeaderMap;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use serde_json::{Map, Value};
use stoa_federation::Supergraph;
use stoa_federation::operation::Denied;
use stoa_federation::plan::{Fetch, FetchKind, PathStep, QueryPlan, REPRESENTATIONS, SlotTable};

use crate::complete::complete;
use crate::json::{self, Answer};
use crate::paths;
use crate::representation::{self, Batch};
use crate::response::{GraphQLError, PathSegment, Response};
use crate::transport::{SubgraphRequest, SubgraphResponse, Transport, TransportError};
use crate::tree::{Node, ObjectId, Tree};

/// At most this many errors without a position are spread over null entities.
const MAX_SPREAD_ERRORS: usize = 100;
/// At most this many errors are told to a client.
const MAX_ERRORS: usize = 1_000;
/// At most this many bytes are received for one operation.
const MAX_RECEIVED: usize = 256 * 1024 * 1024;
/// At most this many representations go into one request.
const MAX_REPRESENTATIONS: usize = 1_000;

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
        representations: &[Vec<u8>],
        headers: &[HeaderMap],
    ) -> SubgraphRequest {
        let info = self.graph.subgraph(fetch.subgraph);
        let mut variables = vec![b'{'];
        for name in &fetch.variables {
            if let Some(value) = self.variables.get(name.as_str()) {
                key(&mut variables, name);
                // Writing JSON into memory cannot fail.
                let _ = serde_json::to_writer(&mut variables, value);
            }
        }
        if !representations.is_empty() {
            key(&mut variables, REPRESENTATIONS);
            variables.push(b'[');
            for (index, representation) in representations.iter().enumerate() {
                if index > 0 {
                    variables.push(b',');
                }
                variables.extend_from_slice(representation);
            }
            variables.push(b']');
        }
        variables.push(b'}');
        SubgraphRequest {
            subgraph: info.name.as_str().into(),
            url: info.url.as_str().into(),
            text: fetch.text.clone(),
            prefix: fetch.prefix.clone(),
            operation_name: fetch.operation_name.clone(),
            variables,
            headers: headers
                .get(usize::from(fetch.subgraph.0))
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// Begins an entry of a JSON object.
fn key(out: &mut Vec<u8>, name: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
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
        if let Some(denied) = execution.plan.denied.first() {
            return Err(Response::request_error(unauthorized(denied)));
        }
        return Err(Response::request_error(GraphQLError::new(
            "BAD_REQUEST",
            "a subscription must select a field of the graph",
        )));
    };
    let request = execution.request(source, &[], &(execution.headers)());
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
                if let Some(pending) = state.pending.first_mut() {
                    *pending = Pending::Done;
                }
                let event = event.and_then(|event| state.read(event, &execution, 0));
                match event {
                    Ok(event) => {
                        let data = event.answer.data;
                        let root = representation::find(&state.tree, &[]);
                        state.settle_root(event, &execution, 0, &root);
                        let cursor = cursor_of(&execution.plan, &state.tree, data);
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

fn cursor_of(plan: &QueryPlan, tree: &Tree, event: Option<ObjectId>) -> Option<String> {
    let resume = plan.resume.as_ref()?;
    let [field, cursor] = &resume.cursor;
    let Node::Object(payload) = tree.get(event?, field.id)? else {
        return None;
    };
    serde_json::from_slice(tree.raw(tree.get(payload, cursor.id)?)).ok()
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    NotStarted,
    /// This many requests are out.
    Started(usize),
    Done,
}

/// The data so far and what is known of each fetch.
struct State {
    tree: Tree,
    errors: Vec<GraphQLError>,
    /// Where data is missing for a reason that one error tells for all.
    explained: Vec<Vec<PathSegment>>,
    headers: Vec<(Arc<str>, HeaderMap)>,
    pending: Vec<Pending>,
}

/// A request of a fetch: which, the objects it is about, and the number of its
/// first representation among theirs.
struct Sent {
    fetch: usize,
    batch: Arc<Batch>,
    first: u32,
    count: u32,
}

/// An answer that was read.
struct Answered {
    answer: Answer,
    headers: HeaderMap,
}

async fn run(execution: &Execution, mut state: State) -> Response {
    let mut running = FuturesUnordered::new();
    let headers = (execution.headers)();
    loop {
        // Starting one may settle it at once, when there is nothing to ask for.
        while let Some(index) = state.next_ready(&execution.plan) {
            let fetch = &execution.plan.fetches[index];
            let batch = Arc::new(match &fetch.kind {
                FetchKind::Root { .. } => representation::find(&state.tree, &fetch.path),
                FetchKind::Entities { inputs } => {
                    representation::collect(&state.tree, &fetch.path, inputs)
                }
            });
            if batch.overflow {
                return Response::request_error(too_large());
            }
            if batch.targets.is_empty() {
                state.pending[index] = Pending::Done;
                continue;
            }
            let mut requests = Vec::new();
            match &fetch.kind {
                FetchKind::Root { .. } => requests.push((0, &[][..])),
                FetchKind::Entities { .. } => {
                    let chunks = batch.representations.chunks(MAX_REPRESENTATIONS);
                    for (number, chunk) in chunks.enumerate() {
                        let first = u32::try_from(number * MAX_REPRESENTATIONS);
                        requests.push((first.unwrap_or(u32::MAX), chunk));
                    }
                }
            }
            state.pending[index] = Pending::Started(requests.len());
            for (first, representations) in requests {
                let request = execution.request(fetch, representations, &headers);
                let transport = execution.transport.clone();
                let sent = Sent {
                    fetch: index,
                    batch: batch.clone(),
                    first,
                    count: u32::try_from(representations.len().max(1)).unwrap_or(u32::MAX),
                };
                running.push(async move { (sent, transport.execute(request).await) });
            }
        }
        let Some((sent, result)) = running.next().await else {
            break;
        };
        state.settle(&sent, result, execution);
    }
    finish(execution, state)
}

fn finish(execution: &Execution, state: State) -> Response {
    let shape = &execution.plan.shape;
    let mut errors: Vec<GraphQLError> = Vec::with_capacity(state.errors.len());
    let mut seen = HashSet::new();
    for error in state.errors {
        let path = paths::to_client(shape, &state.tree, &error.path);
        // Fetches that ask for the same objects may fail for the same reason.
        let new = seen.insert((path.clone(), error.message.clone()));
        if new && errors.len() < MAX_ERRORS {
            errors.push(GraphQLError { path, ..error });
        }
    }
    errors.extend(execution.plan.denied.iter().map(unauthorized));
    let explained = state
        .explained
        .iter()
        .map(|path| paths::to_client(shape, &state.tree, path))
        .collect();
    let data = complete(
        shape,
        &state.tree,
        &execution.introspection,
        &mut errors,
        explained,
    );
    let Some(data) = data else {
        return Response::request_error(too_large());
    };
    Response {
        data: Some(data),
        errors,
        headers: state.headers,
        ..Response::default()
    }
}

/// Refuses an answer that leaves entities out without a word.
fn complete_batch(
    answered: Answered,
    tree: &Tree,
    fetch: &Fetch,
    sent: &Sent,
    execution: &Execution,
) -> Result<Answered, TransportError> {
    if matches!(fetch.kind, FetchKind::Root { .. }) || !answered.answer.errors.is_empty() {
        return Ok(answered);
    }
    let count = match answered.answer.entities {
        Some(Node::List(list)) => tree.items(list).len(),
        _ => 0,
    };
    if count == sent.count as usize {
        return Ok(answered);
    }
    let subgraph = execution.graph.subgraph(fetch.subgraph).name.as_str();
    Err(TransportError::Invalid {
        subgraph: subgraph.into(),
        cause: format!("{count} entities for {} representations", sent.count),
    })
}

fn too_large() -> GraphQLError {
    GraphQLError::new(
        "RESPONSE_TOO_LARGE",
        "the answer would be too large: ask for less at a time",
    )
}

fn unauthorized(denied: &Denied) -> GraphQLError {
    let path = denied.path.iter();
    GraphQLError::new(
        "UNAUTHORIZED_FIELD_OR_TYPE",
        format!(
            "you are not allowed to see \"{}.{}\"",
            denied.ty, denied.field
        ),
    )
    .at(path
        .map(|key| PathSegment::Key(key.as_str().into()))
        .collect())
}

impl State {
    fn new(fetches: usize) -> Self {
        Self {
            tree: Tree::default(),
            errors: Vec::new(),
            explained: Vec::new(),
            headers: Vec::new(),
            pending: vec![Pending::NotStarted; fetches],
        }
    }

    fn next_ready(&self, plan: &QueryPlan) -> Option<usize> {
        plan.fetches.iter().enumerate().position(|(index, fetch)| {
            self.pending[index] == Pending::NotStarted
                && fetch
                    .depends_on
                    .iter()
                    .all(|needed| self.pending[*needed] == Pending::Done)
        })
    }

    /// Reads an answer into the tree.
    fn read(
        &mut self,
        response: SubgraphResponse,
        execution: &Execution,
        index: usize,
    ) -> Result<Answered, TransportError> {
        let subgraph: Arc<str> = match execution.plan.fetches.get(index) {
            Some(fetch) => execution
                .graph
                .subgraph(fetch.subgraph)
                .name
                .as_str()
                .into(),
            None => Arc::from(""),
        };
        if self.tree.received() + response.body.len() > MAX_RECEIVED {
            return Err(TransportError::TooLarge {
                subgraph,
                limit: MAX_RECEIVED,
            });
        }
        let slots = &execution.plan.slots;
        let read = json::read(&mut self.tree, slots, response.body, subgraph.clone());
        match (read, response.failure) {
            (Ok(answer), _) => Ok(Answered {
                answer,
                headers: response.headers,
            }),
            (Err(_), Some(status)) => Err(TransportError::Status { subgraph, status }),
            (Err(cause), None) => Err(TransportError::Invalid { subgraph, cause }),
        }
    }

    fn settle(
        &mut self,
        sent: &Sent,
        result: Result<SubgraphResponse, TransportError>,
        execution: &Execution,
    ) {
        let index = sent.fetch;
        self.pending[index] = match self.pending[index] {
            Pending::Started(more) if more > 1 => Pending::Started(more - 1),
            _ => Pending::Done,
        };
        let fetch = &execution.plan.fetches[index];
        let result = result.and_then(|response| self.read(response, execution, index));
        let result = result
            .and_then(|answered| complete_batch(answered, &self.tree, fetch, sent, execution));
        let answered = match result {
            Ok(answered) => answered,
            Err(error) => {
                log_failure(&error);
                self.fail(&error, fetch, sent);
                return;
            }
        };
        match &fetch.kind {
            FetchKind::Root { .. } => self.settle_root(answered, execution, index, &sent.batch),
            FetchKind::Entities { .. } => {
                self.keep_headers(answered.headers, execution, fetch);
                self.settle_entities(answered.answer, sent, fetch, &execution.plan.slots);
            }
        }
    }

    /// Merges an answer from a root type into the objects that it belongs to.
    fn settle_root(
        &mut self,
        answered: Answered,
        execution: &Execution,
        index: usize,
        batch: &Batch,
    ) {
        let Some(fetch) = execution.plan.fetches.get(index) else {
            return;
        };
        self.keep_headers(answered.headers, execution, fetch);
        for (_, target) in &batch.targets {
            for error in &answered.answer.errors {
                let mut error = error.clone();
                error.locations.clear();
                error.path.splice(0..0, batch.path(*target, &fetch.path));
                self.errors.push(error);
            }
            if let Some(data) = answered.answer.data {
                self.tree.merge(target.object, data);
            }
        }
    }

    fn keep_headers(&mut self, headers: HeaderMap, execution: &Execution, fetch: &Fetch) {
        if !headers.is_empty() {
            let name = execution.graph.subgraph(fetch.subgraph).name.as_str();
            self.headers.push((name.into(), headers));
        }
    }

    fn settle_entities(&mut self, answer: Answer, sent: &Sent, fetch: &Fetch, slots: &SlotTable) {
        let entities: Vec<Node> = match answer.entities {
            Some(Node::List(list)) => self.tree.items(list).to_vec(),
            // The whole batch failed: its reasons stand for all.
            _ => {
                self.fail_with(answer.errors, fetch, sent);
                return;
            }
        };
        for error in answer.errors {
            self.place(error, &entities, sent, fetch, slots);
        }
        for (number, target) in sent.batch.of(sent.first, sent.count) {
            let entity = number
                .checked_sub(sent.first)
                .and_then(|offset| entities.get(offset as usize));
            if let Some(Node::Object(entity)) = entity {
                self.tree.merge(target.object, *entity);
            }
        }
    }

    /// Moves an entity error to the client's path. Some servers give it no
    /// index; then it belongs to the entities that lack what it is about.
    fn place(
        &mut self,
        mut error: GraphQLError,
        entities: &[Node],
        sent: &Sent,
        fetch: &Fetch,
        slots: &SlotTable,
    ) {
        error.locations.clear();
        let rest = match error.path.split_first() {
            Some((PathSegment::Key(key), rest)) if &**key == "_entities" => rest.to_vec(),
            _ => Vec::new(),
        };
        let (indexes, rest): (Vec<usize>, Vec<PathSegment>) = match rest.split_first() {
            Some((PathSegment::Index(index), rest)) => (vec![*index], rest.to_vec()),
            Some((PathSegment::Key(key), _)) => {
                let slot = slots.id(key);
                let lacking = |entity: &Node| self.lacks(*entity, slot);
                (indexes_where(entities, lacking), rest.clone())
            }
            None => (
                indexes_where(entities, |entity| *entity == Node::Null),
                Vec::new(),
            ),
        };
        let numbers = indexes
            .iter()
            .filter_map(|index| sent.first.checked_add(u32::try_from(*index).ok()?));
        let mut placed = Vec::new();
        for (_, target) in numbers.flat_map(|number| sent.batch.of(number, 1)) {
            if placed.len() == MAX_SPREAD_ERRORS {
                break;
            }
            let mut path = sent.batch.path(*target, &fetch.path);
            path.extend(rest.iter().cloned());
            placed.push(GraphQLError {
                path,
                ..error.clone()
            });
        }
        if placed.is_empty() {
            error.path = static_path(&fetch.path);
            placed.push(error);
        }
        self.errors.append(&mut placed);
    }

    fn lacks(&self, entity: Node, slot: Option<u32>) -> bool {
        match (entity, slot) {
            (Node::Object(entity), Some(slot)) => {
                matches!(self.tree.get(entity, slot), None | Some(Node::Null))
            }
            _ => true,
        }
    }

    /// Reasons why a batch has no data, where the first of it would be.
    fn fail_with(&mut self, errors: Vec<GraphQLError>, fetch: &Fetch, sent: &Sent) {
        let all: Vec<_> = sent
            .batch
            .of(sent.first, sent.count)
            .iter()
            .map(|(_, target)| sent.batch.path(*target, &fetch.path))
            .collect();
        let path = all.first().cloned();
        let path = path.unwrap_or_else(|| static_path(&fetch.path));
        for mut error in errors {
            error.locations.clear();
            self.errors.push(error.at(path.clone()));
        }
        self.explained.extend(all);
    }

    /// A fetch that gave no answer: one error where its data would be.
    fn fail(&mut self, error: &TransportError, fetch: &Fetch, sent: &Sent) {
        let error = error.to_graphql();
        let paths = sent
            .batch
            .of(sent.first, sent.count)
            .iter()
            .map(|(_, target)| sent.batch.path(*target, &fetch.path));
        match &fetch.kind {
            FetchKind::Root { keys } => {
                for target in paths {
                    for key in keys {
                        let mut path = target.clone();
                        path.push(PathSegment::Key(key.name.as_str().into()));
                        self.errors.push(error.clone().at(path));
                    }
                }
            }
            FetchKind::Entities { .. } => self.fail_with(vec![error], fetch, sent),
        }
    }
}

fn indexes_where(entities: &[Node], lacking: impl Fn(&Node) -> bool) -> Vec<usize> {
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
            PathStep::Key(slot) => Some(PathSegment::Key(slot.name.as_str().into())),
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
