//! The rules that one subgraph can break by itself.
//!
//! | module | what it checks |
//! |---|---|
//! | this module | roots, interface objects, access, costs |
//! | [`sets`] | `@key`, `@requires`, `@provides` |
//! | [`contexts`] | `@context` and `@fromContext` |
//! | [`defaults`] | default values |
//! | [`tags`] | `@tag` and `@cacheTag` |
//!
//! Codes: <https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/errors>.

mod contexts;
mod defaults;
mod sets;
mod tags;

use apollo_compiler::ast::{Directive, FieldDefinition, Value};
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Node};

use super::{Subgraph, fields_of, is_executable, is_federation_internal};
use crate::error::CompositionError;

type Field = Component<FieldDefinition>;

pub(super) fn check(subgraph: &Subgraph) -> Vec<CompositionError> {
    let mut check = Check {
        subgraph,
        errors: Vec::new(),
    };
    check.roots();
    check.check_hidden_internals();
    check.directive_contexts();
    check.defaults();
    for (name, ty) in subgraph.own_types() {
        check.keys(name, ty);
        check.contexts(name, ty);
        check.tags(name, ty);
        check.interface_object(name, ty);
        check.one_of(name, ty);
        check.shareable(name, ty);
        check.access(name, ty);
        for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
            check.field(name, ty, field);
        }
    }
    check.errors
}

struct Check<'a> {
    subgraph: &'a Subgraph,
    errors: Vec<CompositionError>,
}

