//! Which subgraphs may resolve the same field: `@shareable`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apollo_compiler::Name;
use apollo_compiler::ast::FieldDefinition;
use apollo_compiler::schema::Component;

use super::Compose;
use super::interface_objects::implements;
use crate::error::CompositionError;
use crate::subgraph::{Coordinate, Subgraph, fields_of, is_federation_internal};

/// A subgraph that resolves a field, with its definition and whether it shares it.
type Resolver<'a> = (&'a Subgraph, &'a Component<FieldDefinition>, bool);

impl Compose<'_> {
    /// A field that several subgraphs resolve must be shareable in each of them.
    pub(super) fn check_sharing(&mut self) {
        let mut resolvers: HashMap<Coordinate, Vec<Resolver<'_>>> = HashMap::new();
        // Errors keep the order of declaration, which the map does not.
        let mut order = Vec::new();
        for (index, subgraph) in self.subgraphs.iter().enumerate() {
            for (name, ty) in subgraph.own_types() {
                if !ty.is_object() || subgraph.is_interface_object(ty) {
                    continue;
                }
                let public = subgraph.public_name(name);
                for (field_name, field) in fields_of(ty).into_iter().flatten() {
                    let at = (name.clone(), field_name.clone());
                    // An external field that some @provides selects is resolved on those paths.
                    let partly = subgraph.provided.contains(&at);
                    let over = (index, (public.clone(), field_name.clone()));
                    // Skipped: fields that this subgraph does not resolve, or that are overridden.
                    if is_federation_internal(field_name)
                        || (subgraph.externals.contains(&at) && !partly)
                        || self.overrides.overridden.contains_key(&over)
                    {
                        continue;
                    }
                    let coordinate = (public.clone(), field_name.clone());
                    let shareable = subgraph.is_shareable(ty, field) && public != "Subscription";
                    if public == "Subscription" {
                        self.check_subscription(subgraph, field);
                    }
                    let entry = resolvers.entry(coordinate.clone()).or_default();
                    if entry.is_empty() {
                        order.push(coordinate);
                    }
                    entry.push((subgraph, field, shareable));
                }
            }
        }
        for (coordinate, resolver) in interface_object_fields(self.subgraphs) {
            let entry = resolvers.entry(coordinate.clone()).or_default();
            if entry.is_empty() {
                order.push(coordinate);
            }
            entry.push(resolver);
        }
        for coordinate in order {
            let Some(found) = resolvers.get(&coordinate) else {
                continue;
            };
            // Sharing is an error unless all of the subgraphs agree to it.
            if found.len() < 2 || found.iter().all(|(_, _, shareable)| *shareable) {
                continue;
            }
            let (ty, field) = &coordinate;
            let names: Vec<_> = found.iter().map(|(s, _, _)| s.name.as_str()).collect();
            let not: Vec<_> = found
                .iter()
                .filter(|(_, _, shareable)| !shareable)
                .map(|(s, _, _)| s.name.as_str())
                .collect();
            let mut error = CompositionError::new(
                "INVALID_FIELD_SHARING",
                if ty == "Subscription" {
                    format!(
                        "\"{ty}.{field}\" is resolved by {}: a subscription has one source",
                        names.join(", ")
                    )
                } else {
                    format!(
                        "\"{ty}.{field}\" is resolved by {} but is not @shareable in {}",
                        names.join(", "),
                        not.join(", ")
                    )
                },
            );
            for (subgraph, definition, _) in found {
                error = error.at(subgraph.location(definition.location()));
            }
            self.errors.push(error);
        }
    }

    /// A field of Subscription has one source, so it cannot be marked as shared.
    fn check_subscription(&mut self, subgraph: &Subgraph, field: &Component<FieldDefinition>) {
        for directive in subgraph.applied(&field.directives, "shareable") {
            let message = format!(
                "[{}] \"Subscription.{}\" is @shareable: a subscription has one source",
                subgraph.name, field.name
            );
            self.errors.push(
                CompositionError::new("INVALID_FIELD_SHARING", message)
                    .at(subgraph.location(directive.location())),
            );
        }
    }
}

/// The fields of interface objects: for the interface, and for each of its objects for
/// which something else resolves the field too: a subgraph that defines it, or another
/// interface object.
fn interface_object_fields(subgraphs: &[Subgraph]) -> Vec<(Coordinate, Resolver<'_>)> {
    let mut found = Vec::new();
    let mut by_object: BTreeMap<Coordinate, Vec<(&Name, Resolver<'_>)>> = BTreeMap::new();
    // The objects with each field that some subgraph resolves itself.
    let mut own: BTreeSet<Coordinate> = BTreeSet::new();
    for subgraph in subgraphs {
        for (name, ty) in subgraph.own_types() {
            let held = subgraph.is_interface_object(ty);
            for (field_name, field) in fields_of(ty).into_iter().flatten() {
                let at = (name.clone(), field_name.clone());
                if subgraph.externals.contains(&at) {
                    continue;
                }
                if !held {
                    own.insert(at);
                    continue;
                }
                if subgraph.key_fields.contains(&at) {
                    continue;
                }
                let resolver = (subgraph, field, subgraph.is_shareable(ty, field));
                found.push((at, resolver));
                let objects: BTreeSet<&Name> = subgraphs
                    .iter()
                    .flat_map(|other| other.own_types())
                    .filter(|(_, object)| implements(object, name) && object.is_object())
                    .map(|(object, _)| object)
                    .collect();
                for object in objects {
                    let at = (object.clone(), field_name.clone());
                    by_object.entry(at).or_default().push((name, resolver));
                }
            }
        }
    }
    for (at, resolvers) in by_object {
        let interfaces: BTreeSet<&Name> = resolvers.iter().map(|(name, _)| *name).collect();
        if own.contains(&at) || interfaces.len() > 1 {
            let resolvers = resolvers.into_iter();
            found.extend(resolvers.map(|(_, resolver)| (at.clone(), resolver)));
        }
    }
    found
}
