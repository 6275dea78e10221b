//! Entities: finds them in the data and builds one representation for equal ones.

use std::collections::HashMap;

use stoa_federation::plan::{Contexts, EntityInput, PathStep, Required};

use crate::batch::{Batch, MAX_TARGETS, TYPENAME, Target, has_type, write_list};
use crate::groups::Groups;
use crate::tree::{Node, ObjectId, Tree};

/// The most values that are visited to find them.
const MAX_VISITED: usize = 5_000_000;

/// The objects at a path, without representations.
pub fn find(tree: &Tree, path: &[PathStep]) -> Batch {
    let mut walk = Walk::new(tree);
    walk.visit(Node::Object(tree.root()), path, 0, &mut |_, _| Some(0));
    walk.batch
}

/// Collects the representations of the objects at `path`, equal ones once.
pub fn collect(
    tree: &Tree,
    path: &[PathStep],
    inputs: &[EntityInput],
    contexts: Option<&Contexts>,
) -> Batch {
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut representations = Vec::new();
    let mut groups = Groups::default();
    let mut bytes = Vec::new();
    let mut walk = Walk::new(tree);
    walk.visit(
        Node::Object(tree.root()),
        path,
        0,
        &mut |object, ancestors| {
            bytes.clear();
            if !write_representation(tree, object, inputs, &mut bytes) {
                return None;
            }
            let group = match contexts {
                Some(contexts) => Some(groups.group_of(tree, contexts, ancestors)?),
                None => None,
            };
            let length = bytes.len();
            // Representations in different groups are different.
            bytes.extend(group.into_iter().flat_map(u32::to_be_bytes));
            if let Some(known) = seen.get(&bytes) {
                return Some(*known);
            }
            let number = u32::try_from(representations.len()).ok()?;
            seen.insert(bytes.clone(), number);
            bytes.truncate(length);
            representations.push(bytes.clone());
            groups.members.extend(group);
            Some(number)
        },
    );
    let mut batch = walk.batch;
    batch.representations = representations;
    batch.overflow |= groups.is_too_large();
    groups.sort(&mut batch);
    // They were found in the order of the data.
    batch.targets.sort_by_key(|(number, _)| *number);
    batch
}

/// Returns the index of an object's representation, if it has one. The second
/// argument is the objects on the path to it, one for each number of keys.
type Visitor<'v> = dyn FnMut(ObjectId, &[ObjectId]) -> Option<u32> + 'v;

/// A walk along a path.
struct Walk<'t> {
    tree: &'t Tree,
    batch: Batch,
    visited: usize,
    /// The list indexes on the path so far.
    at: Vec<u32>,
    ancestors: Vec<ObjectId>,
}

impl<'t> Walk<'t> {
    fn new(tree: &'t Tree) -> Self {
        Self {
            tree,
            batch: Batch::default(),
            visited: 0,
            at: Vec::new(),
            ancestors: Vec::new(),
        }
    }

