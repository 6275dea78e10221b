//! Default values: each must be a value of its type.
//!
//! Source: GraphQL October 2021, sections 3.5 and 3.9 to 3.12 (Input Coercion), 3.6.1 and
//! 3.13 (the default value must be compatible).

use apollo_compiler::ast::{InputValueDefinition, Type, Value};
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Node};

use super::Check;
use crate::subgraph::fields_of;

impl Check<'_> {
    /// The default values of all arguments and input fields.
    pub(super) fn defaults(&mut self) {
        let subgraph = self.subgraph;
        let mut all: Vec<(String, &Node<InputValueDefinition>)> = Vec::new();
        for (name, ty) in subgraph.own_types() {
            for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
                for argument in &field.arguments {
                    all.push((
                        format!("{name}.{}({}:)", field.name, argument.name),
                        argument,
                    ));
                }
            }
            if let ExtendedType::InputObject(input) = ty {
                for field in input.fields.values() {
                    all.push((format!("{name}.{}", field.name), &field.node));
                }
            }
        }
        for definition in subgraph.schema.directive_definitions.values() {
            for argument in &definition.arguments {
                all.push((
                    format!("@{}({}:)", definition.name, argument.name),
                    argument,
                ));
            }
        }
        for (at, input) in all {
            let Some(value) = &input.default_value else {
                continue;
            };
            if let Err(reason) = self.value(&input.ty, value) {
                let message = format!("the default value of \"{at}\": {reason}");
                self.report("INVALID_GRAPHQL", input.location(), message);
            }
        }
    }

    fn value(&self, ty: &Type, value: &Value) -> Result<(), String> {
        if value.is_null() {
            return match ty.is_non_null() {
                true => Err(format!("null is not a \"{ty}\"")),
                false => Ok(()),
            };
        }
        match (ty, value) {
            (Type::List(_) | Type::NonNullList(_), Value::List(items)) => {
                let item = ty.item_type();
                items.iter().try_for_each(|value| self.value(item, value))
            }
            // One value stands for a list of it.
            (Type::List(item) | Type::NonNullList(item), one) => self.value(item, one),
            (Type::Named(name) | Type::NonNullNamed(name), value) => self.named(name, value),
        }
    }

    fn named(&self, name: &Name, value: &Value) -> Result<(), String> {
        let fits = match (self.subgraph.schema.types.get(name), value) {
            (Some(ExtendedType::Enum(ty)), Value::Enum(value)) => ty.values.contains_key(value),
            (Some(ExtendedType::Enum(_)), _) => false,
            (Some(ExtendedType::InputObject(input)), Value::Object(fields)) => {
                for (field, value) in fields {
                    match input.fields.get(field) {
                        Some(field) => self.value(&field.ty, value)?,
                        None => return Err(format!("\"{name}\" has no field \"{field}\"")),
                    }
                }
                let given = |field: &Name| fields.iter().any(|(given, _)| given == field);
                let mut missing = input.fields.values();
                if let Some(field) = missing.find(|f| f.is_required() && !given(&f.name)) {
                    return Err(format!("\"{name}\" needs its field \"{}\"", field.name));
                }
                true
            }
            (Some(ExtendedType::InputObject(_)), _) => false,
            (Some(ExtendedType::Scalar(_)), value) => match name.as_str() {
                "Int" => matches!(value, Value::Int(int) if int.try_to_i32().is_ok()),
                "Float" => matches!(value, Value::Int(_) | Value::Float(_)),
                "String" => matches!(value, Value::String(_)),
                "Boolean" => matches!(value, Value::Boolean(_)),
                "ID" => matches!(value, Value::Int(_) | Value::String(_)),
                // A scalar of the graph's own takes what it likes.
                _ => true,
            },
            // Another rule reports a type that is no input.
            _ => true,
        };
        match fits {
            true => Ok(()),
            false => {
                let value = value.serialize().no_indent();
                Err(format!("{value} is not a \"{name}\""))
            }
        }
    }
}
