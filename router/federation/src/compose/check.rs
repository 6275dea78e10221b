//! The rules that span subgraphs.

use std::collections::HashSet;

use apollo_compiler::ast::Selection;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

use super::Compose;
use super::interface_objects::implements;
use crate::access::imply;
use crate::error::{CompositionError, Hint, Level};
use crate::subgraph::{Fields, Subgraph, fields_of};
use crate::supergraph::Supergraph;

/// Federation directives that every supergraph carries.
pub(super) const CARRIED: &[&str] = &[
    "tag",
    "inaccessible",
    "authenticated",
    "requiresScopes",
    "policy",
    "cost",
    "listSize",
];

impl Compose<'_> {
    pub(super) fn check_names(&mut self) {
        let mut seen = HashSet::new();
        for subgraph in self.subgraphs {
            if !seen.insert(&subgraph.name) {
                self.errors.push(CompositionError::new(
                    "INVALID_SUBGRAPH_NAME",
                    format!("two subgraphs are called \"{}\"", subgraph.name),
                ));
            }
        }
    }

    /// A field that reads other fields must have their access demands too, or it
    /// could reveal what the client may not see.
    pub(super) fn check_transitive_access(&mut self, graph: &Supergraph) {
        let mut found: Vec<_> = graph
            .required_demands()
            .into_iter()
            .filter(|((ty, field), demands)| {
                let met = graph.met_by(ty, field);
                let demands = demands
                    .iter()
                    .filter_map(|id| graph.demands().get(*id as usize));
                demands
                    .into_iter()
                    .any(|demand| met.iter().any(|met| !imply(met, demand)))
            })
            .map(|(at, _)| at)
            .collect();
        found.sort();
        for (ty, field) in found {
            self.errors.push(CompositionError::new(
                "MISSING_TRANSITIVE_AUTH_REQUIREMENTS",
                format!(
                    "\"{ty}.{field}\" reads fields with @authenticated, @requiresScopes or @policy, but does not have the same requirements itself"
                ),
            ));
        }
    }

    /// An extended type must be defined in some subgraph: with `@extends` it is. In
    /// Federation 1 it must be another subgraph.
    pub(super) fn check_extensions(&mut self) {
        for (index, subgraph) in self.subgraphs.iter().enumerate() {
            for (name, ty) in subgraph.own_types() {
                let public = subgraph.public_name(name);
                let elsewhere = subgraph.is_federation_1()
                    && (ty.is_object() || ty.is_interface())
                    && subgraph.extensions.contains(name);
                if !(elsewhere || subgraph.undefined.contains(name))
                    || matches!(public.as_str(), "Query" | "Mutation" | "Subscription")
                {
                    continue;
                }
                let defined = self.subgraphs.iter().enumerate().any(|(other, definer)| {
                    !(elsewhere && other == index)
                        && definer.schema.types.contains_key(name)
                        && !definer.undefined.contains(name)
                });
                if !defined {
                    self.errors.push(
                        CompositionError::new(
                            "EXTENSION_WITH_NO_BASE",
                            format!(
                                "[{}] \"{name}\" is extended here, but no subgraph defines it",
                                subgraph.name
                            ),
                        )
                        .at(subgraph.location(ty.name().location())),
                    );
                }
            }
        }
    }

    /// An external field must be resolved elsewhere and used here.
    pub(super) fn check_externals(&mut self) {
        for subgraph in self.subgraphs {
            for (name, ty) in subgraph.own_types() {
                for (field_name, field) in fields_of(ty).into_iter().flatten() {
                    if !subgraph.is_external(name, field_name) || ty.is_interface() {
                        continue;
                    }
                    let at = subgraph.location(field.location());
                    let used = subgraph.used.contains(&(name.clone(), field_name.clone()));
                    let for_interface = self.implements_interface_with(subgraph, ty, field_name);
                    let unused = !used && !for_interface;
                    if unused && subgraph.is_federation_1() {
                        continue;
                    }
                    if !self.is_resolved(&subgraph.public_name(name), field_name) {
                        self.errors.push(
                            CompositionError::new(
                                "EXTERNAL_MISSING_ON_BASE",
                                format!(
                                    "[{}] \"{name}.{field_name}\" is @external, but no other subgraph defines it",
                                    subgraph.name
                                ),
                            )
                            .at(at.clone()),
                        );
                    }
                    if unused {
                        self.errors.push(
                            CompositionError::new(
                                "EXTERNAL_UNUSED",
                                format!(
                                    "[{}] \"{name}.{field_name}\" is @external, but no @key, @requires or @provides uses it",
                                    subgraph.name
                                ),
                            )
                            .at(at),
                        );
                    }
                }
            }
        }
    }

    fn implements_interface_with(
        &self,
        subgraph: &Subgraph,
        ty: &ExtendedType,
        field: &Name,
    ) -> bool {
        matches!(ty, ExtendedType::Object(object)
        if object.implements_interfaces.iter().any(|interface| {
            subgraph.schema.get_interface(interface).is_some_and(|i| i.fields.contains_key(field))
        }))
    }

    /// Whether some subgraph resolves a field, itself or as an interface object.
    fn is_resolved(&self, ty: &Name, field: &Name) -> bool {
        let interfaces: HashSet<&Name> = self
            .subgraphs
            .iter()
            .flat_map(|s| s.own_types())
            .filter(|(name, _)| *name == ty)
            .filter_map(|(_, ty)| ty.as_object())
            .flat_map(|object| &object.implements_interfaces)
            .map(|interface| &interface.name)
            .collect();
        self.subgraphs.iter().any(|other| {
            other.own_types().any(|(name, definition)| {
                let held = other.is_interface_object(definition) && interfaces.contains(name);
                (other.public_name(name) == *ty || held)
                    && fields_of(definition).is_some_and(|fields| fields.contains_key(field))
                    && !other.is_external(name, field)
            })
        })
    }

    /// A directive that the supergraph keeps must have the same name in all
    /// subgraphs that use it.
    pub(super) fn check_directive_names(&mut self) {
        for canonical in CARRIED {
            let mut names: Vec<(&str, &str)> = Vec::new();
            for subgraph in self.subgraphs.iter().filter(|s| !s.is_federation_1()) {
                let used = subgraph.own_types().find_map(|(_, ty)| {
                    every_directive(ty).find(|d| subgraph.canonical(d) == Some(canonical))
                });
                if let Some(used) = used {
                    names.push((subgraph.name.as_str(), used.name.as_str()));
                }
            }
            let reserved = names.iter().find(|(_, name)| {
                let specification = name.split_once("__").map_or("", |(prefix, _)| prefix);
                matches!(specification, "join" | "link")
            });
            if let Some((subgraph, name)) = reserved {
                self.errors.push(CompositionError::new(
                    "INVALID_LINK_DIRECTIVE_USAGE",
                    format!(
                        "[{subgraph}] @{canonical} cannot be imported as @{name}: in the supergraph that is a name of another specification"
                    ),
                ));
            }
            if let Some((first, rest)) = names.split_first()
                && rest.iter().any(|(_, name)| *name != first.1)
            {
                let all: Vec<_> = names
                    .iter()
                    .map(|(subgraph, name)| format!("@{name} in {subgraph}"))
                    .collect();
                self.errors.push(CompositionError::new(
                    "LINK_IMPORT_NAME_MISMATCH",
                    format!("@{canonical} has different names: {}", all.join(", ")),
                ));
            }
        }
    }

    /// Every implementation must have all merged fields of its interface.
    pub(super) fn check_implementations(&mut self, schema: &Schema) {
        for (name, ty) in &schema.types {
            let ExtendedType::Interface(interface) = ty else {
                continue;
            };
            for (object, other) in &schema.types {
                if !implements(other, name) {
                    continue;
                }
                for field in interface.fields.keys() {
                    if fields_of(other).is_some_and(|fields| fields.contains_key(field)) {
                        continue;
                    }
                    let mut error = CompositionError::new(
                        "INTERFACE_FIELD_NO_IMPLEM",
                        format!(
                            "interface \"{name}\" has \"{field}\", which its implementation \"{object}\" lacks"
                        ),
                    );
                    for subgraph in self.subgraphs {
                        if let Some(definition) = subgraph.schema.get_interface(name)
                            && let Some(field) = definition.fields.get(field)
                        {
                            error = error.at(subgraph.location(field.location()));
                        }
                    }
                    self.errors.push(error);
                }
            }
        }
    }

    /// The fields that `@requires` selects must exist in the merged schema, with the
    /// arguments given.
    pub(super) fn check_required_arguments(&mut self, schema: &Schema) {
        for subgraph in self.subgraphs {
            for (name, ty) in subgraph.own_types() {
                for field in fields_of(ty).into_iter().flat_map(Fields::values) {
                    for directive in subgraph.applied(&field.directives, "requires") {
                        let Some(set) = subgraph.field_set_of(directive, name, false) else {
                            continue;
                        };
                        if let Some(reason) =
                            unselectable_reason(schema, &subgraph.public_name(name), &set)
                        {
                            self.errors.push(
                                CompositionError::new(
                                    "REQUIRES_INVALID_FIELDS",
                                    format!(
                                        "[{}] on \"{name}.{}\", for @requires: {reason}",
                                        subgraph.name, field.name
                                    ),
                                )
                                .at(subgraph.location(directive.location())),
                            );
                        }
                    }
                }
            }
        }
    }

    /// Subgraphs that share a field of an abstract type must be able to return the
    /// same object types.
    pub(super) fn check_runtime_types(&mut self, graph: &Supergraph) {
        for (ty, field, by_subgraph) in graph.shared_abstract_fields() {
            let (first, rest) = match by_subgraph.split_first() {
                Some(split) => split,
                None => continue,
            };
            let all: Vec<String> = by_subgraph
                .iter()
                .map(|(name, types)| format!("{} in {name}", types.join(" or ")))
                .collect();
            let common = first
                .1
                .iter()
                .any(|ty| rest.iter().all(|(_, types)| types.contains(ty)));
            if !common {
                self.errors.push(CompositionError::new(
                    "SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES",
                    format!(
                        "\"{ty}.{field}\" is shared, but has no type in common: {}",
                        all.join(", ")
                    ),
                ));
            } else if rest.iter().any(|(_, types)| *types != first.1) {
                self.hints.push(Hint::new(
                    Level::Warn,
                    "INCONSISTENT_RUNTIME_TYPES_FOR_SHAREABLE_RETURN",
                    format!("\"{ty}.{field}\" is shared, but may be {}", all.join(", ")),
                ));
            }
        }
    }
}

