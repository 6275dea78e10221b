//! What a subgraph's text says and its schema no longer does: there, an adopted extension
//! looks like a definition.

use std::collections::HashSet;

use apollo_compiler::Name;
use apollo_compiler::ast::{Definition, Document};

use crate::error::CompositionError;

pub(super) fn definitions(sdl: &str) -> Vec<Definition> {
    Document::parse(sdl, "schema.graphql")
        .map(|document| document.definitions)
        .unwrap_or_default()
}

/// The types that are only extended.
pub(super) fn undefined(text: &[Definition]) -> HashSet<Name> {
    let mut extended = HashSet::new();
    let mut defined = HashSet::new();
    for definition in text {
        let Some(name) = definition.name() else {
            continue;
        };
        match definition {
            Definition::ObjectTypeExtension(_)
            | Definition::InterfaceTypeExtension(_)
            | Definition::UnionTypeExtension(_)
            | Definition::EnumTypeExtension(_)
            | Definition::ScalarTypeExtension(_)
            | Definition::InputObjectTypeExtension(_) => {
                extended.insert(name.clone());
            }
            Definition::DirectiveDefinition(_) => {}
            _ => {
                defined.insert(name.clone());
            }
        }
    }
    extended.retain(|name| !defined.contains(name));
    extended
}

/// GraphQL's own scalars that a subgraph defines as types of another kind.
pub(super) fn redefined_scalars(subgraph: &str, text: &[Definition]) -> Vec<CompositionError> {
    let scalars = ["Int", "Float", "String", "Boolean", "ID"];
    text.iter()
        .filter(|definition| {
            matches!(
                definition,
                Definition::ObjectTypeDefinition(_)
                    | Definition::InterfaceTypeDefinition(_)
                    | Definition::UnionTypeDefinition(_)
                    | Definition::EnumTypeDefinition(_)
                    | Definition::InputObjectTypeDefinition(_)
            )
        })
        .filter_map(|definition| definition.name())
        .filter(|name| scalars.contains(&name.as_str()))
        .map(|name| {
            let message = format!("[{subgraph}] \"{name}\" is a scalar of GraphQL itself");
            CompositionError::new("INVALID_GRAPHQL", message)
        })
        .collect()
}
