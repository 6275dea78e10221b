//! Processes responses: merges them into the data and maps their errors to paths.

use std::sync::Arc;

use ::http::HeaderMap;
use stoa_federation::plan::{Contexts, Fetch, FetchKind, PathStep, QueryPlan, SlotTable};

use crate::batch::Batch;
use crate::execution::{Execution, log_failure};
use crate::json::{self, ParsedResponse};
use crate::request::{self, BatchPart};
use crate::response::{GraphQLError, PathSegment};
use crate::transport::{SubgraphResponse, TransportError};
use crate::tree::{Node, ObjectId, Tree};

/// The most copies of one entity error: an error without an index is reported for
/// each entity that it may be about.
const MAX_SPREAD_ERRORS: usize = 100;
/// The most objects and lists that are copied for one operation.
const MAX_COPIES: usize = 1_000_000;
/// The most bytes that are received for one operation.
const MAX_RECEIVED: usize = 256 * 1024 * 1024;

/// The progress of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    NotStarted,
    /// Waits for the responses to this many requests.
    Started(usize),
    Done,
}

/// The data so far, and the progress of each fetch.
pub struct ExecutionState {
    pub tree: Tree,
    pub errors: Vec<GraphQLError>,
    /// Paths whose missing data is explained by an error at another path.
    pub explained: Vec<Vec<PathSegment>>,
    pub headers: Vec<(Arc<str>, HeaderMap)>,
    pub pending: Vec<Pending>,
    /// How many objects and lists may still be copied.
    copies: usize,
    /// The data exceeded a limit.
    pub overflow: bool,
}

/// A request that was sent: its fetch, and the objects it asks for.
pub struct SentRequest {
    pub fetch: usize,
    pub batch: Arc<Batch>,
    pub part: BatchPart,
}

/// A response that was read into the tree.
pub struct ReadResponse {
    pub parsed: ParsedResponse,
    pub headers: HeaderMap,
}

impl ExecutionState {
    pub fn new(fetches: usize) -> Self {
        Self {
            tree: Tree::default(),
            errors: Vec::new(),
            explained: Vec::new(),
            headers: Vec::new(),
            pending: vec![Pending::NotStarted; fetches],
            copies: MAX_COPIES,
            overflow: false,
        }
    }

    pub fn next_ready_fetch(&self, plan: &QueryPlan) -> Option<usize> {
        plan.fetches.iter().enumerate().position(|(index, fetch)| {
            self.pending[index] == Pending::NotStarted
                && fetch
                    .depends_on
                    .iter()
                    .all(|needed| self.pending[*needed] == Pending::Done)
        })
    }

    /// Reads a response into the tree.
    pub fn read(
        &mut self,
        response: SubgraphResponse,
        execution: &Execution,
        index: usize,
    ) -> Result<ReadResponse, TransportError> {
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
        match (read, response.error_status) {
            (Ok(parsed), _) => Ok(ReadResponse {
                parsed,
                headers: response.headers,
            }),
            (Err(_), Some(status)) => Err(TransportError::Status { subgraph, status }),
            (Err(cause), None) => Err(TransportError::Invalid { subgraph, cause }),
        }
    }