fn unselectable_reason(schema: &Schema, ty: &Name, set: &[Selection]) -> Option<String> {
    set.iter().find_map(|selection| match selection {
        Selection::Field(field) if field.name == "__typename" => None,
        Selection::Field(field) => {
            let definition = match schema.type_field(ty, &field.name) {
                Ok(definition) => definition,
                Err(_) => return Some(format!("\"{ty}\" has no field \"{}\"", field.name)),
            };
            for argument in &field.arguments {
                if definition.argument_by_name(&argument.name).is_none() {
                    return Some(format!(
                        "\"{ty}.{}\" has no argument \"{}\" in every subgraph",
                        field.name, argument.name
                    ));
                }
            }
            let missing = definition.arguments.iter().find(|wanted| {
                wanted.is_required() && !field.arguments.iter().any(|a| a.name == wanted.name)
            });
            if let Some(missing) = missing {
                return Some(format!(
                    "\"{ty}.{}\" needs its argument \"{}\"",
                    field.name, missing.name
                ));
            }
            unselectable_reason(
                schema,
                definition.ty.inner_named_type(),
                &field.selection_set,
            )
        }
        Selection::InlineFragment(inline) => {
            let condition = inline.type_condition.as_ref().unwrap_or(ty);
            if !overlap(schema, ty, condition) {
                return Some(format!("\"{ty}\" is never \"{condition}\""));
            }
            unselectable_reason(schema, condition, &inline.selection_set)
        }
        Selection::FragmentSpread(_) => None,
    })
}

