//! Settles answers: merges them into the data, and gives their errors places.

use std::sync::Arc;

use ::http::HeaderMap;
use stoa_federation::plan::{Contexts, Fetch, FetchKind, PathStep, QueryPlan, SlotTable};

use crate::execute::{Execution, log_failure};
use crate::json::{self, Answer};
use crate::representation::Batch;
use crate::request::{self, Part};
use crate::response::{GraphQLError, PathSegment};
use crate::transport::{SubgraphResponse, TransportError};
use crate::tree::{Node, ObjectId, Tree};

/// At most this many errors without a position are spread over null entities.
const MAX_SPREAD_ERRORS: usize = 100;
/// At most this many objects and lists are copied for one operation.
const MAX_COPIES: usize = 1_000_000;
/// At most this many bytes are received for one operation.
const MAX_RECEIVED: usize = 256 * 1024 * 1024;

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    NotStarted,
    /// This many requests are out.
    Started(usize),
    Done,
}

/// The data so far and what is known of each fetch.
pub struct State {
    pub tree: Tree,
    pub errors: Vec<GraphQLError>,
    /// Where data is missing for a reason that one error tells for all.
    pub explained: Vec<Vec<PathSegment>>,
    pub headers: Vec<(Arc<str>, HeaderMap)>,
    pub pending: Vec<Pending>,
    /// How many objects and lists may still be copied.
    copies: usize,
    /// The answer grew past a bound.
    pub overflow: bool,
}

/// A request of a fetch: which, and the objects it is about.
pub struct Sent {
    pub fetch: usize,
    pub batch: Arc<Batch>,
    pub part: Part,
}

/// An answer that was read.
pub struct Answered {
    pub answer: Answer,
    pub headers: HeaderMap,
}

impl State {
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

    pub fn next_ready(&self, plan: &QueryPlan) -> Option<usize> {
        plan.fetches.iter().enumerate().position(|(index, fetch)| {
            self.pending[index] == Pending::NotStarted
                && fetch
                    .depends_on
                    .iter()
                    .all(|needed| self.pending[*needed] == Pending::Done)
        })
    }

    /// Reads an answer into the tree.
    pub fn read(
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

    pub fn settle(
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
        let result =
            result.and_then(|answered| self.check_count(answered, fetch, &sent.part, execution));
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
    pub fn settle_root(
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
        for (number, (_, target)) in batch.targets.iter().enumerate() {
            for error in &answered.answer.errors {
                let mut error = error.clone();
                error.locations.clear();
                error.path.splice(0..0, batch.path(*target, &fetch.path));
                self.errors.push(error);
            }
            if let Some(data) = answered.answer.data {
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

    fn settle_entities(&mut self, answer: Answer, sent: &Sent, fetch: &Fetch, slots: &SlotTable) {
        // Without any the whole batch failed: its reasons stand for all.
        let Some(entities) = self.entities(&answer, &sent.part) else {
            self.fail_with(answer.errors, fetch, sent);
            return;
        };
        for error in answer.errors {
            self.place(error, &entities, sent, fetch, slots);
        }
        let Part { first, count, .. } = sent.part;
        let mut last = None;
        for (number, target) in sent.batch.of(first, count) {
            let again = last.replace(*number) == Some(*number);
            let entity = number
                .checked_sub(first)
                .and_then(|offset| entities.get(offset as usize));
            if let Some(Node::Object(entity)) = entity {
                self.merge_at(target.object, *entity, fetch, again);
            }
        }
    }

    /// Merges what was answered into one of its places: as it is, or a copy of
    /// it where others must not share it.
    fn merge_at(&mut self, into: ObjectId, from: ObjectId, fetch: &Fetch, again: bool) {
        if !(again && fetch.apart) {
            self.tree.merge(into, from);
            return;
        }
        match self.tree.copy(Node::Object(from), &mut self.copies) {
            Some(Node::Object(copy)) => self.tree.merge(into, copy),
            _ => self.overflow = true,
        }
    }

    /// The entities that an answer holds, those of its groups one after
    /// another; `None` if it holds no list of any.
    fn entities(&self, answer: &Answer, part: &Part) -> Option<Vec<Node>> {
        let items = |node: &Node| match node {
            Node::List(list) => Some(self.tree.items(*list)),
            _ => None,
        };
        if part.groups.is_empty() {
            let (_, node) = answer.entities.first()?;
            return Some(items(node)?.to_vec());
        }
        let mut all = Vec::with_capacity(part.count as usize);
        let mut any = false;
        for (group, count) in part.groups.iter().enumerate() {
            let alias = Contexts::alias(group);
            let found = answer
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

    /// Refuses an answer that leaves entities out without a word.
    fn check_count(
        &self,
        answered: Answered,
        fetch: &Fetch,
        part: &Part,
        execution: &Execution,
    ) -> Result<Answered, TransportError> {
        if matches!(fetch.kind, FetchKind::Root { .. }) || !answered.answer.errors.is_empty() {
            return Ok(answered);
        }
        let entities = &answered.answer.entities;
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
            return Ok(answered);
        };
        let subgraph = execution.graph.subgraph(fetch.subgraph).name.as_str();
        Err(TransportError::Invalid {
            subgraph: subgraph.into(),
            cause: format!("{count} entities for {wanted} representations"),
        })
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
        // Which entities it is about: those of one group, or all.
        let mut among = 0..entities.len();
        let rest = match error.path.split_first() {
            Some((PathSegment::Key(key), rest)) if &**key == "_entities" => rest.to_vec(),
            Some((PathSegment::Key(key), rest)) => match request::alias_of(&sent.part, key) {
                Some(group) => {
                    among = group;
                    rest.to_vec()
                }
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let (indexes, rest): (Vec<usize>, Vec<PathSegment>) = match rest.split_first() {
            Some((PathSegment::Index(index), rest)) => {
                (among.nth(*index).into_iter().collect(), rest.to_vec())
            }
            Some((PathSegment::Key(key), _)) => {
                let slot = slots.id(key);
                let lacking = |index: &usize| self.lacks(entities[*index], slot);
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
            .of(sent.part.first, sent.part.count)
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
            .of(sent.part.first, sent.part.count)
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

fn static_path(path: &[PathStep]) -> Vec<PathSegment> {
    path.iter()
        .filter_map(|step| match step {
            PathStep::Key(slot) => Some(PathSegment::Key(slot.name.as_str().into())),
            PathStep::Types(_) => None,
        })
        .collect()
}
