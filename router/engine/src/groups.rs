//! Context values (`@fromContext`) of the objects of a fetch: each is looked up
//! once per ancestor, and objects are grouped by equal values.

use std::collections::HashMap;

use stoa_federation::plan::{ContextValue, Contexts, Required};

use crate::batch::{Batch, Group, has_type, write_list};
use crate::tree::{Node, ObjectId, Tree};

/// The most groups that contexts may make of a fetch's objects.
const MAX_GROUPS: usize = 10_000;
/// The most bytes that contexts may add to one fetch's requests.
const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;

/// The groups of a batch while it is collected.
#[derive(Default)]
pub struct Groups {
    known: HashMap<Vec<u32>, u32>,
    /// For each group, the indexes of its values.
    groups: Vec<Vec<u32>>,
    values: Vec<Vec<u8>>,
    value_numbers: HashMap<Vec<u8>, u32>,
    /// By context, source and ancestor: the index of the value found there.
    found: HashMap<(usize, usize, ObjectId), Option<u32>>,
    /// For each representation, its group.
    pub members: Vec<u32>,
    /// How many bytes of values the requests will hold.
    bytes: usize,
}

impl Groups {
    /// The group of the values that an object's ancestors set; `None` if one
    /// is missing.
    pub fn group_of(
        &mut self,
        tree: &Tree,
        contexts: &Contexts,
        ancestors: &[ObjectId],
    ) -> Option<u32> {
        let numbers: Vec<u32> = contexts
            .values
            .iter()
            .enumerate()
            .map(|(index, value)| self.value(tree, index, value, ancestors))
            .collect::<Option<_>>()?;
        if let Some(known) = self.known.get(&numbers) {
            return Some(*known);
        }
        let number = u32::try_from(self.groups.len()).ok()?;
        let bytes = numbers
            .iter()
            .map(|value| self.values[*value as usize].len());
        self.bytes = self.bytes.saturating_add(bytes.sum());
        self.groups.push(numbers.clone());
        self.known.insert(numbers, number);
        Some(number)
    }

    /// The index of a context's value for an object, from the nearest ancestor
    /// that sets it. Looked up once per ancestor.
    fn value(
        &mut self,
        tree: &Tree,
        context: usize,
        value: &ContextValue,
        ancestors: &[ObjectId],
    ) -> Option<u32> {
        let (source, ancestor) = value
            .sources
            .iter()
            .enumerate()
            .find_map(|(index, source)| {
                let ancestor = *ancestors.get(source.depth)?;
                let sets = match &source.only {
                    Some(types) => has_type(tree, ancestor, types),
                    None => true,
                };
                sets.then_some((index, ancestor))
            })?;
        if let Some(known) = self.found.get(&(context, source, ancestor)) {
            return *known;
        }
        let text = read_leaf(tree, ancestor, &value.sources[source].field)
            .filter(|text| is_null_safe(&value.ty, text));
        let number = text.and_then(|text| match self.value_numbers.get(&text) {
            Some(number) => Some(*number),
            None => {
                let number = u32::try_from(self.values.len()).ok()?;
                self.values.push(text.clone());
                self.value_numbers.insert(text, number);
                Some(number)
            }
        });
        self.found.insert((context, source, ancestor), number);
        number
    }

    pub fn is_too_large(&self) -> bool {
        self.groups.len() > MAX_GROUPS || self.bytes > MAX_VALUE_BYTES
    }

    /// Reorders the batch so that the representations of each group are adjacent.
    pub fn sort(self, batch: &mut Batch) {
        if self.members.is_empty() {
            return;
        }
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|number| self.members[*number]);
        let mut renumbered = vec![0; order.len()];
        let mut sorted = Vec::with_capacity(order.len());
        let mut groups: Vec<Group> = Vec::new();
        let mut last = None;
        for (now, before) in (0..).zip(order) {
            renumbered[before] = now;
            sorted.push(std::mem::take(&mut batch.representations[before]));
            let member = self.members[before];
            if last.replace(member) != Some(member) {
                groups.push(Group {
                    values: self.groups[member as usize].clone(),
                    first: now,
                });
            }
        }
        batch.representations = sorted;
        batch.groups = groups;
        batch.values = self.values;
        for (number, _) in &mut batch.targets {
            *number = renumbered[*number as usize];
        }
    }
}

/// Whether a value has no null where its type is non-null: such a null would
/// make the request of all others fail.
fn is_null_safe(ty: &str, text: &[u8]) -> bool {
    if !ty.contains("!]") {
        return !ty.ends_with('!') || text != b"null";
    }
    serde_json::from_slice(text).is_ok_and(|value| is_value_null_safe(ty, &value))
}

fn is_value_null_safe(ty: &str, value: &serde_json::Value) -> bool {
    let (inner, non_null) = match ty.strip_suffix('!') {
        Some(inner) => (inner, true),
        None => (ty, false),
    };
    match value {
        serde_json::Value::Null => !non_null,
        serde_json::Value::Array(items) => {
            let item = inner.strip_prefix('[').and_then(|ty| ty.strip_suffix(']'));
            let item = item.unwrap_or(inner);
            items.iter().all(|value| is_value_null_safe(item, value))
        }
        _ => true,
    }
}

/// The JSON value at the end of a chain of fields.
fn read_leaf(tree: &Tree, object: ObjectId, field: &Required) -> Option<Vec<u8>> {
    let found = tree.get(object, field.key.id)?;
    let mut out = Vec::new();
    write_leaf(tree, found, field, &mut out).then_some(out)
}

/// Writes the value at the end of a chain of fields, lists as lists.
fn write_leaf(tree: &Tree, node: Node, field: &Required, out: &mut Vec<u8>) -> bool {
    if field.nested.is_empty() {
        out.extend_from_slice(tree.raw(node));
        return true;
    }
    match node {
        Node::Object(object) => {
            // Types may have a field of the same name under different keys.
            let below = field.nested.iter().find(|below| match &below.only {
                Some(types) => has_type(tree, object, types),
                None => true,
            });
            let inner = below.and_then(|below| Some((below, tree.get(object, below.key.id)?)));
            inner.is_some_and(|(below, inner)| write_leaf(tree, inner, below, out))
        }
        Node::List(list) => write_list(tree, list, out, |item, out| {
            write_leaf(tree, item, field, out)
        }),
        other => {
            out.extend_from_slice(tree.raw(other));
            true
        }
    }
}
