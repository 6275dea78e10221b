//! `@oneOf`: input objects of which exactly one field is given. Literals are checked here,
//! the values of variables where they are coerced.
//!
//! Source: GraphQL September 2025, sections 3.10 (OneOf Input Objects) and
//! 5.6.5 (All Required Input Object Fields / OneOf).

use apollo_compiler::ast::{FieldDefinition, Type, Value};
use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::schema::{Component, ExtendedType, InputObjectType};
use apollo_compiler::{ExecutableDocument, Name, Schema, name};

/// The directive's definition, which GraphQL's October 2021 edition lacks.
pub(crate) const DEFINITION: &str = "directive @oneOf on INPUT_OBJECT";

/// The field of `__Type` that says whether an input object is `@oneOf`.
pub const IS_ONE_OF: &str = "isOneOf";

/// Lets clients ask for [`IS_ONE_OF`].
pub(crate) fn add_introspection(schema: &mut Schema) {
    let Some(ExtendedType::Object(ty)) = schema.types.get_mut("__Type") else {
        return;
    };
    let definition = FieldDefinition {
        description: Some("Of an input object: whether exactly one of its fields is given.".into()),
        name: name!("isOneOf"),
        arguments: Vec::new(),
        ty: Type::Named(name!("Boolean")),
        directives: Default::default(),
    };
    let fields = &mut ty.make_mut().fields;
    fields.insert(definition.name.clone(), Component::new(definition));
}

fn one_of<'s>(schema: &'s Schema, ty: &Name) -> Option<&'s InputObjectType> {
    let input = schema.get_input_object(ty)?;
    input.directives.has("oneOf").then_some(&**input)
}

/// Checks the literal values in a valid document's operation.
///
/// # Errors
/// The first that does not give exactly one field.
pub fn check_operation(
    schema: &Schema,
    document: &ExecutableDocument,
    operation: &Operation,
) -> Result<(), String> {
    if !schema.directive_definitions.contains_key("oneOf") {
        return Ok(());
    }
    let check = Check { schema, operation };
    check.set(&operation.selection_set)?;
    for fragment in document.fragments.values() {
        check.set(&fragment.selection_set)?;
    }
    operation
        .variables
        .iter()
        .filter_map(|variable| Some((&variable.ty, variable.default_value.as_ref()?)))
        .try_for_each(|(ty, value)| check.value(ty, value))
}

struct Check<'a> {
    schema: &'a Schema,
    operation: &'a Operation,
}

impl Check<'_> {
    fn set(&self, set: &SelectionSet) -> Result<(), String> {
        for selection in &set.selections {
            match selection {
                Selection::Field(field) => {
                    for argument in &field.arguments {
                        let known = field.definition.argument_by_name(&argument.name);
                        if let Some(known) = known {
                            self.value(&known.ty, &argument.value)?;
                        }
                    }
                    self.set(&field.selection_set)?;
                }
                Selection::InlineFragment(inline) => self.set(&inline.selection_set)?,
                Selection::FragmentSpread(_) => {}
            }
        }
        Ok(())
    }

    fn value(&self, ty: &Type, value: &Value) -> Result<(), String> {
        match value {
            Value::List(items) => items
                .iter()
                .try_for_each(|item| self.value(ty.item_type(), item)),
            Value::Object(fields) => {
                let name = ty.inner_named_type();
                if one_of(self.schema, name).is_some() {
                    let [(field, value)] = &fields[..] else {
                        return Err(exactly_one(name));
                    };
                    match &**value {
                        Value::Null => return Err(exactly_one(name)),
                        Value::Variable(variable) if self.is_nullable(variable) => {
                            return Err(format!(
                                "\"${variable}\" must not be nullable: it is the one field \"{field}\" of \"{name}\""
                            ));
                        }
                        _ => {}
                    }
                }
                let Some(ExtendedType::InputObject(input)) = self.schema.types.get(name) else {
                    return Ok(());
                };
                fields.iter().try_for_each(|(field, value)| {
                    input
                        .fields
                        .get(field)
                        .map_or(Ok(()), |field| self.value(&field.ty, value))
                })
            }
            _ => Ok(()),
        }
    }

    fn is_nullable(&self, variable: &Name) -> bool {
        self.operation
            .variables
            .iter()
            .find(|known| known.name == *variable)
            .is_some_and(|known| !known.ty.is_non_null())
    }
}

fn exactly_one(ty: &Name) -> String {
    format!("\"{ty}\" needs exactly one field, and it must not be null")
}
