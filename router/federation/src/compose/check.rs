//! The rules that merging alone does not enforce.

use std::collections::{HashMap, HashSet};

use apollo_compiler::ast::{FieldDefinition, Selection};
use apollo_compiler::executable::FieldSet as TypedFieldSet;
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Node};

use crate::error::CompositionError;
use crate::field_set;
use crate::subgraph::{Subgraph, is_machinery, string_argument};

pub(super) type Fields = apollo_compiler::collections::IndexMap<Name, Component<FieldDefinition>>;

/// The fields of an object or interface.
pub(super) fn fields_of(ty: &ExtendedType) -> Option<&Fields> {
    match ty {
        ExtendedType::Object(object) => Some(&object.fields),
        ExtendedType::Interface(interface) => Some(&interface.fields),
        _ => None,
    }
}

/// The types that a subgraph itself defines.
pub(super) fn own_types(subgraph: &Subgraph) -> impl Iterator<Item = (&Name, &ExtendedType)> {
    subgraph
        .schema
        .types
        .iter()
        .filter(|(name, ty)| !ty.is_built_in() && !is_machinery(name))
}

pub(super) fn names(subgraphs: &[Subgraph], errors: &mut Vec<CompositionError>) {
    let mut seen = HashSet::new();
    for subgraph in subgraphs {
        if !seen.insert(super::spec::graph_name(&subgraph.name)) {
            errors.push(CompositionError::new(
                "INVALID_SUBGRAPH_NAME",
                format!("two subgraphs are called \"{}\"", subgraph.name),
            ));
        }
    }
}

/// `@key`, `@requires` and `@provides` must select fields that exist;
/// what `@requires` selects must be external.
pub(super) fn field_sets(subgraph: &Subgraph, errors: &mut Vec<CompositionError>) {
    let mut check = |code, directive: &str, at: &str, ty: &Name, node: &Node<_>| {
        let Some(text) = string_argument(node, "fields") else {
            return;
        };
        if let Err(error) =
            TypedFieldSet::parse_and_validate(&subgraph.schema, ty.clone(), text, "field set")
        {
            let reasons: Vec<_> = error.errors.iter().map(|d| d.error.to_string()).collect();
            errors.push(
                CompositionError::new(
                    code,
                    format!(
                        "[{}] on {at}, for @{directive}(fields: \"{text}\"): {}",
                        subgraph.name,
                        reasons.join("; ")
                    ),
                )
                .at(subgraph.location(node.location())),
            );
        }
    };
    for (name, ty) in own_types(subgraph) {
        for key in subgraph.applied(ty.directives().iter().map(|d| &d.node), "key") {
            check("KEY_INVALID_FIELDS", "key", name, name, key);
        }
        for (field_name, field) in fields_of(ty).into_iter().flatten() {
            let at = format!("{name}.{field_name}");
            for requires in subgraph.applied(&field.directives, "requires") {
                check("REQUIRES_INVALID_FIELDS", "requires", &at, name, requires);
            }
            for provides in subgraph.applied(&field.directives, "provides") {
                let target = field.ty.inner_named_type();
                check("PROVIDES_INVALID_FIELDS", "provides", &at, target, provides);
            }
        }
    }
}

