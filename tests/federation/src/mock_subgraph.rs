//! A mock subgraph that resolves fields from JSON data.
//!
//! The data is a JSON object. A root type's name maps to the values of its
//! fields; any other type's name maps to its rows. An object that a field returns is
//! completed from the row of its type with the same field values, so `{"id": 1}` is
//! enough to refer to one.
//!
//! | value | meaning |
//! |---|---|
//! | under `field({"arg":1})` | the result for exactly these arguments |
//! | `"=ship {price} {size.w}"` | text built from other fields; an error if one is missing |
//! | `{"$error": "text"}` | a field error |
//!
//! An entity is found by those fields of its representation that rows have; the other
//! fields of the representation are added to the row.
//!
//! It is strict, as a real resolver has nothing to read from: an `@external` field is an
//! error unless the representation, or the reference that a field returns, brings it, and
//! so is a field of whose `@requires` the representation lacks a part.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apollo_compiler::ast::{Directive, FieldDefinition, Selection};
use apollo_compiler::collections::HashMap as CompilerMap;
use apollo_compiler::request::coerce_variable_values;
use apollo_compiler::resolvers::{Execution, FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::{JsonMap, JsonValue};
use apollo_compiler::schema::{ExtendedType, Implementers, ObjectType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name, Schema};
use serde_json::{Map, Value, json};
use stoa_federation::field_set;

/// Resolves computed fields, which are not in the data: from the type, the field and the
/// object.
pub type ComputeField = dyn Fn(&str, &str, &Map<String, Value>) -> Option<Value> + Send + Sync;

/// A mock subgraph that resolves fields from JSON data.
pub struct MockSubgraph {
    schema: Valid<Schema>,
    implementers: CompilerMap<Name, Implementers>,
    data: Arc<Value>,
    compute: Option<Arc<ComputeField>>,
    /// Type and field: those that only a representation or reference brings.
    externals: HashSet<(String, String)>,
}

impl MockSubgraph {
    /// A mock subgraph of a valid schema; the federation fields are added.
    pub fn new(schema: &Valid<Schema>, data: Arc<Value>) -> Self {
        let externals = externals(schema);
        let schema = with_entities(schema);
        Self {
            externals,
            implementers: schema.implementers_map(),
            schema,
            data,
            compute: None,
        }
    }

    pub fn with_computed_fields(mut self, compute: Arc<ComputeField>) -> Self {
        self.compute = Some(compute);
        self
    }

    pub fn schema(&self) -> &Valid<Schema> {
        &self.schema
    }

    /// Executes a query and returns the response, as a GraphQL server does.
    pub fn answer(&self, query: &str, variables: &Map<String, Value>) -> Value {
        match self.try_answer(query, variables) {
            Ok(answer) => answer,
            Err(message) => json!({ "errors": [{ "message": message }] }),
        }
    }

    fn try_answer(&self, query: &str, variables: &Map<String, Value>) -> Result<Value, String> {
        let document = ExecutableDocument::parse_and_validate(&self.schema, query, "query")
            .map_err(|invalid| format!("invalid: {}\n{query}", invalid.errors))?;
        let operation = document.operations.get(None).map_err(|_| "no operation")?;
        let variables: JsonMap = variables
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.clone().into()))
            .collect();
        let variables = coerce_variable_values(&self.schema, operation, &variables)
            .map_err(|error| error.message().to_string())?;
        let root = operation.object_type();
        let object = Object {
            subgraph: self,
            ty: root.to_string(),
            fields: object_of(self.data.get(root.as_str())),
            given: Map::new(),
        };
        let response = Execution::new(&self.schema, &document)
            .implementers_map(&self.implementers)
            .coerced_variable_values(&variables)
            .execute_sync(&object)
            .map_err(|error| error.message().to_string())?;
        serde_json::to_value(&response).map_err(|error| error.to_string())
    }

    /// The first row with the same values as `like` in all fields that both have.
    fn row(&self, ty: &str, like: &Map<String, Value>) -> Option<(String, Map<String, Value>)> {
        let name = Name::new(ty).ok()?;
        let concrete: Vec<&str> = match self.schema.types.get(&name) {
            Some(ExtendedType::Interface(_)) => self
                .implementers
                .get(&name)
                .into_iter()
                .flat_map(|implementers| &implementers.objects)
                .map(Name::as_str)
                .collect(),
            _ => vec![ty],
        };
        concrete.into_iter().find_map(|ty| {
            let rows = self.data.get(ty)?.as_array()?;
            let row = rows.iter().find(|row| matches(row, like))?;
            Some((ty.to_owned(), object_of(Some(row))))
        })
    }

    fn has_rows(&self, ty: &str) -> bool {
        self.data.get(ty).is_some_and(Value::is_array) || self.schema.get_interface(ty).is_some()
    }

    fn entity(&self, representation: &Value) -> Option<Object<'_>> {
        let given = representation.as_object()?;
        let ty = given.get("__typename")?.as_str()?;
        let mut given = given.clone();
        given.remove("__typename");
        let (ty, mut fields) = if self.has_rows(ty) {
            self.row(ty, &given)?
        } else {
            (ty.to_owned(), Map::new())
        };
        merge(&mut fields, given.clone());
        let subgraph = self;
        Some(Object {
            subgraph,
            ty,
            fields,
            given,
        })
    }

    /// An object that a field returns, completed from its row.
    fn object(&self, declared: &str, value: &Map<String, Value>) -> Object<'_> {
        let named = value.get("__typename").and_then(Value::as_str);
        let asked = named.unwrap_or(declared);
        let mut given = value.clone();
        given.remove("__typename");
        let (ty, mut fields) = self
            .row(asked, &given)
            .unwrap_or_else(|| (asked.to_owned(), Map::new()));
        merge(&mut fields, given.clone());
        let subgraph = self;
        Object {
            subgraph,
            ty,
            fields,
            given,
        }
    }

    fn resolve<'a>(
        &'a self,
        ty: &apollo_compiler::ast::Type,
        value: &Value,
    ) -> Result<ResolvedValue<'a>, FieldError> {
        if let Some(message) = value.get("$error").and_then(Value::as_str) {
            return Err(FieldError {
                message: message.to_owned(),
            });
        }
        let named = ty.inner_named_type();
        let leaf = self
            .schema
            .types
            .get(named)
            .is_none_or(ExtendedType::is_leaf);
        match value {
            Value::Null => Ok(ResolvedValue::null()),
            Value::Array(items) if ty.is_list() => {
                let items: Vec<_> = items
                    .iter()
                    .map(|item| self.resolve(ty.item_type(), item))
                    .collect();
                Ok(ResolvedValue::List(Box::new(items.into_iter())))
            }
            Value::Object(object) if !leaf => Ok(ResolvedValue::object(self.object(named, object))),
            other => Ok(ResolvedValue::leaf(JsonValue::from(other.clone()))),
        }
    }
}

