//! Builds the requests of a fetch.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ::http::HeaderMap;
use stoa_federation::plan::{Contexts, Fetch, FetchKind, REPRESENTATIONS};

use crate::batch::Batch;
use crate::execution::Execution;
use crate::transport::SubgraphRequest;

/// The most representations in one request.
const MAX_REPRESENTATIONS: usize = 1_000;
/// The most groups in one request, each with its own `_entities`.
const MAX_GROUPS: usize = 100;

/// The text and prefix of a fetch's operation, by the number of groups.
pub type OperationTexts = HashMap<usize, (Arc<str>, Arc<str>)>;

/// The part of a batch that one request asks for.
#[derive(Debug, Clone, Default)]
pub struct BatchPart {
    /// The index of its first representation.
    pub first: u32,
    pub count: u32,
    /// How many representations each of its groups has; empty where the fetch
    /// has no contexts.
    pub groups: Vec<u32>,
}

/// Splits a batch into parts, one for each request.
pub fn split_batch(batch: &Batch) -> Vec<BatchPart> {
    let total = batch.representations.len();
    let ends = batch
        .groups
        .iter()
        .skip(1)
        .map(|group| group.first as usize);
    let groups: Vec<usize> = match batch.groups.is_empty() {
        true => Vec::new(),
        false => ends.chain([total]).collect(),
    };
    let mut parts = Vec::new();
    let mut first = 0;
    let mut group = 0;
    while first < total {
        let mut part = BatchPart {
            first: to_u32(first),
            ..BatchPart::default()
        };
        let most = total.min(first + MAX_REPRESENTATIONS);
        let mut end = most;
        if !groups.is_empty() {
            end = first;
            while end < most && part.groups.len() < MAX_GROUPS {
                let until = groups[group].min(most);
                part.groups.push(to_u32(until - end));
                end = until;
                if end == groups[group] {
                    group += 1;
                }
            }
        }
        part.count = to_u32(end - first);
        parts.push(part);
        first = end;
    }
    parts
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Execution {
    /// The request for a part of a fetch's batch.
    pub(crate) fn request(
        &self,
        fetch: &Fetch,
        batch: &Batch,
        part: &BatchPart,
        headers: &[HeaderMap],
        texts: &mut OperationTexts,
    ) -> SubgraphRequest {
        let info = self.graph.subgraph(fetch.subgraph);
        let mut variables = vec![b'{'];
        for name in &fetch.variables {
            if let Some(value) = self.variables.get(name.as_str()) {
                write_key(&mut variables, name);
                variables.extend_from_slice(value.as_bytes());
            }
        }
        let mut text = (fetch.text.clone(), fetch.prefix.clone());
        match &fetch.kind {
            FetchKind::Root { .. } => {}
            FetchKind::Entities {
                contexts: Some(contexts),
                ..
            } => {
                if part.groups.len() != 1 {
                    text = texts
                        .entry(part.groups.len())
                        .or_insert_with(|| contexts.text(part.groups.len()))
                        .clone();
                }
                write_groups(&mut variables, contexts, batch, part);
            }
            FetchKind::Entities { contexts: None, .. } => {
                write_key(&mut variables, REPRESENTATIONS);
                let from = part.first as usize;
                let until = from + part.count as usize;
                write_array(&mut variables, &batch.representations[from..until]);
            }
        }
        variables.push(b'}');
        let (text, prefix) = text;
        SubgraphRequest {
            subgraph: info.name.as_str().into(),
            url: info.url.as_str().into(),
            text,
            prefix,
            operation_name: fetch.operation_name.clone(),
            variables,
            is_repeatable: fetch.is_repeatable,
            headers: headers
                .get(usize::from(fetch.subgraph.0))
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// Writes each group's representations and context values.
fn write_groups(out: &mut Vec<u8>, contexts: &Contexts, batch: &Batch, part: &BatchPart) {
    let mut from = part.first as usize;
    let first = batch
        .groups
        .partition_point(|group| group.first <= part.first)
        .saturating_sub(1);
    let groups = batch.groups.get(first..).unwrap_or_default();
    for (number, (count, group)) in part.groups.iter().zip(groups).enumerate() {
        let until = from + *count as usize;
        write_key(out, &Contexts::representations(number));
        write_array(out, &batch.representations[from..until]);
        for (value, given) in contexts.values.iter().zip(&group.values) {
            write_key(out, &contexts.variable(value, number));
            if let Some(given) = batch.values.get(*given as usize) {
                out.extend_from_slice(given);
            }
        }
        from = until;
    }
}

/// Writes the key of a JSON object's entry.
fn write_key(out: &mut Vec<u8>, name: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_array(out: &mut Vec<u8>, items: &[Vec<u8>]) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.push(b']');
}

/// The range of a part's entities that an alias holds.
pub fn entities_of_alias(part: &BatchPart, alias: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for (number, count) in part.groups.iter().enumerate() {
        let end = start + *count as usize;
        if alias == Contexts::alias(number) {
            return Some(start..end);
        }
        start = end;
    }
    None
}
