//! What the type definitions of a supergraph say without its join directives.

use std::collections::BTreeSet;

use apollo_compiler::collections::HashMap;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

use crate::arguments::string_argument;

/// The object types that set each context, directly or through an abstract type.
pub(super) fn contexts(schema: &Schema) -> HashMap<String, BTreeSet<Name>> {
    let possible = possible(schema);
    let mut found: HashMap<String, BTreeSet<Name>> = HashMap::default();
    for (name, ty) in &schema.types {
        // Reading a field of these roots has side effects.
        if matches!(name.as_str(), "Mutation" | "Subscription") {
            continue;
        }
        for directive in ty.directives().get_all("context") {
            if let Some(context) = string_argument(directive, "name") {
                let objects = possible
                    .get(name)
                    .map_or(std::slice::from_ref(name), Vec::as_slice);
                let types = found.entry(context.to_owned()).or_default();
                types.extend(objects.iter().cloned());
            }
        }
    }
    found
}

/// The object types of each abstract type.
pub(super) fn possible(schema: &Schema) -> HashMap<Name, Vec<Name>> {
    let mut found: HashMap<Name, Vec<Name>> = HashMap::default();
    for (name, ty) in &schema.types {
        match ty {
            ExtendedType::Interface(_) => {
                found.entry(name.clone()).or_default();
            }
            ExtendedType::Union(union) => {
                let members = union.members.iter().map(|member| member.name.clone());
                found.entry(name.clone()).or_default().extend(members);
            }
            ExtendedType::Object(object) => {
                for interface in &object.implements_interfaces {
                    found
                        .entry(interface.name.clone())
                        .or_default()
                        .push(name.clone());
                }
            }
            _ => {}
        }
    }
    found
}