struct Object<'a> {
    subgraph: &'a MockSubgraph,
    ty: String,
    fields: Map<String, Value>,
    /// Those that the representation or the reference brought.
    given: Map<String, Value>,
}

impl Object<'_> {
    /// Fails for a field that the subgraph cannot resolve for this object.
    fn check_resolvable(&self, field: &FieldDefinition) -> Result<(), FieldError> {
        let refuse = |reason: &str| {
            let message = format!("{}.{}: {reason}", self.ty, field.name);
            Err(FieldError { message })
        };
        let externals = &self.subgraph.externals;
        let external = |name: &str| externals.contains(&(self.ty.clone(), name.to_owned()));
        if external(&field.name) && !self.given.contains_key(field.name.as_str()) {
            return refuse("is @external, and nothing brought it");
        }
        let mut requires = applied(&field.directives, "requires");
        let lacks = requires.any(|directive| {
            set_of(directive).iter().any(|selection| match selection {
                // Federation 1 let other fields be written, and did not send them.
                Selection::Field(part) => {
                    external(&part.name) && !brings(&self.given, std::slice::from_ref(selection))
                }
                _ => false,
            })
        });
        match lacks {
            true => refuse("what it @requires was not sent"),
            false => Ok(()),
        }
    }
}

impl ObjectValue for Object<'_> {
    fn type_name(&self) -> &str {
        &self.ty
    }

    fn resolve_field<'a>(
        &'a self,
        info: &'a ResolveInfo<'a>,
    ) -> Result<ResolvedValue<'a>, FieldError> {
        let name = info.field_name();
        if name == "_entities" {
            let representations = info.arguments().get("representations");
            let representations = representations
                .and_then(|list| serde_json::to_value(list).ok())
                .unwrap_or_default();
            let entities: Vec<_> = representations
                .as_array()
                .into_iter()
                .flatten()
                .map(|representation| {
                    Ok(match self.subgraph.entity(representation) {
                        Some(object) => ResolvedValue::object(object),
                        None => ResolvedValue::null(),
                    })
                })
                .collect();
            return Ok(ResolvedValue::List(Box::new(entities.into_iter())));
        }
        self.check_resolvable(info.field_definition())?;
        let ty = &info.field_definition().ty;
        if let Some(compute) = &self.subgraph.compute
            && let Some(value) = compute(&self.ty, name, &self.fields)
        {
            return self.subgraph.resolve(ty, &value);
        }
        let arguments = serde_json::to_string(info.arguments()).unwrap_or_default();
        let value = self
            .fields
            .get(&format!("{name}({arguments})"))
            .or_else(|| self.fields.get(name));
        match value {
            Some(Value::String(text)) if text.starts_with('=') => {
                let value = fill_template(&text[1..], &self.fields)?;
                self.subgraph.resolve(ty, &value)
            }
            Some(value) => self.subgraph.resolve(ty, value),
            None => Ok(ResolvedValue::null()),
        }
    }
}