    pub fn settle(
        &mut self,
        sent: &SentRequest,
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
            .and_then(|response| self.check_entity_count(response, fetch, &sent.part, execution));
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                log_failure(&error);
                self.fail(&error, fetch, sent);
                return;
            }
        };
        match &fetch.kind {
            FetchKind::Root { .. } => self.settle_root(response, execution, index, &sent.batch),
            FetchKind::Entities { .. } => {
                self.keep_headers(response.headers, execution, fetch);
                self.settle_entities(response.parsed, sent, fetch, &execution.plan.slots);
            }
        }
    }

    /// Merges a response from a root type into the objects that the fetch is for.
    pub fn settle_root(
        &mut self,
        response: ReadResponse,
        execution: &Execution,
        index: usize,
        batch: &Batch,
    ) {
        let Some(fetch) = execution.plan.fetches.get(index) else {
            return;
        };
        self.keep_headers(response.headers, execution, fetch);
        for (number, (_, target)) in batch.targets.iter().enumerate() {
            for error in &response.parsed.errors {
                let mut error = error.clone();
                error.locations.clear();
                error.path.splice(0..0, batch.path(*target, &fetch.path));
                self.errors.push(error);
            }
            if let Some(data) = response.parsed.data {
                self.merge_at(target.object, data, fetch, number > 0);
            }
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
        parsed: ParsedResponse,
        sent: &SentRequest,
        fetch: &Fetch,
        slots: &SlotTable,
    ) {
        // Without entities the whole batch failed: its errors are for all of them.
        let Some(entities) = self.entities(&parsed, &sent.part) else {
            self.add_batch_errors(parsed.errors, fetch, sent);
            return;
        };
        for error in parsed.errors {
            self.map_entity_error(error, &entities, sent, fetch, slots);
        }
        let BatchPart { first, count, .. } = sent.part;
        let mut last = None;
        for (number, target) in sent.batch.targets_of(first, count) {
            let again = last.replace(*number) == Some(*number);
            let entity = number
                .checked_sub(first)
                .and_then(|offset| entities.get(offset as usize));
            if let Some(Node::Object(entity)) = entity {
                self.merge_at(target.object, *entity, fetch, again);
            }
        }
    }

    /// Merges a received object into a target: the object itself, or a copy if the
    /// targets must not share it.
    fn merge_at(&mut self, into: ObjectId, from: ObjectId, fetch: &Fetch, again: bool) {
        if !(again && fetch.copy_per_target) {
            self.tree.merge(into, from);
            return;
        }
        match self.tree.copy(Node::Object(from), &mut self.copies) {
            Some(Node::Object(copy)) => self.tree.merge(into, copy),
            _ => self.overflow = true,
        }
    }

    /// The entities in a response, group after group; `None` if it has no list of
    /// entities.
    fn entities(&self, parsed: &ParsedResponse, part: &BatchPart) -> Option<Vec<Node>> {
        let items = |node: &Node| match node {
            Node::List(list) => Some(self.tree.items(*list)),
            _ => None,
        };
        if part.groups.is_empty() {
            let (_, node) = parsed.entities.first()?;
            return Some(items(node)?.to_vec());
        }
        let mut all = Vec::with_capacity(part.count as usize);
        let mut any = false;
        for (group, count) in part.groups.iter().enumerate() {
            let alias = Contexts::alias(group);
            let found = parsed
                .entities
                .iter()
                .find(|(key, _)| **key == *alias)
                .and_then(|(_, node)| items(node));
            any |= found.is_some();
            let until = all.len() + *count as usize;
            all.extend(found.into_iter().flatten().take(*count as usize));
            all.resize(until, Node::Null);
        }
        any.then_some(all)
    }

    /// Rejects a response that leaves out entities without an error.
    fn check_entity_count(
        &self,
        response: ReadResponse,
        fetch: &Fetch,
        part: &BatchPart,
        execution: &Execution,
    ) -> Result<ReadResponse, TransportError> {
        if matches!(fetch.kind, FetchKind::Root { .. }) || !response.parsed.errors.is_empty() {
            return Ok(response);
        }
        let entities = &response.parsed.entities;
        let count = |found: Option<&(Box<str>, Node)>| match found {
            Some((_, Node::List(list))) => self.tree.items(*list).len(),
            _ => 0,
        };
        let mut counts = match part.groups.is_empty() {
            true => vec![(count(entities.first()), part.count)],
            false => Vec::new(),
        };
        for (group, wanted) in part.groups.iter().enumerate() {
            let alias = Contexts::alias(group);
            let found = entities.iter().find(|(key, _)| **key == *alias);
            counts.push((count(found), *wanted));
        }
        let wrong = |(count, wanted): &&(usize, u32)| *count != *wanted as usize;
        let Some((count, wanted)) = counts.iter().find(wrong) else {
            return Ok(response);
        };
        let subgraph = execution.graph.subgraph(fetch.subgraph).name.as_str();
        Err(TransportError::Invalid {
            subgraph: subgraph.into(),
            cause: format!("{count} entities for {wanted} representations"),
        })
    }

    /// Maps the path of an entity error to the entity's path in the data. Some
    /// servers send no index; then the error is for the entities without the field.
    fn map_entity_error(
        &mut self,
        mut error: GraphQLError,
        entities: &[Node],
        sent: &SentRequest,
        fetch: &Fetch,
        slots: &SlotTable,
    ) {
        error.locations.clear();
        // The entities that it may be about: those of one group, or all.
        let mut among = 0..entities.len();
        let rest = match error.path.split_first() {
            Some((PathSegment::Key(key), rest)) if &**key == "_entities" => rest.to_vec(),
            Some((PathSegment::Key(key), rest)) => {
                match request::entities_of_alias(&sent.part, key) {
                    Some(group) => {
                        among = group;
                        rest.to_vec()
                    }
                    None => Vec::new(),
                }
            }
            _ => Vec::new(),
        };
        let (indexes, rest): (Vec<usize>, Vec<PathSegment>) = match rest.split_first() {
            Some((PathSegment::Index(index), rest)) => {
                (among.nth(*index).into_iter().collect(), rest.to_vec())
            }
            Some((PathSegment::Key(key), _)) => {
                let slot = slots.id(key);
                let lacking = |index: &usize| self.is_missing(entities[*index], slot);
                (among.filter(lacking).collect(), rest.clone())
            }
            None => {
                let lacking = |index: &usize| entities[*index] == Node::Null;
                (among.filter(lacking).collect(), Vec::new())
            }
        };
        let first = sent.part.first;
        let numbers = indexes
            .iter()
            .filter_map(|index| first.checked_add(u32::try_from(*index).ok()?));
        let mut placed = Vec::new();
        for (_, target) in numbers.flat_map(|number| sent.batch.targets_of(number, 1)) {
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

    fn is_missing(&self, entity: Node, slot: Option<u32>) -> bool {
        match (entity, slot) {
            (Node::Object(entity), Some(slot)) => {
                matches!(self.tree.get(entity, slot), None | Some(Node::Null))
            }
            _ => true,
        }
    }

    /// Adds the errors of a batch without data, at the path of its first object.
    fn add_batch_errors(&mut self, errors: Vec<GraphQLError>, fetch: &Fetch, sent: &SentRequest) {
        let all: Vec<_> = sent
            .batch
            .targets_of(sent.part.first, sent.part.count)
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

    /// Adds an error at the paths where the data of a failed fetch would be.
    fn fail(&mut self, error: &TransportError, fetch: &Fetch, sent: &SentRequest) {
        let error = error.to_graphql();
        let paths = sent
            .batch
            .targets_of(sent.part.first, sent.part.count)
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
            FetchKind::Entities { .. } => self.add_batch_errors(vec![error], fetch, sent),
        }
    }
}

fn static_path(path: &[PathStep]) -> Vec<PathSegment> {
    path.iter()
        .filter_map(|step| match step {
            PathStep::Key(slot) => Some(PathSegment::Key(slot.name.as_str().into())),
            PathStep::Types(_) => None,
        })
        .collect()
}
