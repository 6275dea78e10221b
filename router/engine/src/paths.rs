//! From the slots of the data to the keys of the client.

use stoa_federation::plan::{FieldShape, FieldSource, ObjectShape, ValueShape};

use crate::response::PathSegment;

/// A path through the data as the client sees it. One that runs into a field
/// which only the plan added ends before it.
pub fn to_client(shape: &ObjectShape, path: &[PathSegment]) -> Vec<PathSegment> {
    let mut out = Vec::with_capacity(path.len());
    let mut here = vec![shape];
    for segment in path {
        match segment {
            PathSegment::Index(_) => out.push(segment.clone()),
            PathSegment::Key(slot) => {
                let found: Vec<&FieldShape> = here
                    .iter()
                    .flat_map(|shape| fields(shape))
                    .filter(|field| field.source == FieldSource::Data && field.slot.name == **slot)
                    .collect();
                let Some(first) = found.first() else {
                    return out;
                };
                out.push(PathSegment::Key(first.key.as_str().into()));
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

fn fields(shape: &ObjectShape) -> Vec<&FieldShape> {
    match shape {
        ObjectShape::One(_, fields) => fields.iter().collect(),
        ObjectShape::ByType { known, untyped, .. } => known
            .values()
            .flatten()
            .chain(untyped.iter().flatten())
            .collect(),
    }
}

fn object(value: &ValueShape) -> Option<&ObjectShape> {
    match value {
        ValueShape::NonNull(inner) | ValueShape::List(inner) => object(inner),
        ValueShape::Object(shape) => Some(shape),
        ValueShape::Leaf(_) => None,
    }
}
