//! The objects that a fetch is for.

use stoa_federation::plan::PathStep;

use crate::response::PathSegment;
use crate::tree::{ListId, Node, ObjectId, Tree};

/// The slot of `__typename`.
pub(crate) const TYPENAME: u32 = 0;
/// The most objects that one fetch may be for: an entity that occurs at many
/// places multiplies what is below it.
pub const MAX_TARGETS: usize = 200_000;

/// An object of the data, with the list indexes of the path to it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub object: ObjectId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// The objects that a fetch is for, and their representations.
#[derive(Debug, Default)]
pub struct Batch {
    /// As JSON, without duplicates.
    pub representations: Vec<Vec<u8>>,
    /// Each with the index of its representation, sorted by that index.
    pub targets: Vec<(u32, Target)>,
    /// If the fetch has contexts: the groups of equal context values, in order.
    pub groups: Vec<Group>,
    /// The context values, as JSON.
    pub values: Vec<Vec<u8>>,
    /// There were more than [`MAX_TARGETS`].
    pub overflow: bool,
    pub(crate) indexes: Vec<u32>,
    /// How many lists each key of the path goes through.
    pub(crate) lists: Vec<u32>,
}

impl Batch {
    /// The path of a target, under the data's own keys.
    pub fn path(&self, target: Target, path: &[PathStep]) -> Vec<PathSegment> {
        let mut indexes = self.indexes[target.start as usize..target.end as usize].iter();
        let keys = path.iter().filter_map(|step| match step {
            PathStep::Key(slot) => Some(slot),
            PathStep::Types(_) => None,
        });
        let mut out = Vec::new();
        for (key, slot) in keys.enumerate() {
            out.push(PathSegment::Key(slot.name.as_str().into()));
            let lists = self.lists.get(key).copied().unwrap_or(0);
            for index in indexes.by_ref().take(lists as usize) {
                out.push(PathSegment::Index(*index as usize));
            }
        }
        out
    }

    /// The targets of `count` representations from `first` on.
    pub fn targets_of(&self, first: u32, count: u32) -> &[(u32, Target)] {
        let from = self.targets.partition_point(|(number, _)| *number < first);
        let until = first.saturating_add(count);
        let to = self.targets.partition_point(|(number, _)| *number < until);
        &self.targets[from..to]
    }
}

/// Representations with equal context values.
#[derive(Debug)]
pub struct Group {
    /// For each context of the fetch, in order: an index into the batch's values.
    pub values: Vec<u32>,
    /// The index of its first representation.
    pub first: u32,
}

pub(crate) fn has_type(tree: &Tree, object: ObjectId, types: &[impl AsRef<str>]) -> bool {
    tree.get(object, TYPENAME)
        .and_then(|name| tree.unescaped_text(name))
        .is_some_and(|name| types.iter().any(|ty| ty.as_ref() == name))
}

/// Writes a list by its items; false if one cannot be written.
pub(crate) fn write_list(
    tree: &Tree,
    list: ListId,
    out: &mut Vec<u8>,
    item: impl Fn(Node, &mut Vec<u8>) -> bool,
) -> bool {
    out.push(b'[');
    for (index, node) in tree.items(list).iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if !item(*node, out) {
            return false;
        }
    }
    out.push(b']');
    true
}
