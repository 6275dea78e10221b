//! `@interfaceObject`: a subgraph adds fields to an interface without knowing
//! what implements it.

use std::collections::HashSet;

use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Schema};

use super::{Compose, spec::DirectiveBuilder};
use crate::arguments::bool_argument;
use crate::error::CompositionError;
use crate::subgraph::{fields_of, is_federation_internal};

impl Compose<'_> {
    pub(super) fn check_interface_objects(&mut self) {
        let mut seen = HashSet::new();
        for subgraph in self.subgraphs {
            for (name, ty) in subgraph.own_types() {
                if !subgraph.is_interface_object(ty) {
                    continue;
                }
                let location = subgraph.location(ty.name().location());
                let mut report = |message: String| {
                    self.errors.push(
                        CompositionError::new(
                            "INTERFACE_OBJECT_USAGE_ERROR",
                            format!("[{}] {message}", subgraph.name),
                        )
                        .at(location.clone()),
                    );
                };
                let real = self
                    .subgraphs
                    .iter()
                    .any(|other| other.schema.get_interface(name).is_some());
                if !real && seen.insert(name.clone()) {
                    report(format!(
                        "\"{name}\" is an @interfaceObject in every subgraph: some subgraph must define the interface"
                    ));
                }
                let implementations: HashSet<&Name> = self
                    .subgraphs
                    .iter()
                    .flat_map(|other| other.own_types())
                    .filter(|(_, ty)| ty.is_object() && implements(ty, name))
                    .map(|(name, _)| name)
                    .collect();
                // Another interface object may be an interface that implements this one.
                for (own, _) in subgraph.own_types() {
                    if implementations.contains(own) {
                        report(format!(
                            "\"{name}\" is an @interfaceObject here, so its implementation \"{own}\" cannot be defined here as well"
                        ));
                    }
                }
                let of_federation_1 = self
                    .subgraphs
                    .iter()
                    .find(|other| other.is_federation_1() && other.schema.types.contains_key(name));
                if let Some(other) = of_federation_1 {
                    report(format!(
                        "\"{name}\" is an @interfaceObject, which Federation 1 in \"{}\" does not support",
                        other.name
                    ));
                }
            }
        }
        self.check_interface_keys();
    }

    /// A subgraph with a resolvable key on an interface must define all its objects.
    fn check_interface_keys(&mut self) {
        for subgraph in self.subgraphs {
            if subgraph.is_federation_1() {
                continue;
            }
            for (name, ty) in subgraph.own_types() {
                let resolvable = subgraph
                    .on_type(ty, "key")
                    .iter()
                    .any(|key| bool_argument(key, "resolvable") != Some(false));
                if !ty.is_interface() || !resolvable {
                    continue;
                }
                let mut missing: Vec<&Name> = self
                    .subgraphs
                    .iter()
                    .flat_map(|other| other.own_types())
                    .filter(|(other, ty)| {
                        implements(ty, name) && !subgraph.schema.types.contains_key(*other)
                    })
                    .map(|(name, _)| name)
                    .collect();
                missing.sort();
                missing.dedup();
                for other in missing {
                    self.errors.push(
                        CompositionError::new(
                            "INTERFACE_KEY_MISSING_IMPLEMENTATION_TYPE",
                            format!(
                                "[{}] interface \"{name}\" has a resolvable @key, so this subgraph must define its implementation \"{other}\"",
                                subgraph.name
                            ),
                        )
                        .at(subgraph.location(ty.name().location())),
                    );
                }
            }
        }
    }

    /// Adds the fields of interface objects to each implementation.
    pub(super) fn add_interface_object_fields(&mut self, schema: &mut Schema) {
        for subgraph in self.subgraphs {
            for (name, ty) in subgraph.own_types() {
                if !subgraph.is_interface_object(ty) {
                    continue;
                }
                let Some(interface) = schema.get_interface(name).cloned() else {
                    continue;
                };
                let objects: Vec<Name> = schema
                    .types
                    .iter()
                    .filter(|(_, ty)| ty.is_object() && implements(ty, name))
                    .map(|(name, _)| name.clone())
                    .collect();
                for field in fields_of(ty).into_iter().flat_map(|fields| fields.keys()) {
                    if is_federation_internal(field) || subgraph.is_external(name, field) {
                        continue;
                    }
                    let Some(definition) = interface.fields.get(field) else {
                        continue;
                    };
                    for object in &objects {
                        let Some(ExtendedType::Object(object)) = schema.types.get_mut(object)
                        else {
                            continue;
                        };
                        let object = object.make_mut();
                        if object.fields.contains_key(field) {
                            continue;
                        }
                        let mut added = (*definition.node).clone();
                        added.directives.0.retain(|d| d.name != "join__field");
                        added
                            .directives
                            .0
                            .insert(0, DirectiveBuilder::new("join__field").build());
                        object.fields.insert(field.clone(), Component::new(added));
                    }
                }
            }
        }
    }
}

/// Whether a type implements an interface.
pub(super) fn implements(ty: &ExtendedType, interface: &Name) -> bool {
    match ty {
        ExtendedType::Object(object) => object
            .implements_interfaces
            .iter()
            .any(|i| i.name == *interface),
        ExtendedType::Interface(other) => other
            .implements_interfaces
            .iter()
            .any(|i| i.name == *interface),
        _ => false,
    }
}
