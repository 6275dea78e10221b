//! Maps paths through the data's slots to the client's response keys.

use stoa_federation::plan::{FieldShape, FieldSource, ObjectShape, ValueShape};

use crate::response::PathSegment;
use crate::tree::{Node, Tree};

const TYPENAME: u32 = 0;

/// A path through the data as the client sees it. It ends before the first field
/// that only the plan added.
pub fn to_client(shape: &ObjectShape, tree: &Tree, path: &[PathSegment]) -> Vec<PathSegment> {
    let mut out = Vec::with_capacity(path.len());
    let mut here = vec![shape];
    // The value at the path so far, while there is one.
    let mut node = Some(Node::Object(tree.root()));
    for segment in path {
        match segment {
            PathSegment::Index(index) => {
                out.push(segment.clone());
                node = match node {
                    Some(Node::List(list)) => tree.items(list).get(*index).copied(),
                    _ => None,
                };
            }
            PathSegment::Key(slot) => {
                let found: Vec<&FieldShape> = here
                    .iter()
                    .flat_map(|shape| fields(shape, tree, node))
                    .filter(|field| field.source == FieldSource::Data && field.slot.name == **slot)
                    .collect();
                let Some(first) = found.first() else {
                    return out;
                };
                out.push(PathSegment::Key(first.key.as_str().into()));
                node = match node {
                    Some(Node::Object(object)) => tree.get(object, first.slot.id),
                    _ => None,
                };
                here = found
                    .iter()
                    .filter(|field| field.key == first.key)
                    .filter_map(|field| object(&field.value))
                    .collect();
            }
        }
    }
    out
}

/// The fields of an object by its type; if that is unknown, those of all types.
fn fields<'s>(shape: &'s ObjectShape, tree: &Tree, node: Option<Node>) -> Vec<&'s FieldShape> {
    match shape {
        ObjectShape::One(_, fields) => fields.iter().collect(),
        ObjectShape::ByType { known, untyped, .. } => {
            let typename = match node {
                Some(Node::Object(object)) => tree.get(object, TYPENAME),
                _ => None,
            };
            let own = typename
                .and_then(|name| tree.unescaped_text(name))
                .and_then(|name| known.get(name));
            if let Some(own) = own {
                return own.iter().collect();
            }
            let mut all: Vec<_> = known.iter().collect();
            all.sort_by_key(|(name, _)| *name);
            all.into_iter()
                .flat_map(|(_, fields)| fields)
                .chain(untyped.iter().flatten())
                .collect()
        }
    }
}

fn object(value: &ValueShape) -> Option<&ObjectShape> {
    match value {
        ValueShape::NonNull(inner) | ValueShape::List(inner) => object(inner),
        ValueShape::Object(shape) => Some(shape),
        ValueShape::Leaf(_) => None,
    }
}
