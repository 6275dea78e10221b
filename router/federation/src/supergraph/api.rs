//! Derives the schema that clients see from the supergraph's.

use apollo_compiler::ast::{Directive, FieldDefinition};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema};

use super::is_federation_internal;
use crate::error::{CompositionError, CompositionErrors};
use crate::subgraph::is_executable;

/// The schema without the definitions and directives of `join` and `link`.
pub(super) fn without_join_definitions(mut schema: Schema) -> Schema {
    schema.types.retain(|name, _| !is_federation_internal(name));
    schema
        .directive_definitions
        .retain(|name, _| !is_federation_internal(name) && name != "link" && name != "core");
    let strip = |directive: &Node<Directive>| {
        is_federation_internal(&directive.name)
            || directive.name == "link"
            || directive.name == "core"
    };
    schema
        .schema_definition
        .make_mut()
        .directives
        .retain(|d| !strip(d));
    for ty in schema.types.values_mut() {
        map_directives(ty, &|list| list.retain(|d| !strip(d)));
    }
    schema
}

/// Applies an edit to every directive list of a type.
pub(super) fn map_directives(ty: &mut ExtendedType, edit: &dyn Fn(&mut Vec<Node<Directive>>)) {
    fn on_component(
        list: &mut apollo_compiler::schema::DirectiveList,
        edit: &dyn Fn(&mut Vec<Node<Directive>>),
    ) {
        let mut nodes: Vec<_> = list.0.iter().map(|d| d.node.clone()).collect();
        edit(&mut nodes);
        *list = nodes.into_iter().collect();
    }
    fn on_fields(
        fields: &mut IndexMap<Name, Component<FieldDefinition>>,
        edit: &dyn Fn(&mut Vec<Node<Directive>>),
    ) {
        for field in fields.values_mut() {
            let field = field.make_mut();
            edit(&mut field.directives.0);
            for argument in &mut field.arguments {
                edit(&mut argument.make_mut().directives.0);
            }
        }
    }
    match ty {
        ExtendedType::Scalar(ty) => on_component(&mut ty.make_mut().directives, edit),
        ExtendedType::Object(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            on_fields(&mut ty.fields, edit);
        }
        ExtendedType::Interface(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            on_fields(&mut ty.fields, edit);
        }
        ExtendedType::Union(ty) => on_component(&mut ty.make_mut().directives, edit),
        ExtendedType::Enum(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            for value in ty.values.values_mut() {
                edit(&mut value.make_mut().directives.0);
            }
        }
        ExtendedType::InputObject(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            for field in ty.fields.values_mut() {
                edit(&mut field.make_mut().directives.0);
            }
        }
    }
}

/// The schema without `@inaccessible` elements, and without directives that are not
/// part of GraphQL itself, except `@resumable` and `@idempotent`.
pub(super) fn public(schema: &Schema) -> Result<Valid<Schema>, CompositionErrors> {
    let mut api = schema.clone();
    // By name: fields and members refer to the types when these are gone.
    let hidden_types: Vec<Name> = api
        .types
        .iter()
        .filter(|(_, ty)| ty.directives().has("inaccessible"))
        .map(|(name, _)| name.clone())
        .collect();
    let hidden = |name: &Name| hidden_types.contains(name);
    api.types.retain(|name, _| !hidden(name));
    let visible = |field: &FieldDefinition| {
        !field.directives.has("inaccessible") && !hidden(field.ty.inner_named_type())
    };
    let on_fields = |fields: &mut IndexMap<Name, Component<FieldDefinition>>| {
        fields.retain(|_, field| visible(field));
        for field in fields.values_mut() {
            field
                .make_mut()
                .arguments
                .retain(|a| !a.directives.has("inaccessible"));
        }
    };
    // Arguments and input fields of a hidden type stay: `validate` then refuses the schema.
    for ty in api.types.values_mut() {
        match ty {
            ExtendedType::Object(ty) => {
                let ty = ty.make_mut();
                on_fields(&mut ty.fields);
                ty.implements_interfaces.retain(|i| !hidden(&i.name));
            }
            ExtendedType::Interface(ty) => {
                let ty = ty.make_mut();
                on_fields(&mut ty.fields);
                ty.implements_interfaces.retain(|i| !hidden(&i.name));
            }
            ExtendedType::Union(ty) => ty.make_mut().members.retain(|m| !hidden(&m.name)),
            ExtendedType::Enum(ty) => ty
                .make_mut()
                .values
                .retain(|_, value| !value.directives.has("inaccessible")),
            ExtendedType::InputObject(ty) => ty
                .make_mut()
                .fields
                .retain(|_, field| !field.directives.has("inaccessible")),
            ExtendedType::Scalar(_) => {}
        }
        // The others (access, tags, costs) are for the router and for tools.
        map_directives(ty, &|list| {
            list.retain(|d| {
                matches!(
                    d.name.as_str(),
                    "deprecated" | "specifiedBy" | "oneOf" | "resumable" | "idempotent"
                )
            });
        });
    }
    api.directive_definitions.retain(|name, definition| {
        definition.is_built_in()
            || matches!(name.as_str(), "resumable" | "idempotent" | "oneOf")
            || definition.locations.iter().any(is_executable)
    });
    for definition in api.directive_definitions.values_mut() {
        // Clients write those in documents; those in schemas are not for them.
        if definition.locations.iter().any(is_executable) && !definition.is_built_in() {
            definition.make_mut().locations.retain(is_executable);
        }
    }
    crate::one_of::add_introspection(&mut api);
    api.validate().map_err(|invalid| {
        CompositionErrors(
            invalid
                .errors
                .iter()
                .map(|d| {
                    CompositionError::new(
                        "INVALID_FEDERATION_SUPERGRAPH",
                        format!("the public schema is invalid: {}", d.error),
                    )
                })
                .collect(),
        )
    })
}