/// Whether some object can be of both types.
fn overlap(schema: &Schema, a: &Name, b: &Name) -> bool {
    let possible = |name: &Name| -> HashSet<Name> {
        match schema.types.get(name) {
            Some(ExtendedType::Union(union)) => {
                union.members.iter().map(|m| m.name.clone()).collect()
            }
            Some(ExtendedType::Interface(_)) => {
                let all = schema.types.iter();
                all.filter(|(_, ty)| ty.is_object() && implements(ty, name))
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            _ => HashSet::from([name.clone()]),
        }
    };
    !possible(a).is_disjoint(&possible(b))
}

/// Every directive on or in a type.
pub(super) fn every_directive(
    ty: &ExtendedType,
) -> Box<dyn Iterator<Item = &apollo_compiler::Node<apollo_compiler::ast::Directive>> + '_> {
    let own = ty.directives().iter().map(|d| &d.node);
    let inside: Vec<_> = match ty {
        ExtendedType::Object(_) | ExtendedType::Interface(_) => fields_of(ty)
            .into_iter()
            .flat_map(Fields::values)
            .flat_map(|field| {
                let arguments = field.arguments.iter().flat_map(|a| a.directives.iter());
                field.directives.iter().chain(arguments)
            })
            .collect(),
        ExtendedType::Enum(definition) => definition
            .values
            .values()
            .flat_map(|value| value.directives.iter())
            .collect(),
        ExtendedType::InputObject(input) => input
            .fields
            .values()
            .flat_map(|field| field.directives.iter())
            .collect(),
        _ => Vec::new(),
    };
    Box::new(own.chain(inside))
}
