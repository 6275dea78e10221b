//! Field sets: `@key`, `@requires` and `@provides`.

use apollo_compiler::ast::{Directive, Selection, Value};
use apollo_compiler::executable::FieldSet as TypedFieldSet;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Node};

use super::{Check, Field};
use crate::arguments::bool_argument;
use crate::field_set;
use crate::subgraph::set_text;

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
    pub(super) fn keys(&mut self, name: &Name, ty: &ExtendedType) {
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
            // First, as a selection of an abstract type may be invalid in other ways too.
            let text = set_text(key).unwrap_or_default();
            let set = field_set::parse(&text).unwrap_or_default();
            if !self.key_types(name, key, &set) {
                self.set(&KEY, name, name, key);
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

    /// Reports what a key selects of an abstract type; false if it selects nothing of one.
    fn key_types(&mut self, ty: &Name, key: &Node<Directive>, set: &[Selection]) -> bool {
        let mut found = false;
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
                    "@key of \"{ty}\" selects \"{}\", an abstract type; a key may select only objects and leaves",
                    field.name
                );
                self.report("KEY_FIELDS_SELECT_INVALID_TYPE", key.location(), message);
                found = true;
            } else {
                found |= self.key_types(inner, key, &field.selection_set);
            }
        }
        found
    }

    pub(super) fn requires_and_provides(
        &mut self,
        name: &Name,
        at: &str,
        field: &Field,
        is_interface: bool,
    ) {
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
                            "@provides on \"{at}\", which does not return an object but \"{target}\""
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
                    self.check_all_external(codes, at, target, directive, &set, false);
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
        // Federation 1 took lists and bare names too.
        if !is_text && !subgraph.is_federation_1() {
            self.report(
                codes.not_text,
                directive.location(),
                format!(
                    "on {at}, the fields of @{} must be a string",
                    codes.directive
                ),
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
                format!("{on}: a field set cannot have directives"),
            );
            return None;
        }
        if has_alias(&set) {
            self.report(
                codes.invalid,
                directive.location(),
                format!("{on}: a field set cannot have aliases"),
            );
            return None;
        }
        // Last, against the schema: for the errors above there are plainer messages.
        let reasons = match codes.directive {
            "requires" => self.invalid_parts(ty, &set),
            _ => self.invalid_reasons(ty, text),
        };
        if !reasons.is_empty() {
            self.report(
                codes.invalid,
                directive.location(),
                format!("{on}: {}", reasons.join("; ")),
            );
            return None;
        }
        // Empty for @requires, whose fields may take arguments.
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

    fn invalid_reasons(&self, ty: &Name, text: String) -> Vec<String> {
        let schema = &self.subgraph.schema;
        match TypedFieldSet::parse_and_validate(schema, ty.clone(), text, "field set") {
            Ok(_) => Vec::new(),
            Err(error) => error.errors.iter().map(|d| d.error.to_string()).collect(),
        }
    }

    /// Why a set is invalid, of which only another subgraph may know that a fragment can
    /// apply: what `@requires` selects is validated once more in the supergraph.
    fn invalid_parts(&self, ty: &Name, set: &[Selection]) -> Vec<String> {
        let mut parts = Vec::new();
        let rest = self.without_fragments(ty, set, &mut parts);
        parts.push((ty.clone(), rest));
        let parts = parts.iter().filter(|(_, set)| !set.is_empty());
        parts
            .flat_map(|(ty, set)| self.invalid_reasons(ty, field_set::print(set)))
            .collect()
    }

    /// A set without its fragments on known composite types, which are added to `parts`.
    fn without_fragments(
        &self,
        ty: &Name,
        set: &[Selection],
        parts: &mut Vec<(Name, Vec<Selection>)>,
    ) -> Vec<Selection> {
        let schema = &self.subgraph.schema;
        let mut rest = Vec::new();
        for selection in set {
            match selection {
                Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(ty);
                    let composite = schema
                        .types
                        .get(condition)
                        .is_some_and(|ty| ty.is_object() || ty.is_interface() || ty.is_union());
                    if composite && !inline.selection_set.is_empty() {
                        let inner = self.without_fragments(condition, &inline.selection_set, parts);
                        parts.push((condition.clone(), inner));
                    } else {
                        rest.push(selection.clone());
                    }
                }
                Selection::Field(field) if !field.selection_set.is_empty() => {
                    let Ok(definition) = schema.type_field(ty, &field.name) else {
                        rest.push(selection.clone());
                        continue;
                    };
                    let inner = definition.ty.inner_named_type();
                    let mut field = field.clone();
                    let below = self.without_fragments(inner, &field.selection_set, parts);
                    field.make_mut().selection_set = match below.is_empty() {
                        // Its fragments are validated by themselves.
                        true => vec![typename()],
                        false => below,
                    };
                    rest.push(Selection::Field(field));
                }
                other => rest.push(other.clone()),
            }
        }
        rest
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

    /// The fields that are required or provided must be external.
    fn check_all_external(
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
                    self.check_all_external(
                        codes,
                        at,
                        &inner,
                        directive,
                        &field.selection_set,
                        external,
                    );
                }
                Selection::InlineFragment(inline) => {
                    let inner = inline.type_condition.as_ref().unwrap_or(ty).clone();
                    self.check_all_external(
                        codes,
                        at,
                        &inner,
                        directive,
                        &inline.selection_set,
                        above,
                    );
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }

    fn is_external_for(&self, ty: &Name, field: &Name) -> bool {
        let subgraph = self.subgraph;
        // The key of an extension counts as resolved here, although it is marked.
        if subgraph.is_external(ty, field) {
            return true;
        }
        // A field of an interface counts if it is external in an implementation.
        let map = subgraph.schema.implementers_map();
        map.get(ty)
            .into_iter()
            .flat_map(|implementers| &implementers.objects)
            .any(|object| subgraph.is_external(object, field))
    }
}

fn typename() -> Selection {
    Selection::Field(Node::new(apollo_compiler::ast::Field {
        alias: None,
        name: apollo_compiler::name!("__typename"),
        arguments: Vec::new(),
        directives: Default::default(),
        selection_set: Vec::new(),
    }))
}

pub(super) fn has_directive(set: &[Selection]) -> bool {
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

pub(super) fn has_alias(set: &[Selection]) -> bool {
    set.iter().any(|selection| match selection {
        Selection::Field(field) => field.alias.is_some() || has_alias(&field.selection_set),
        Selection::InlineFragment(inline) => has_alias(&inline.selection_set),
        Selection::FragmentSpread(_) => false,
    })
}
