//! The rules that one subgraph can break by itself.
//!
//! Codes: <https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/errors>.

use apollo_compiler::ast::{Directive, FieldDefinition, Selection, Value};
use apollo_compiler::executable::FieldSet as TypedFieldSet;
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Node};

use super::{Subgraph, UNSUPPORTED, bool_argument, fields_of, is_machinery, set_text};
use crate::error::CompositionError;
use crate::field_set;

type Field = Component<FieldDefinition>;

pub(super) fn check(subgraph: &Subgraph) -> Vec<CompositionError> {
    let mut check = Check {
        subgraph,
        errors: Vec::new(),
    };
    check.roots();
    for (name, ty) in subgraph.own_types() {
        check.unsupported(ty.directives().iter().map(|d| &d.node));
        check.keys(name, ty);
        check.interface_object(name, ty);
        check.one_of(name, ty);
        check.access(name, ty);
        for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
            check.unsupported(&field.directives);
            for argument in &field.arguments {
                check.unsupported(&argument.directives);
            }
            check.field(name, ty, field);
        }
    }
    check.errors
}

struct Check<'a> {
    subgraph: &'a Subgraph,
    errors: Vec<CompositionError>,
}

/// The codes of one of the three directives that hold a field set.
struct Codes {
    directive: &'static str,
    invalid: &'static str,
    not_text: &'static str,
    directives: &'static str,
    arguments: &'static str,
}