/// An external field must exist elsewhere, and must be of use here.
pub(super) fn externals(subgraphs: &[Subgraph], errors: &mut Vec<CompositionError>) {
    for subgraph in subgraphs {
        let used = used_fields(subgraph);
        for (name, ty) in own_types(subgraph) {
            for (field_name, field) in fields_of(ty).into_iter().flatten() {
                if !is_external(subgraph, ty, field) {
                    continue;
                }
                let at = subgraph.location(field.location());
                let elsewhere = subgraphs.iter().any(|other| {
                    other.name != subgraph.name
                        && other.schema.types.get(name).is_some_and(|ty| {
                            fields_of(ty)
                                .and_then(|fields| fields.get(field_name))
                                .is_some_and(|field| !is_external(other, ty, field))
                        })
                });
                if !elsewhere {
                    errors.push(
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
                let implements = matches!(ty, ExtendedType::Object(object)
                if object.implements_interfaces.iter().any(|interface| {
                    subgraph.schema.get_interface(interface).is_some_and(|i| i.fields.contains_key(field_name))
                }));
                if !subgraph.federation_1
                    && !implements
                    && !used.contains(&(name.clone(), field_name.clone()))
                {
                    errors.push(
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

/// A subgraph that resolves a field, with its definition and whether it shares it.
type Resolver<'a> = (&'a Subgraph, &'a Component<FieldDefinition>, bool);

/// A field that several subgraphs resolve must be shareable in each of them.
pub(super) fn sharing(subgraphs: &[Subgraph], errors: &mut Vec<CompositionError>) {
    let mut resolvers: HashMap<(Name, Name), Vec<Resolver<'_>>> = HashMap::new();
    let mut order = Vec::new();
    for subgraph in subgraphs {
        let keys = key_fields(subgraph);
        for (name, ty) in own_types(subgraph) {
            let ExtendedType::Object(object) = ty else {
                continue;
            };
            let public = subgraph.public_name(name);
            for (field_name, field) in &object.fields {
                if is_machinery(field_name) || is_external(subgraph, ty, field) {
                    continue;
                }
                let shareable = subgraph.federation_1
                    || keys.contains(&(name.clone(), field_name.clone()))
                    || !subgraph.applied(&field.directives, "shareable").is_empty()
                    || !subgraph
                        .applied(ty.directives().iter().map(|d| &d.node), "shareable")
                        .is_empty();
                let entry = resolvers
                    .entry((public.clone(), field_name.clone()))
                    .or_default();
                if entry.is_empty() {
                    order.push((public.clone(), field_name.clone()));
                }
                entry.push((subgraph, field, shareable));
            }
        }
    }
    for coordinate in order {
        let Some(found) = resolvers.get(&coordinate) else {
            continue;
        };
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
            format!(
                "\"{ty}.{field}\" is resolved by {} but is not @shareable in {}",
                names.join(", "),
                not.join(", ")
            ),
        );
        for (subgraph, definition, _) in found {
            error = error.at(subgraph.location(definition.location()));
        }
        errors.push(error);
    }
}

/// Whether a field is only mentioned here and resolved elsewhere.
///
/// In Federation 1 an external key field of an extension is resolvable all the
/// same: the subgraph receives it in every representation.
pub(super) fn is_external(
    subgraph: &Subgraph,
    ty: &ExtendedType,
    field: &Component<FieldDefinition>,
) -> bool {
    let marked = !subgraph.applied(&field.directives, "external").is_empty()
        || !subgraph
            .applied(ty.directives().iter().map(|d| &d.node), "external")
            .is_empty();
    marked
        && !(subgraph.federation_1
            && key_fields(subgraph).contains(&(ty.name().clone(), field.name.clone())))
}

/// The coordinates that some `@key` of the subgraph selects.
fn key_fields(subgraph: &Subgraph) -> HashSet<(Name, Name)> {
    let mut used = HashSet::new();
    for (name, ty) in own_types(subgraph) {
        for key in subgraph.applied(ty.directives().iter().map(|d| &d.node), "key") {
            collect(subgraph, name, key, &mut used);
        }
    }
    used
}

/// The coordinates that any field set of the subgraph selects.
fn used_fields(subgraph: &Subgraph) -> HashSet<(Name, Name)> {
    let mut used = key_fields(subgraph);
    for (name, ty) in own_types(subgraph) {
        for field in fields_of(ty).into_iter().flat_map(Fields::values) {
            for requires in subgraph.applied(&field.directives, "requires") {
                collect(subgraph, name, requires, &mut used);
            }
            for provides in subgraph.applied(&field.directives, "provides") {
                collect(subgraph, field.ty.inner_named_type(), provides, &mut used);
            }
        }
    }
    used
}

fn collect(
    subgraph: &Subgraph,
    ty: &Name,
    directive: &Node<apollo_compiler::ast::Directive>,
    used: &mut HashSet<(Name, Name)>,
) {
    let Some(Ok(fields)) = string_argument(directive, "fields").map(field_set::parse) else {
        return;
    };
    collect_selections(subgraph, ty, &fields, used);
}

fn collect_selections(
    subgraph: &Subgraph,
    ty: &Name,
    selections: &[Selection],
    used: &mut HashSet<(Name, Name)>,
) {
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                used.insert((ty.clone(), field.name.clone()));
                if let Ok(definition) = subgraph.schema.type_field(ty, &field.name) {
                    let inner = definition.ty.inner_named_type().clone();
                    collect_selections(subgraph, &inner, &field.selection_set, used);
                }
            }
            Selection::InlineFragment(fragment) => {
                let inner = fragment.type_condition.as_ref().unwrap_or(ty);
                collect_selections(subgraph, inner, &fragment.selection_set, used);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}
