//! `@context` and `@fromContext`.

use apollo_compiler::ast::{InputValueDefinition, Selection, Type};
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Node};

use super::sets::{has_alias, has_directive};
use super::{Check, Field};
use crate::arguments::{bool_argument, string_argument};
use crate::field_set;
use crate::subgraph::{context_parts, fields_of};

impl Check<'_> {
    /// Contexts fill arguments of fields, not of directives.
    pub(super) fn directive_contexts(&mut self) {
        let subgraph = self.subgraph;
        for definition in subgraph.schema.directive_definitions.values() {
            for argument in &definition.arguments {
                if let Some(directive) = subgraph.context_of(argument) {
                    let message = format!(
                        "@fromContext on \"@{}({}:)\", an argument of a directive",
                        definition.name, argument.name
                    );
                    self.report("CONTEXT_NOT_SET", directive.location(), message);
                }
            }
        }
    }

    pub(super) fn contexts(&mut self, name: &Name, ty: &ExtendedType) {
        for directive in self.subgraph.on_type(ty, "context") {
            let context = string_argument(directive, "name").unwrap_or_default();
            let root = self.subgraph.public_name(name);
            let mut invalid = |code, reason: &str| {
                let message = format!("the context \"{context}\" on \"{name}\" {reason}");
                self.report(code, directive.location(), message);
            };
            if matches!(root.as_str(), "Mutation" | "Subscription") {
                let reason = "cannot be set: reading a field of that root has side effects";
                invalid("CONTEXT_NOT_SET", reason);
            }
            if context.contains('_') {
                invalid("CONTEXT_NAME_CONTAINS_UNDERSCORE", "has an underscore");
            }
            let first = |c: char| c.is_ascii_alphabetic();
            let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !context.starts_with(first) || !context.chars().all(rest) {
                let reason = "must be letters and digits, a letter first";
                invalid("CONTEXT_NAME_INVALID", reason);
            }
        }
        for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
            for argument in &field.arguments {
                self.context_argument(name, ty, field, argument);
            }
        }
    }

    fn context_argument(
        &mut self,
        name: &Name,
        ty: &ExtendedType,
        field: &Field,
        argument: &Node<InputValueDefinition>,
    ) {
        let subgraph = self.subgraph;
        let Some(directive) = subgraph.context_of(argument) else {
            return;
        };
        let at = format!("{name}.{}({}:)", field.name, argument.name);
        let text = string_argument(directive, "field").unwrap_or_default();
        let mut problem = None;
        let implements = |object: &apollo_compiler::schema::ObjectType| {
            object.implements_interfaces.iter().any(|interface| {
                let interface = subgraph.schema.get_interface(interface);
                interface.is_some_and(|i| i.fields.contains_key(&field.name))
            })
        };
        if ty.is_interface() || ty.as_object().is_some_and(implements) {
            problem = Some("cannot be on a field that an interface has");
        } else if argument.default_value.is_some() {
            problem = Some("has a default value, but its value comes from the context");
        }
        if let Some(problem) = problem {
            let message = format!("@fromContext on \"{at}\" {problem}");
            self.report("CONTEXT_NOT_SET", directive.location(), message);
            return;
        }
        // The value comes with an entity fetch, for each group of objects with equal values.
        let resolvable = subgraph
            .on_type(ty, "key")
            .into_iter()
            .any(|key| bool_argument(key, "resolvable") != Some(false));
        if !resolvable {
            let message =
                format!("\"{at}\" takes a context, so \"{name}\" needs a resolvable @key");
            self.report("CONTEXT_NO_RESOLVABLE_KEY", directive.location(), message);
        }
        let Some((context, selection)) = context_parts(text) else {
            let message = format!("@fromContext on \"{at}\" names no context: \"{text}\"");
            self.report("NO_CONTEXT_REFERENCED", directive.location(), message);
            return;
        };
        if selection.trim().is_empty() {
            let message = format!("@fromContext on \"{at}\" selects nothing of \"${context}\"");
            self.report("NO_SELECTION_FOR_CONTEXT", directive.location(), message);
            return;
        }
        let setting = subgraph.types_setting(context);
        if setting.is_empty() {
            let message =
                format!("no type of this subgraph sets \"{context}\", which \"{at}\" uses");
            self.report("CONTEXT_NOT_SET", directive.location(), message);
            return;
        }
        if let Err(reason) = self.context_selection(selection, &setting, &argument.ty) {
            let message = format!("@fromContext on \"{at}\", for \"{text}\": {reason}");
            self.report("CONTEXT_SELECTION_INVALID", directive.location(), message);
        }
    }

    /// A context's selection must select one leaf of each type that sets it.
    fn context_selection(
        &self,
        text: &str,
        setting: &[&ExtendedType],
        wanted: &Type,
    ) -> Result<(), String> {
        let set = field_set::parse(field_set::unbraced(text))?;
        if has_directive(&set) {
            return Err("it has directives or named fragments".to_owned());
        }
        if has_alias(&set) {
            return Err("it has aliases".to_owned());
        }
        // Either one field for all types, or one fragment for each object type.
        let mut conditions: Vec<&Name> = Vec::new();
        for selection in &set {
            match selection {
                Selection::InlineFragment(inline) => match &inline.type_condition {
                    Some(condition) if self.subgraph.schema.get_object(condition).is_none() => {
                        return Err(format!("\"{condition}\" is not an object type"));
                    }
                    Some(condition) if conditions.contains(&condition) => {
                        return Err(format!("it has two fragments on \"{condition}\""));
                    }
                    Some(condition) => conditions.push(condition),
                    None => return Err("a fragment names no type".to_owned()),
                },
                _ if set.len() > 1 => return Err("it selects more than one field".to_owned()),
                _ => {}
            }
        }
        // A fragment may be for any of the types: what is unused is known after all of them.
        let mut used: Vec<&Name> = Vec::new();
        for ty in setting {
            if self.subgraph.is_interface_object(ty) {
                return Err(format!("\"{}\" is an @interfaceObject", ty.name()));
            }
            if conditions.is_empty() {
                self.leaf(ty.name(), &set, wanted)?;
                continue;
            }
            let map = self.subgraph.schema.implementers_map();
            let objects: Vec<&Name> = match ty {
                ExtendedType::Union(union) => union.members.iter().map(|m| &m.name).collect(),
                ExtendedType::Interface(interface) => map
                    .get(&interface.name)
                    .into_iter()
                    .flat_map(|implementers| &implementers.objects)
                    .collect(),
                other => vec![other.name()],
            };
            for object in objects {
                let Some(condition) = conditions.iter().find(|c| **c == object) else {
                    return Err(format!("it selects nothing of \"{object}\""));
                };
                used.push(condition);
            }
        }
        for selection in &set {
            if let Selection::InlineFragment(inline) = selection
                && let Some(condition) = &inline.type_condition
            {
                if !used.contains(&condition) {
                    return Err(format!("\"{condition}\" does not set the context"));
                }
                self.leaf(condition, &inline.selection_set, wanted)?;
            }
        }
        Ok(())
    }

    /// Checks that a selection is one chain of fields to a leaf of the argument's type.
    fn leaf(&self, ty: &Name, set: &[Selection], wanted: &Type) -> Result<(), String> {
        let found = self.leaf_type(ty, set)?;
        if is_assignable(&found, wanted) {
            Ok(())
        } else {
            Err(format!(
                "what it selects of \"{ty}\" is \"{found}\", the argument \"{wanted}\""
            ))
        }
    }

    fn leaf_type(&self, ty: &Name, set: &[Selection]) -> Result<Type, String> {
        let [Selection::Field(field)] = set else {
            return Err(format!("it must select one field of \"{ty}\""));
        };
        let known = self.subgraph.schema.type_field(ty, &field.name);
        let Some(definition) = known.ok().filter(|_| !field.name.starts_with("__")) else {
            return Err(format!("\"{ty}\" has no field \"{}\"", field.name));
        };
        if !definition.arguments.is_empty() {
            return Err(format!("\"{ty}.{}\" takes arguments", field.name));
        }
        let inner = definition.ty.inner_named_type();
        let composite = self
            .subgraph
            .schema
            .types
            .get(inner)
            .is_some_and(|ty| !ty.is_leaf());
        if !composite {
            return Ok(definition.ty.clone());
        }
        Ok(with_outer_type(
            &definition.ty,
            self.leaf_type(inner, &field.selection_set)?,
        ))
    }
}

/// The type of a nested leaf, with the lists and nullability of the field around it.
fn with_outer_type(outer: &Type, leaf: Type) -> Type {
    match outer {
        Type::NonNullNamed(_) => leaf,
        Type::Named(_) => leaf.nullable(),
        Type::List(inner) => with_outer_type(inner, leaf).list(),
        Type::NonNullList(inner) => with_outer_type(inner, leaf).list().non_null(),
    }
}

/// Whether a value of one type may be used where another is expected.
fn is_assignable(found: &Type, wanted: &Type) -> bool {
    match (found, wanted) {
        (Type::Named(a) | Type::NonNullNamed(a), Type::Named(b))
        | (Type::NonNullNamed(a), Type::NonNullNamed(b)) => a == b,
        (Type::List(a) | Type::NonNullList(a), Type::List(b))
        | (Type::NonNullList(a), Type::NonNullList(b)) => is_assignable(a, b),
        _ => false,
    }
}