impl Check<'_> {
    fn report(
        &mut self,
        code: &'static str,
        node: Option<apollo_compiler::parser::SourceSpan>,
        message: String,
    ) {
        self.errors.push(
            CompositionError::new(code, format!("[{}] {message}", self.subgraph.name))
                .at(self.subgraph.location(node)),
        );
    }

    fn roots(&mut self) {
        let root = &self.subgraph.schema.schema_definition;
        for (slot, name, code) in [
            (&root.query, "Query", "ROOT_QUERY_USED"),
            (&root.mutation, "Mutation", "ROOT_MUTATION_USED"),
            (&root.subscription, "Subscription", "ROOT_SUBSCRIPTION_USED"),
        ] {
            let Some(used) = slot.as_ref().filter(|used| used.name != name) else {
                continue;
            };
            if let Some(other) = self.subgraph.schema.types.get(name) {
                let message = format!(
                    "the root is \"{}\", but there is a type \"{name}\" as well: rename one",
                    used.name
                );
                self.report(code, other.name().location(), message);
            }
        }
    }

    /// Federation's own types and the arguments of directives cannot be
    /// `@inaccessible`.
    fn check_hidden_internals(&mut self) {
        let subgraph = self.subgraph;
        let mut found: Vec<(String, &Node<Directive>)> = Vec::new();
        for (name, ty) in &subgraph.schema.types {
            if ty.is_built_in() || subgraph.is_federations(name) {
                let applied = subgraph.on_type(ty, "inaccessible").into_iter();
                found.extend(applied.map(|directive| (name.to_string(), directive)));
            }
        }
        for definition in subgraph.schema.directive_definitions.values() {
            if definition.locations.iter().all(is_executable) {
                continue;
            }
            for argument in &definition.arguments {
                let applied = subgraph.applied(&argument.directives, "inaccessible");
                let at = format!("@{}({}:)", definition.name, argument.name);
                found.extend(applied.into_iter().map(|directive| (at.clone(), directive)));
            }
        }
        for (at, directive) in found {
            let message = format!("\"{at}\" cannot be @inaccessible");
            self.report("DISALLOWED_INACCESSIBLE", directive.location(), message);
        }
    }

    fn interface_object(&mut self, name: &Name, ty: &ExtendedType) {
        if self.subgraph.is_interface_object(ty) && self.subgraph.on_type(ty, "key").is_empty() {
            self.report(
                "INTERFACE_OBJECT_USAGE_ERROR",
                ty.name().location(),
                format!("the @interfaceObject \"{name}\" needs a @key"),
            );
        }
    }

    /// `@shareable` may be repeated to be on a definition and on its extensions, but not on
    /// one of them.
    fn shareable(&mut self, name: &Name, ty: &ExtendedType) {
        let subgraph = self.subgraph;
        let all: Vec<_> = ty
            .directives()
            .iter()
            .filter(|d| Some(&d.name) == subgraph.local_name("shareable"))
            .collect();
        for (index, directive) in all.iter().enumerate() {
            if all[..index].iter().any(|d| d.origin == directive.origin) {
                self.report(
                    "INVALID_SHAREABLE_USAGE",
                    directive.location(),
                    format!("@shareable is repeated on one declaration of \"{name}\""),
                );
            }
        }
    }

    /// Access directives belong on objects: an interface gets those of its objects.
    fn access(&mut self, name: &Name, ty: &ExtendedType) {
        let subgraph = self.subgraph;
        for canonical in ["authenticated", "requiresScopes", "policy"] {
            let mut found: Vec<(String, &Node<Directive>)> = Vec::new();
            if ty.is_interface() || subgraph.is_interface_object(ty) {
                let applied = subgraph.on_type(ty, canonical).into_iter();
                found.extend(applied.map(|directive| (name.to_string(), directive)));
            }
            if ty.is_interface() {
                for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
                    let applied = subgraph.applied(&field.directives, canonical).into_iter();
                    let at = format!("{name}.{}", field.name);
                    found.extend(applied.map(|directive| (at.clone(), directive)));
                }
            }
            for (at, directive) in found {
                let message = format!("@{canonical} on \"{at}\": write it on the implementations");
                self.report(
                    "AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE",
                    directive.location(),
                    message,
                );
            }
        }
    }

    fn one_of(&mut self, name: &Name, ty: &ExtendedType) {
        let ExtendedType::InputObject(input) = ty else {
            return;
        };
        if !input.directives.has("oneOf") {
            return;
        }
        for field in input.fields.values() {
            if field.ty.is_non_null() || field.default_value.is_some() {
                let message = format!(
                    "\"{name}.{}\" must be nullable and have no default value: \"{name}\" is @oneOf",
                    field.name
                );
                self.report("INVALID_GRAPHQL", field.location(), message);
            }
        }
    }

    fn field(&mut self, name: &Name, ty: &ExtendedType, field: &Field) {
        let at = format!("{name}.{}", field.name);
        if is_federation_internal(&field.name) {
            return;
        }
        let is_interface = ty.is_interface();
        self.requires_and_provides(name, &at, field, is_interface);
        if self.subgraph.is_federation_1() {
            return;
        }
        let applied = |canonical| {
            self.subgraph
                .applied(&field.directives, canonical)
                .first()
                .map(|directive| directive.location())
        };
        let (external, provides, shareable, overrides) = (
            applied("external"),
            applied("provides"),
            applied("shareable"),
            applied("override"),
        );
        if is_interface {
            for (found, code, directive) in [
                (external, "EXTERNAL_ON_INTERFACE", "external"),
                (shareable, "INVALID_SHAREABLE_USAGE", "shareable"),
                (overrides, "OVERRIDE_ON_INTERFACE", "override"),
            ] {
                if let Some(span) = found {
                    self.report(code, span, format!("@{directive} on \"{at}\", a field of an interface: write it on the implementations"));
                }
            }
        }
        if let (Some(span), Some(_)) = (external, provides) {
            self.report(
                "EXTERNAL_COLLISION_WITH_ANOTHER_DIRECTIVE",
                span,
                format!("\"{at}\" cannot be @external and @provides"),
            );
        }
        let twice = self.subgraph.applied(&field.directives, "shareable").len() > 1;
        if twice {
            self.report(
                "INVALID_SHAREABLE_USAGE",
                field.location(),
                format!("@shareable is repeated on \"{at}\""),
            );
        }
        self.check_costs(&at, field, is_interface);
    }

    /// `@cost` and `@listSize`.
    fn check_costs(&mut self, at: &str, field: &Field, is_interface: bool) {
        let subgraph = self.subgraph;
        if is_interface && let Some(cost) = subgraph.applied(&field.directives, "cost").first() {
            let message = format!("@cost on \"{at}\", a field of an interface");
            self.report("COST_APPLIED_TO_INTERFACE_FIELD", cost.location(), message);
        }
        for size in subgraph.applied(&field.directives, "listSize") {
            let names = |argument| -> Vec<String> {
                match size.specified_argument_by_name(argument).map(|v| &**v) {
                    Some(Value::List(items)) => items
                        .iter()
                        .filter_map(|item| Some(item.as_str()?.to_owned()))
                        .collect(),
                    _ => Vec::new(),
                }
            };
            let sized = names("sizedFields");
            // With sizedFields, the lists are below the field, as in a connection.
            if !field.ty.is_list() && sized.is_empty() {
                let message = format!("@listSize on \"{at}\", which does not return a list");
                self.report("LIST_SIZE_APPLIED_TO_NON_LIST", size.location(), message);
            }
            let assumed = size.specified_argument_by_name("assumedSize");
            if assumed
                .and_then(|v| v.to_i32())
                .is_some_and(|size| size < 0)
            {
                let message = format!("the assumedSize of \"{at}\" is negative");
                self.report("LIST_SIZE_INVALID_ASSUMED_SIZE", size.location(), message);
            }
            for name in names("slicingArguments") {
                let known = field.argument_by_name(&name);
                let is_int = |ty: &apollo_compiler::ast::Type| {
                    !ty.is_list() && ty.inner_named_type() == "Int"
                };
                if !known.is_some_and(|argument| is_int(&argument.ty)) {
                    let message = format!(
                        "the slicing argument \"{name}\" of \"{at}\" is not an argument of type Int"
                    );
                    self.report(
                        "LIST_SIZE_INVALID_SLICING_ARGUMENT",
                        size.location(),
                        message,
                    );
                }
            }
            for name in sized {
                let inner = field.ty.inner_named_type();
                match subgraph.schema.type_field(inner, &name) {
                    Ok(definition) if definition.ty.is_list() => {}
                    Ok(_) => {
                        let message =
                            format!("the sized field \"{inner}.{name}\" does not return a list");
                        self.report("LIST_SIZE_APPLIED_TO_NON_LIST", size.location(), message);
                    }
                    Err(_) => {
                        let message = format!("the sized field \"{inner}.{name}\" does not exist");
                        self.report("LIST_SIZE_INVALID_SIZED_FIELD", size.location(), message);
                    }
                }
            }
        }
    }
}
