//! Rules for `@inaccessible`: without the hidden elements, the public schema must
//! still be valid.

use apollo_compiler::ast::{DirectiveList, FieldDefinition, InputValueDefinition, Value};
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Schema};

use super::Compose;
use super::interface_objects::implements;
use crate::error::CompositionError;
use crate::subgraph::{Fields, fields_of, is_federation_internal};

const HIDDEN: &str = "inaccessible";

impl Compose<'_> {
    pub(super) fn check_inaccessible(&mut self, schema: &Schema) {
        if !schema.directive_definitions.contains_key(HIDDEN) {
            return;
        }
        let mut check = Check {
            schema,
            errors: &mut self.errors,
        };
        for (name, ty) in &schema.types {
            let machinery = is_federation_internal(name) || name.starts_with("join__");
            if ty.is_built_in() || machinery {
                continue;
            }
            if check.is_hidden_type(name) {
                let query = &schema.schema_definition.query;
                if query.as_ref().is_some_and(|query| query.name == *name) {
                    check.report(
                        "QUERY_ROOT_TYPE_INACCESSIBLE",
                        format!("\"{name}\" is @inaccessible, but it is the query root"),
                    );
                }
                continue;
            }
            check.visible(name, ty);
        }
    }
}

struct Check<'a> {
    schema: &'a Schema,
    errors: &'a mut Vec<CompositionError>,
}

impl Check<'_> {
    fn report(&mut self, code: &'static str, message: String) {
        self.errors.push(CompositionError::new(code, message));
    }

    fn is_hidden_type(&self, name: &Name) -> bool {
        self.schema
            .types
            .get(name)
            .is_some_and(|ty| ty.directives().has(HIDDEN))
    }

    fn visible(&mut self, name: &Name, ty: &ExtendedType) {
        let hides = |directives: &DirectiveList| directives.has(HIDDEN);
        let only_hidden = match ty {
            ExtendedType::Object(_) | ExtendedType::Interface(_) => fields_of(ty)
                .into_iter()
                .flat_map(Fields::values)
                .all(|field| hides(&field.directives)),
            ExtendedType::InputObject(input) => {
                input.fields.values().all(|field| hides(&field.directives))
            }
            ExtendedType::Enum(definition) => definition
                .values
                .values()
                .all(|value| hides(&value.directives)),
            ExtendedType::Union(union) => union
                .members
                .iter()
                .all(|member| self.is_hidden_type(&member.name)),
            ExtendedType::Scalar(_) => false,
        };
        if only_hidden {
            self.report(
                "ONLY_INACCESSIBLE_CHILDREN",
                format!("\"{name}\" is visible, but everything in it is @inaccessible"),
            );
            return;
        }
        for field in fields_of(ty).into_iter().flat_map(Fields::values) {
            self.field(name, ty, field);
        }
        if let ExtendedType::InputObject(input) = ty {
            for field in input.fields.values() {
                self.input(&format!("{name}.{}", field.name), field);
            }
        }
    }

    fn field(&mut self, name: &Name, ty: &ExtendedType, field: &Component<FieldDefinition>) {
        let at = format!("{name}.{}", field.name);
        let hidden = field.directives.has(HIDDEN);
        // A visible field of a visible interface must be visible in its implementations.
        for (interface, other) in &self.schema.types {
            if !implements(ty, interface) || self.is_hidden_type(interface) {
                continue;
            }
            let Some(theirs) = fields_of(other).and_then(|fields| fields.get(&field.name)) else {
                continue;
            };
            // Clients do not see the interface's field, so nothing has to implement it.
            if theirs.directives.has(HIDDEN) {
                continue;
            }
            if hidden {
                self.report(
                    "IMPLEMENTED_BY_INACCESSIBLE",
                    format!("\"{at}\" is @inaccessible, but \"{interface}.{}\", which it implements, is not", field.name),
                );
            }
            for argument in &field.arguments {
                let Some(wanted) = theirs.argument_by_name(&argument.name) else {
                    continue;
                };
                let (own, wanted_hidden) = (
                    argument.directives.has(HIDDEN),
                    wanted.directives.has(HIDDEN),
                );
                // If the field itself is hidden, its arguments are hidden with it.
                if own && !wanted_hidden && !hidden {
                    self.report(
                        "IMPLEMENTED_BY_INACCESSIBLE",
                        format!(
                            "\"{at}({}:)\" is @inaccessible, but that of \"{interface}\" is not",
                            argument.name
                        ),
                    );
                }
                // An argument that the interface lacks must not be required (GraphQL October 2021,
                // section 3.6, IsValidImplementation).
                if wanted_hidden && !own && argument.is_required() && !hidden {
                    self.report(
                        "REQUIRED_INACCESSIBLE",
                        format!(
                            "\"{at}({}:)\" is required, but @inaccessible in \"{interface}\"",
                            argument.name
                        ),
                    );
                }
            }
        }
        if hidden {
            return;
        }
        if self.is_hidden_type(field.ty.inner_named_type()) {
            self.report(
                "REFERENCED_INACCESSIBLE",
                format!(
                    "\"{at}\" is visible, but its type \"{}\" is @inaccessible",
                    field.ty
                ),
            );
        }
        for argument in &field.arguments {
            self.input(&format!("{at}({}:)", argument.name), argument);
        }
    }

    fn input(&mut self, at: &str, input: &InputValueDefinition) {
        if input.directives.has(HIDDEN) {
            if input.is_required() {
                self.report(
                    "REQUIRED_INACCESSIBLE",
                    format!("\"{at}\" is @inaccessible, but required"),
                );
            }
            return;
        }
        let named = input.ty.inner_named_type();
        if self.is_hidden_type(named) {
            self.report(
                "REFERENCED_INACCESSIBLE",
                format!(
                    "\"{at}\" is visible, but its type \"{}\" is @inaccessible",
                    input.ty
                ),
            );
        }
        if let Some(default) = &input.default_value
            && let Some(hidden) = self.hidden_in(named, default)
        {
            self.report(
                "DEFAULT_VALUE_USES_INACCESSIBLE",
                format!("the default value of \"{at}\" uses \"{hidden}\", which is @inaccessible"),
            );
        }
    }

    /// The hidden element that a default value names.
    fn hidden_in(&self, ty: &Name, value: &Value) -> Option<String> {
        match (self.schema.types.get(ty)?, value) {
            (ExtendedType::Enum(definition), Value::Enum(name)) => definition
                .values
                .get(name)
                .filter(|value| value.directives.has(HIDDEN))
                .map(|_| format!("{ty}.{name}")),
            (ExtendedType::InputObject(input), Value::Object(fields)) => {
                fields.iter().find_map(|(name, value)| {
                    let field = input.fields.get(name)?;
                    if field.directives.has(HIDDEN) {
                        return Some(format!("{ty}.{name}"));
                    }
                    self.hidden_in(field.ty.inner_named_type(), value)
                })
            }
            (_, Value::List(items)) => items.iter().find_map(|item| self.hidden_in(ty, item)),
            _ => None,
        }
    }
}