/// Whether an object has all that a field set selects. A fragment's part may be absent.
fn brings(given: &Map<String, Value>, set: &[Selection]) -> bool {
    fn has(value: &Value, set: &[Selection]) -> bool {
        match value {
            Value::Array(items) => items.iter().all(|item| has(item, set)),
            Value::Object(object) => brings(object, set),
            _ => true,
        }
    }
    set.iter().all(|selection| match selection {
        Selection::Field(field) if field.name == "__typename" => true,
        Selection::Field(field) => given
            .get(field.name.as_str())
            .is_some_and(|value| has(value, &field.selection_set)),
        _ => true,
    })
}

/// The applications of a federation directive, under whichever name.
fn applied<'a>(
    directives: impl IntoIterator<Item = &'a apollo_compiler::Node<Directive>>,
    name: &str,
) -> impl Iterator<Item = &'a Directive> {
    directives
        .into_iter()
        .map(|directive| &**directive)
        .filter(move |directive| directive.name.ends_with(name))
}

fn set_of(directive: &Directive) -> Vec<Selection> {
    let fields = directive.specified_argument_by_name("fields");
    let text = fields.and_then(|fields| fields.as_str());
    text.and_then(|text| field_set::parse(text).ok())
        .unwrap_or_default()
}

/// The fields that the subgraph only mentions. The key fields of an extension are not
/// among them: Federation 1 had no other way to write these.
fn externals(schema: &Schema) -> HashSet<(String, String)> {
    fn note(schema: &Schema, ty: &str, set: &[Selection], out: &mut HashSet<(String, String)>) {
        for field in set.iter().filter_map(Selection::as_field) {
            out.insert((ty.to_owned(), field.name.to_string()));
            if let Ok(definition) = schema.type_field(ty, &field.name) {
                let inner = definition.ty.inner_named_type();
                note(schema, inner, &field.selection_set, out);
            }
        }
    }
    let plain = |object: &ObjectType| object.directives.iter().map(|d| d.node.clone()).collect();
    let mut found = HashSet::new();
    let mut kept = HashSet::new();
    for (name, ty) in &schema.types {
        let ExtendedType::Object(object) = ty else {
            continue;
        };
        let directives: Vec<_> = plain(object);
        let whole = applied(&directives, "external").next().is_some();
        for field in object.fields.values() {
            if whole || applied(&field.directives, "external").next().is_some() {
                found.insert((name.to_string(), field.name.to_string()));
            }
        }
        let extends = applied(&directives, "extends").next().is_some();
        for key in &object.directives {
            if key.name.ends_with("key") && (extends || key.origin.extension_id().is_some()) {
                note(schema, name, &set_of(key), &mut kept);
            }
        }
    }
    found.retain(|at| !kept.contains(at));
    found
}

