//! Executes `__schema` and `__type`.
//!
//! The library implements introspection as of October 2021. For `isOneOf`, which
//! September 2025 added to `__Type`, it is asked for `name` instead; the type's
//! name in the response is then replaced by the value of `isOneOf`.

use apollo_compiler::ast::FieldDefinition;
use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::response::JsonMap;
use apollo_compiler::schema::Implementers;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name, Node, Schema, introspection};
use serde_json::{Map, Value};
use stoa_federation::one_of::IS_ONE_OF;

/// Executes the introspection fields of a valid operation and skips all others.
///
/// # Errors
/// The library's error message.
pub fn execute_introspection(
    schema: &Valid<Schema>,
    implementers: &HashMap<Name, Implementers>,
    document: &Valid<ExecutableDocument>,
    operation: &Operation,
    variables: &Valid<JsonMap>,
) -> Result<Map<String, Value>, String> {
    let Ok(name) = schema.type_field("__Type", "name") else {
        return Err("the schema has no introspection".to_owned());
    };
    let mut rewritten: ExecutableDocument = (**document).clone();
    for fragment in rewritten.fragments.values_mut() {
        rewrite_to_name(&mut fragment.make_mut().selection_set, &name.node);
    }
    let mut renamed = operation.clone();
    rewrite_to_name(&mut renamed.selection_set, &name.node);
    // It differs from a valid document only in the name of a field, which
    // has the same shape.
    let rewritten = Valid::assume_valid(rewritten);
    let answer =
        introspection::partial_execute(schema, implementers, &rewritten, &renamed, variables)
            .map_err(|error| error.message().to_string())?;
    let mut data = answer.data.as_ref().map(to_map).unwrap_or_default();
    insert_is_one_of(schema, document, &operation.selection_set, &mut data);
    Ok(data)
}

fn is_one_of_field(field: &apollo_compiler::executable::Field, ty: &Name) -> bool {
    field.name == IS_ONE_OF && ty == "__Type"
}

fn rewrite_to_name(set: &mut SelectionSet, name: &Node<FieldDefinition>) {
    let ty = set.ty.clone();
    for selection in &mut set.selections {
        match selection {
            Selection::Field(field) if is_one_of_field(field, &ty) => {
                let field = field.make_mut();
                field.alias.get_or_insert_with(|| field.name.clone());
                field.name = name.name.clone();
                field.definition = name.clone();
            }
            Selection::Field(field) => rewrite_to_name(&mut field.make_mut().selection_set, name),
            Selection::InlineFragment(inline) => {
                rewrite_to_name(&mut inline.make_mut().selection_set, name)
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Replaces the names that stand for `isOneOf` by its values.
fn insert_is_one_of(
    schema: &Schema,
    document: &ExecutableDocument,
    set: &SelectionSet,
    data: &mut Map<String, Value>,
) {
    for selection in &set.selections {
        match selection {
            Selection::Field(field) => {
                let Some(value) = data.get_mut(field.response_key().as_str()) else {
                    continue;
                };
                if !is_one_of_field(field, &set.ty) {
                    insert_is_one_of_nested(schema, document, &field.selection_set, value);
                } else if let Value::String(ty) = value {
                    let input = schema.get_input_object(ty);
                    *value = match input {
                        Some(input) => Value::Bool(input.directives.has("oneOf")),
                        None => Value::Null,
                    };
                }
            }
            Selection::InlineFragment(inline) => {
                insert_is_one_of(schema, document, &inline.selection_set, data)
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = spread.fragment_def(document) {
                    insert_is_one_of(schema, document, &fragment.selection_set, data);
                }
            }
        }
    }
}

fn insert_is_one_of_nested(
    schema: &Schema,
    document: &ExecutableDocument,
    set: &SelectionSet,
    value: &mut Value,
) {
    match value {
        Value::Object(fields) => insert_is_one_of(schema, document, set, fields),
        Value::Array(items) => {
            for item in items {
                insert_is_one_of_nested(schema, document, set, item);
            }
        }
        _ => {}
    }
}

pub(crate) fn to_map(map: &JsonMap) -> Map<String, Value> {
    map.iter()
        .map(|(key, value)| {
            (
                key.as_str().to_owned(),
                serde_json::to_value(value).unwrap_or_default(),
            )
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use apollo_compiler::request::coerce_variable_values;
    use serde_json::json;
    use stoa_federation::{Subgraph, Supergraph, compose};

    use super::*;

    #[test]
    fn it_tells_which_inputs_are_one_of() {
        let sdl = "type Query { f(by: By, all: All): Int } input By @oneOf { a: Int b: Int } input All { a: Int }";
        let subgraph = Subgraph::parse("s", "http://s", sdl).unwrap();
        let composed = compose(&[subgraph]).unwrap();
        let graph = Supergraph::parse(&composed.supergraph_sdl).unwrap();
        let text = r#"query Q($n: String!) {
            __type(name: $n) { name: isOneOf ...More fields { args { type { isOneOf name } } } }
            object: __type(name: "Query") { isOneOf }
            all: __type(name: "All") { ... on __Type { isOneOf } }
        } fragment More on __Type { one: isOneOf kind }"#;
        let document = ExecutableDocument::parse_and_validate(graph.api(), text, "q").unwrap();
        let operation = document.operations.get(None).unwrap();
        let given: JsonMap = [("n".into(), json!("By").into())].into_iter().collect();
        let variables = coerce_variable_values(graph.api(), operation, &given).unwrap();
        let result = execute_introspection(
            graph.api(),
            graph.implementers(),
            &document,
            operation,
            &variables,
        );
        assert_eq!(
            Value::Object(result.unwrap()),
            json!({
                "__type": { "name": true, "one": true, "kind": "INPUT_OBJECT", "fields": null },
                "object": { "isOneOf": null },
                "all": { "isOneOf": false },
            })
        );
    }
}