const KEY: Codes = Codes {
    directive: "key",
    invalid: "KEY_INVALID_FIELDS",
    not_text: "KEY_INVALID_FIELDS_TYPE",
    directives: "KEY_DIRECTIVE_IN_FIELDS_ARG",
    arguments: "KEY_FIELDS_HAS_ARGS",
};
const PROVIDES: Codes = Codes {
    directive: "provides",
    invalid: "PROVIDES_INVALID_FIELDS",
    not_text: "PROVIDES_INVALID_FIELDS_TYPE",
    directives: "PROVIDES_DIRECTIVE_IN_FIELDS_ARG",
    arguments: "PROVIDES_FIELDS_HAS_ARGS",
};
const REQUIRES: Codes = Codes {
    directive: "requires",
    invalid: "REQUIRES_INVALID_FIELDS",
    not_text: "REQUIRES_INVALID_FIELDS_TYPE",
    directives: "REQUIRES_DIRECTIVE_IN_FIELDS_ARG",
    arguments: "",
};

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

    fn unsupported<'d>(&mut self, directives: impl IntoIterator<Item = &'d Node<Directive>>) {
        for directive in directives {
            if let Some(canonical) = self.subgraph.canonical(directive)
                && UNSUPPORTED.contains(&canonical)
            {
                self.report(
                    "UNSUPPORTED_FEATURE",
                    directive.location(),
                    format!("@{} is not supported yet", directive.name),
                );
            }
        }
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

    fn keys(&mut self, name: &Name, ty: &ExtendedType) {
        let subgraph = self.subgraph;
        let is_interface = ty.is_interface();
        for key in subgraph.on_type(ty, "key") {
            if is_interface {
                match subgraph.federation {
                    // Federation 1 ignored it.
                    None => continue,
                    Some(minor) if minor < 3 => {
                        self.report(
                            "KEY_UNSUPPORTED_ON_INTERFACE",
                            key.location(),
                            format!("@key on interface \"{name}\" needs Federation 2.3"),
                        );
                        continue;
                    }
                    Some(_) => self.key_of_interface(name, key),
                }
            }
            if let Some(set) = self.set(&KEY, name, name, key) {
                self.key_types(name, key, &set);
            }
        }
    }

    /// Each implementation must have its interface's key.
    fn key_of_interface(&mut self, name: &Name, key: &Node<Directive>) {
        let subgraph = self.subgraph;
        let normal = |directive: &Directive| {
            let set = field_set::parse(&set_text(directive)?).ok()?;
            let mut parts: Vec<_> = set
                .iter()
                .map(|selection| field_set::print(std::slice::from_ref(selection)))
                .collect();
            parts.sort();
            Some(parts)
        };
        let resolvable =
            |directive: &Directive| bool_argument(directive, "resolvable") != Some(false);
        let wanted = normal(key);
        let map = subgraph.schema.implementers_map();
        for object in map.get(name).into_iter().flat_map(|i| &i.objects) {
            let Some(ty) = subgraph.schema.types.get(object) else {
                continue;
            };
            let has = subgraph
                .on_type(ty, "key")
                .into_iter()
                .any(|other| normal(other) == wanted && (resolvable(other) || !resolvable(key)));
            if !has {
                self.report(
                    "INTERFACE_KEY_NOT_ON_IMPLEMENTATION",
                    ty.name().location(),
                    format!(
                        "interface \"{name}\" has @key(fields: \"{}\"), which its implementation \"{object}\" lacks",
                        set_text(key).unwrap_or_default()
                    ),
                );
            }
        }
    }

    fn key_types(&mut self, ty: &Name, key: &Node<Directive>, set: &[Selection]) {
        for selection in set {
            let Some(field) = selection.as_field() else {
                continue;
            };
            let Ok(definition) = self.subgraph.schema.type_field(ty, &field.name) else {
                continue;
            };
            let inner = definition.ty.inner_named_type();
            if matches!(
                self.subgraph.schema.types.get(inner),
                Some(ExtendedType::Interface(_) | ExtendedType::Union(_))
            ) {
                let message = format!(
                    "@key of \"{ty}\" selects \"{}\", an abstract type; a key is of objects and values",
                    field.name
                );
                self.report("KEY_FIELDS_SELECT_INVALID_TYPE", key.location(), message);
            }
            self.key_types(inner, key, &field.selection_set);
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

    /// Access is asked for by objects: an interface takes theirs.
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
        if is_machinery(&field.name) {
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
        self.demand(&at, field, is_interface);
    }

    fn requires_and_provides(&mut self, name: &Name, at: &str, field: &Field, is_interface: bool) {
        let subgraph = self.subgraph;
        for (codes, unsupported) in [
            (&REQUIRES, "REQUIRES_UNSUPPORTED_ON_INTERFACE"),
            (&PROVIDES, "PROVIDES_UNSUPPORTED_ON_INTERFACE"),
        ] {
            for directive in subgraph.applied(&field.directives, codes.directive) {
                if is_interface {
                    if !subgraph.is_federation_1() {
                        let message =
                            format!("@{} on \"{at}\", a field of an interface", codes.directive);
                        self.report(unsupported, directive.location(), message);
                    }
                    continue;
                }
                let target = match codes.directive {
                    "provides" => field.ty.inner_named_type(),
                    _ => name,
                };
                let composite = subgraph
                    .schema
                    .types
                    .get(target)
                    .is_some_and(|ty| !ty.is_leaf());
                if !composite {
                    if !subgraph.is_federation_1() {
                        let message = format!(
                            "@provides on \"{at}\", which answers no object but \"{target}\""
                        );
                        self.report(
                            "PROVIDES_ON_NON_OBJECT_FIELD",
                            directive.location(),
                            message,
                        );
                    }
                    continue;
                }
                if let Some(set) = self.set(codes, at, target, directive) {
                    self.all_external(codes, at, target, directive, &set, false);
                }
            }
        }
    }

    /// Parses and validates a field set.
    fn set(
        &mut self,
        codes: &Codes,
        at: &str,
        ty: &Name,
        directive: &Node<Directive>,
    ) -> Option<Vec<Selection>> {
        let subgraph = self.subgraph;
        let is_text = matches!(
            directive.specified_argument_by_name("fields").map(|v| &**v),
            Some(Value::String(_))
        );
        if !is_text && !subgraph.is_federation_1() {
            self.report(
                codes.not_text,
                directive.location(),
                format!("on {at}, the fields of @{} are a string", codes.directive),
            );
            return None;
        }
        let text = set_text(directive)?;
        let on = format!("on {at}, for @{}(fields: \"{text}\")", codes.directive);
        let set = match field_set::parse(&text) {
            Ok(set) => set,
            Err(reason) => {
                self.report(
                    codes.invalid,
                    directive.location(),
                    format!("{on}: {reason}"),
                );
                return None;
            }
        };
        if has_directive(&set) {
            self.report(
                codes.directives,
                directive.location(),
                format!("{on}: a field set has no directives"),
            );
            return None;
        }
        if has_alias(&set) {
            self.report(
                codes.invalid,
                directive.location(),
                format!("{on}: a field set has no aliases"),
            );
            return None;
        }
        if let Err(error) =
            TypedFieldSet::parse_and_validate(&subgraph.schema, ty.clone(), text, "field set")
        {
            let reasons: Vec<_> = error.errors.iter().map(|d| d.error.to_string()).collect();
            self.report(
                codes.invalid,
                directive.location(),
                format!("{on}: {}", reasons.join("; ")),
            );
            return None;
        }
        if !codes.arguments.is_empty()
            && let Some(field) = self.with_arguments(ty, &set)
        {
            self.report(
                codes.arguments,
                directive.location(),
                format!("{on}: \"{field}\" takes arguments"),
            );
            return None;
        }
        Some(set)
    }

    fn with_arguments(&self, ty: &Name, set: &[Selection]) -> Option<Name> {
        set.iter().find_map(|selection| match selection {
            Selection::Field(field) => {
                let definition = self.subgraph.schema.type_field(ty, &field.name).ok()?;
                if !definition.arguments.is_empty() {
                    return Some(field.name.clone());
                }
                self.with_arguments(definition.ty.inner_named_type(), &field.selection_set)
            }
            Selection::InlineFragment(inline) => self.with_arguments(
                inline.type_condition.as_ref().unwrap_or(ty),
                &inline.selection_set,
            ),
            Selection::FragmentSpread(_) => None,
        })
    }

    /// What is required or provided must be somebody else's.
    fn all_external(
        &mut self,
        codes: &Codes,
        at: &str,
        ty: &Name,
        directive: &Node<Directive>,
        set: &[Selection],
        above: bool,
    ) {
        if self.subgraph.is_federation_1() {
            return;
        }
        for selection in set {
            match selection {
                Selection::Field(field) if field.name == "__typename" => {}
                Selection::Field(field) => {
                    let external = above || self.is_external_for(ty, &field.name);
                    let Ok(definition) = self.subgraph.schema.type_field(ty, &field.name) else {
                        continue;
                    };
                    if field.selection_set.is_empty() {
                        if !external {
                            let code = match codes.directive {
                                "requires" => "REQUIRES_FIELDS_MISSING_EXTERNAL",
                                _ => "PROVIDES_FIELDS_MISSING_EXTERNAL",
                            };
                            let message = format!(
                                "on {at}, @{} selects \"{ty}.{}\", which is not @external: this subgraph resolves it itself",
                                codes.directive, field.name
                            );
                            self.report(code, directive.location(), message);
                        }
                        continue;
                    }
                    let inner = definition.ty.inner_named_type().clone();
                    self.all_external(codes, at, &inner, directive, &field.selection_set, external);
                }
                Selection::InlineFragment(inline) => {
                    let inner = inline.type_condition.as_ref().unwrap_or(ty).clone();
                    self.all_external(codes, at, &inner, directive, &inline.selection_set, above);
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }

    fn is_external_for(&self, ty: &Name, field: &Name) -> bool {
        let subgraph = self.subgraph;
        if subgraph.is_marked(ty, field) {
            return true;
        }
        // A key's nested fields may be external for their own type's sake.
        let map = subgraph.schema.implementers_map();
        map.get(ty)
            .into_iter()
            .flat_map(|implementers| &implementers.objects)
            .any(|object| subgraph.is_marked(object, field))
    }

    /// `@cost` and `@listSize`.
    fn demand(&mut self, at: &str, field: &Field, is_interface: bool) {
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
            if !field.ty.is_list() && sized.is_empty() {
                let message = format!("@listSize on \"{at}\", which answers no list");
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
                        "the slicing argument \"{name}\" of \"{at}\" is no argument of type Int"
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
                        let message = format!("the sized field \"{inner}.{name}\" answers no list");
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

fn has_directive(set: &[Selection]) -> bool {
    set.iter().any(|selection| match selection {
        Selection::Field(field) => {
            !field.directives.is_empty() || has_directive(&field.selection_set)
        }
        Selection::InlineFragment(inline) => {
            !inline.directives.is_empty() || has_directive(&inline.selection_set)
        }
        Selection::FragmentSpread(_) => true,
    })
}

fn has_alias(set: &[Selection]) -> bool {
    set.iter().any(|selection| match selection {
        Selection::Field(field) => field.alias.is_some() || has_alias(&field.selection_set),
        Selection::InlineFragment(inline) => has_alias(&inline.selection_set),
        Selection::FragmentSpread(_) => false,
    })
}