    fn visit(&mut self, node: Node, path: &[PathStep], key: usize, found: &mut Visitor<'_>) {
        self.visited += 1;
        if self.visited > MAX_VISITED || self.batch.targets.len() > MAX_TARGETS {
            self.batch.overflow = true;
            return;
        }
        match node {
            Node::List(list) => {
                for (index, item) in self.tree.items(list).iter().enumerate() {
                    self.at.push(u32::try_from(index).unwrap_or(u32::MAX));
                    self.visit(*item, path, key, found);
                    self.at.pop();
                }
            }
            Node::Object(object) => {
                self.ancestors.truncate(key);
                self.ancestors.push(object);
                match path.split_first() {
                    None => self.add_target(object, key, found),
                    Some((PathStep::Key(slot), rest)) => {
                        if let Some(inner) = self.tree.get(object, slot.id) {
                            note_lists(&mut self.batch, key, self.at.len());
                            self.visit(inner, rest, key + 1, found);
                        }
                    }
                    Some((PathStep::Types(types), rest)) => {
                        if has_type(self.tree, object, types) {
                            self.visit(node, rest, key, found);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn add_target(&mut self, object: ObjectId, key: usize, found: &mut Visitor<'_>) {
        let Some(number) = found(object, &self.ancestors) else {
            return;
        };
        let batch = &mut self.batch;
        note_lists(batch, key, self.at.len());
        let start = u32::try_from(batch.indexes.len()).unwrap_or(u32::MAX);
        batch.indexes.extend_from_slice(&self.at);
        let end = u32::try_from(batch.indexes.len()).unwrap_or(u32::MAX);
        batch.targets.push((number, Target { object, start, end }));
    }
}

/// Records that the first `keys` keys of the path go through `total` lists.
fn note_lists(batch: &mut Batch, keys: usize, total: usize) {
    let Some(last) = keys.checked_sub(1) else {
        return;
    };
    if batch.lists.len() <= last {
        let before: u32 = batch.lists.iter().sum();
        batch.lists.resize(last, 0);
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        batch.lists.push(total.saturating_sub(before));
    }
}

/// Writes the representation of an object; false if it has none.
fn write_representation(
    tree: &Tree,
    object: ObjectId,
    inputs: &[EntityInput],
    out: &mut Vec<u8>,
) -> bool {
    let typename = tree
        .get(object, TYPENAME)
        .and_then(|name| tree.unescaped_text(name));
    let input = match (typename, inputs) {
        (Some(name), inputs) => inputs
            .iter()
            .find(|input| input.types.iter().any(|ty| ty == name)),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let Some(input) = input else { return false };
    out.extend_from_slice(b"{\"__typename\":\"");
    out.extend_from_slice(input.typename.as_bytes());
    out.push(b'"');
    let complete = write_fields(tree, object, &input.keys, true, out)
        && write_fields(tree, object, &input.requires, false, out);
    out.push(b'}');
    complete && (!may_be_null(&input.keys) || identifies(tree, object, &input.keys))
}

/// Whether all fields of a key may be null.
fn may_be_null(keys: &[Required]) -> bool {
    keys.iter()
        .all(|key| key.nullable.first().is_some_and(|nullable| *nullable))
}

/// Whether some field of a key has a value: of nothing but nulls, no entity can be found.
fn identifies(tree: &Tree, object: ObjectId, keys: &[Required]) -> bool {
    fn has_value(tree: &Tree, node: Node, key: &Required) -> bool {
        match node {
            Node::Null => false,
            Node::Object(object) if !key.nested.is_empty() => identifies(tree, object, &key.nested),
            Node::List(list) => {
                let mut items = tree.items(list).iter();
                items.any(|item| has_value(tree, *item, key))
            }
            _ => true,
        }
    }
    keys.iter().all(|key| key.field == "__typename")
        || keys.iter().any(|key| {
            let value = tree.get(object, key.key.id);
            key.field != "__typename" && value.is_some_and(|value| has_value(tree, value, key))
        })
}

/// Whether a key's value has nulls only where the type of its field allows them. The
/// subgraph would otherwise refuse the value, or find another entity.
fn is_null_safe(tree: &Tree, value: Node, nullable: &[bool]) -> bool {
    match (value, nullable) {
        (Node::Null, [allowed, ..]) => *allowed,
        (Node::Null, []) => false,
        (Node::List(list), [_, items @ ..]) => tree
            .items(list)
            .iter()
            .all(|item| is_null_safe(tree, *item, items)),
        _ => true,
    }
}

/// Writes fields, each after a comma; false if one is missing, or where `strict` null
/// against its type.
fn write_fields(
    tree: &Tree,
    object: ObjectId,
    required: &[Required],
    strict: bool,
    out: &mut Vec<u8>,
) -> bool {
    let mut cursor = tree.start(object);
    for required in required {
        if required.field == "__typename" {
            continue;
        }
        if let Some(types) = &required.only
            && !has_type(tree, object, types)
        {
            continue;
        }
        let Some(value) = tree.field(object, required.key.id, &mut cursor) else {
            return false;
        };
        if strict && !is_null_safe(tree, value, &required.nullable) {
            return false;
        }
        out.extend_from_slice(b",\"");
        out.extend_from_slice(required.field.as_bytes());
        out.extend_from_slice(b"\":");
        if !write_nested(tree, value, &required.nested, strict, out) {
            return false;
        }
    }
    true
}

fn write_nested(
    tree: &Tree,
    value: Node,
    required: &[Required],
    strict: bool,
    out: &mut Vec<u8>,
) -> bool {
    if required.is_empty() {
        out.extend_from_slice(tree.raw(value));
        return true;
    }
    match value {
        Node::Object(object) => {
            out.push(b'{');
            let start = out.len();
            if let Some(name) = tree.get(object, TYPENAME) {
                out.extend_from_slice(b",\"__typename\":");
                out.extend_from_slice(tree.raw(name));
            }
            if !write_fields(tree, object, required, strict, out) {
                return false;
            }
            if out.len() > start {
                out.remove(start);
            }
            out.push(b'}');
            true
        }
        Node::List(list) => write_list(tree, list, out, |item, out| {
            write_nested(tree, item, required, strict, out)
        }),
        other => {
            out.extend_from_slice(tree.raw(other));
            true
        }
    }
}