/// Replaces each `{path}` by the value at that path; a path continues through lists.
fn fill_template(template: &str, fields: &Map<String, Value>) -> Result<Value, FieldError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (path, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        let found = at(fields, path).ok_or_else(|| FieldError {
            message: format!("\"{path}\" was not sent"),
        })?;
        match found {
            Value::String(text) => out.push_str(&text),
            other => out.push_str(&other.to_string()),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

fn at(fields: &Map<String, Value>, path: &str) -> Option<Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = fields.get(first)?;
    if rest.is_empty() {
        return Some(value.clone());
    }
    match value {
        Value::Array(items) => items
            .iter()
            .map(|item| at(item.as_object()?, rest))
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        Value::Null => Some(Value::Null),
        other => at(other.as_object()?, rest),
    }
}

fn object_of(value: Option<&Value>) -> Map<String, Value> {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Whether a row has at least one of the fields, and no field with another value.
fn matches(row: &Value, like: &Map<String, Value>) -> bool {
    let known = row.as_object();
    let common = known.is_some_and(|row| like.keys().any(|key| row.contains_key(key)));
    (common || like.is_empty()) && values_agree(row, &Value::Object(like.clone()))
}

fn values_agree(known: &Value, like: &Value) -> bool {
    match (known, like) {
        (Value::Object(known), Value::Object(like)) => like.iter().all(|(key, value)| {
            known
                .get(key)
                .is_none_or(|known| values_agree(known, value))
        }),
        (Value::Array(known), Value::Array(like)) => {
            known.len() == like.len() && known.iter().zip(like).all(|(a, b)| values_agree(a, b))
        }
        (known, like) => text(known) == text(like),
    }
}

/// A value as text, because ids may be numbers or strings.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Adds the federation types and fields that a subgraph library adds.
fn with_entities(schema: &Valid<Schema>) -> Valid<Schema> {
    let mut text = schema
        .to_string()
        .replace("_stoaPlaceholder: Boolean", "_service: _Service!");
    let entities: Vec<&str> = schema
        .types
        .iter()
        .filter(|(_, ty)| ty.is_object() && ty.directives().iter().any(|d| d.name.ends_with("key")))
        .map(|(name, _)| name.as_str())
        .collect();
    let query = schema
        .schema_definition
        .query
        .as_ref()
        .map_or("Query", |query| query.name.as_str());
    if !schema.types.contains_key("_Any") {
        text.push_str("\nscalar _Any\n");
    }
    if !schema.types.contains_key("_Service") {
        text.push_str("\ntype _Service { sdl: String! }\n");
    }
    if !entities.is_empty() && !schema.types.contains_key("_Entity") {
        text.push_str(&format!(
            "\nunion _Entity = {}\nextend type {query} {{ _entities(representations: [_Any!]!): [_Entity]! }}\n",
            entities.join(" | ")
        ));
    }
    match Schema::parse_and_validate(&text, "subgraph.graphql") {
        Ok(schema) => schema,
        Err(invalid) => panic!("{}\n{text}", invalid.errors),
    }
}

/// Subgraphs by name.
pub type MockSubgraphs = HashMap<String, Arc<MockSubgraph>>;
