//! Queries that together reach every field in every way, which all must have a plan.

use std::collections::{BTreeSet, VecDeque};

use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

/// A place that a path leads to.
struct Place<'s> {
    ty: &'s Name,
    /// The last two steps to it, each a type and a field.
    from: [(&'s str, &'s str); 2],
    /// Whether the path narrowed its type.
    narrowed: bool,
    steps: Vec<String>,
}

/// One query for each field that returns an object, after each field that leads to the
/// field's type, along the shortest path; it selects all leaves of the object. How an object
/// was reached decides what else can be, and rarely what was before that.
pub fn paths(schema: &Schema) -> Vec<String> {
    let definition = &schema.schema_definition;
    let mut queue: VecDeque<Place<'_>> = VecDeque::new();
    for (kind, root) in [
        ("query", &definition.query),
        ("mutation", &definition.mutation),
    ] {
        if let Some(root) = root {
            queue.push_back(Place {
                ty: &root.name,
                from: [("", kind); 2],
                narrowed: false,
                steps: vec![kind.to_owned()],
            });
        }
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(place) = queue.pop_front() {
        if !seen.insert((place.from, place.ty.as_str())) {
            continue;
        }
        let mut query = place.steps.join(" { ");
        query.push_str(" { ");
        query.push_str(&leaves(schema, place.ty));
        query.push_str(&" }".repeat(place.steps.len()));
        found.push(query);
        let below = |step: String| {
            let mut steps = place.steps.clone();
            steps.push(step);
            steps
        };
        for (name, ty) in fields(schema, place.ty) {
            if schema.types.get(ty).is_some_and(|ty| !ty.is_leaf()) {
                queue.push_back(Place {
                    ty,
                    from: [place.from[1], (place.ty, name)],
                    narrowed: false,
                    steps: below(name.to_string()),
                });
            }
        }
        for member in members(schema, place.ty) {
            if !place.narrowed {
                queue.push_back(Place {
                    ty: member,
                    from: place.from,
                    narrowed: true,
                    steps: below(format!("... on {member}")),
                });
            }
        }
    }
    found
}

fn leaves(schema: &Schema, ty: &Name) -> String {
    let leaves: Vec<&str> = fields(schema, ty)
        .filter(|(_, ty)| schema.types.get(*ty).is_some_and(ExtendedType::is_leaf))
        .map(|(name, _)| name.as_str())
        .collect();
    match leaves.is_empty() {
        true => "__typename".to_owned(),
        false => leaves.join(" "),
    }
}

fn fields<'s>(schema: &'s Schema, ty: &Name) -> impl Iterator<Item = (&'s Name, &'s Name)> {
    let fields = match schema.types.get(ty) {
        Some(ExtendedType::Object(object)) => Some(&object.fields),
        Some(ExtendedType::Interface(interface)) => Some(&interface.fields),
        _ => None,
    };
    fields
        .into_iter()
        .flatten()
        .map(|(name, field)| (name, field.ty.inner_named_type()))
}

fn members<'s>(schema: &'s Schema, ty: &Name) -> Vec<&'s Name> {
    match schema.types.get(ty) {
        Some(ExtendedType::Union(union)) => union.members.iter().map(|m| &m.name).collect(),
        Some(ExtendedType::Interface(_)) => schema
            .types
            .iter()
            .filter(|(_, other)| {
                other
                    .as_object()
                    .is_some_and(|object| object.implements_interfaces.contains(ty))
            })
            .map(|(name, _)| name)
            .collect(),
        _ => Vec::new(),
    }
}
