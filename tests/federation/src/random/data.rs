//! The data of the monolith, and the part of it that each subgraph has.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Choices;
use super::model::{Field, Kind, Model, entity_name};
use crate::mock_subgraph::ComputeField;

impl Model {
    /// All data, as the monolith has it.
    pub(super) fn data(&self, choices: &mut Choices<'_>) -> Value {
        let mut data = Map::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let rows: Vec<Value> = (0..self.rows)
                .map(|row| {
                    let mut fields = Map::from_iter([
                        ("_row".to_owned(), json!(row)),
                        ("id".to_owned(), json!(format!("{index}-{row}"))),
                        ("sku".to_owned(), json!(format!("sku{row}"))),
                        ("inner".to_owned(), json!({ "code": format!("c{row}") })),
                        ("tag".to_owned(), json!(row)),
                    ]);
                    if self.holder.is_some() && !entity.implements.is_empty() {
                        fields.insert("extra".to_owned(), json!(choices.below(1000)));
                    }
                    for field in entity.fields.iter().filter(|f| f.requires.is_none()) {
                        fields.insert(field.name.clone(), self.value(choices, field));
                    }
                    Value::Object(fields)
                })
                .collect();
            data.insert(entity_name(index), Value::Array(rows));
        }
        let roots = self
            .roots
            .iter()
            .map(|field| (field.name.clone(), self.value(choices, field)))
            .collect();
        let mut roots: Map<String, Value> = roots;
        if self.holder.is_some() {
            let one = self.held(choices);
            let several = (0..choices.below(4)).map(|_| self.held(choices)).collect();
            roots.insert("held".to_owned(), one);
            roots.insert("holds".to_owned(), Value::Array(several));
        }
        data.insert("Query".to_owned(), Value::Object(roots));
        let mut mutations: Map<String, Value> = self
            .mutations
            .iter()
            .map(|field| (field.name.clone(), self.value(choices, field)))
            .collect();
        if let Some(payload) = &self.payload {
            let mut row = json!({ "_row": 0, "id": "p", "start": choices.below(1000) });
            for subgraph in &payload.entered {
                row[format!("entered{subgraph}")] = json!(choices.below(1000));
            }
            data.insert("P".to_owned(), json!([row]));
            mutations.insert("pay".to_owned(), json!({ "__typename": "P", "_row": 0 }));
        }
        data.insert("Mutation".to_owned(), Value::Object(mutations));
        Value::Object(data)
    }

    /// A random entity that the interface object's subgraph refers to.
    fn held(&self, choices: &mut Choices<'_>) -> Value {
        let able: Vec<usize> = (0..self.entities.len())
            .filter(|index| !self.entities[*index].implements.is_empty())
            .collect();
        let ty = able[choices.below(able.len())];
        json!({ "__typename": entity_name(ty), "_row": choices.below(self.rows) })
    }

    /// The data of the interface object's subgraph: objects by `id`, without their type.
    fn interface_object_data(&self, data: &Value) -> Value {
        let by_id = |value: &Value| {
            let ty = value["__typename"].as_str().unwrap_or_default();
            let row = usize::try_from(value["_row"].as_u64().unwrap_or(0)).unwrap_or(0);
            json!({ "id": data[ty][row]["id"] })
        };
        let rows: Vec<Value> = (0..self.entities.len())
            .filter(|index| !self.entities[*index].implements.is_empty())
            .flat_map(|index| {
                data[entity_name(index)]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .map(|row| json!({ "id": row["id"], "extra": row["extra"] }))
            .collect();
        let holds = data["Query"]["holds"].as_array();
        let holds: Vec<Value> = holds.into_iter().flatten().map(by_id).collect();
        json!({ "Query": { "held": by_id(&data["Query"]["held"]), "holds": holds }, "I": rows })
    }

    pub(super) fn value(&self, choices: &mut Choices<'_>, field: &Field) -> Value {
        if !field.non_null && choices.chance(12) {
            return Value::Null;
        }
        if field.list {
            let items = (0..choices.below(4))
                .map(|_| {
                    if choices.chance(10) {
                        Value::Null
                    } else {
                        self.item(choices, field)
                    }
                })
                .collect();
            return Value::Array(items);
        }
        self.item(choices, field)
    }

    pub(super) fn item(&self, choices: &mut Choices<'_>, field: &Field) -> Value {
        let any = field.owners.first().copied().unwrap_or(0);
        match &field.kind {
            Kind::Int => json!(choices.below(1000)),
            Kind::Text => json!(format!("t{}", choices.below(1000))),
            Kind::Value(value) => Value::Object(
                self.values[*value]
                    .fields
                    .iter()
                    .map(|(name, _)| (name.clone(), json!(choices.below(1000))))
                    .collect(),
            ),
            kind => {
                let possible = self.possible(kind, any);
                let ty = possible[choices.below(possible.len())];
                json!({ "__typename": entity_name(ty), "_row": choices.below(self.rows) })
            }
        }
    }

    /// The part of the data that one subgraph has.
    pub(super) fn part(&self, subgraph: usize, data: &Value) -> Value {
        if subgraph == self.subgraphs {
            return self.interface_object_data(data);
        }
        let mut part = Map::new();
        for (index, entity) in self.entities.iter().enumerate() {
            if !entity.keys.contains_key(&subgraph) {
                continue;
            }
            let rows = data[entity_name(index)]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let rows = rows
                .into_iter()
                .map(|row| {
                    let mut known = Map::new();
                    for name in ["_row", "id", "sku", "inner", "tag"] {
                        known.insert(name.to_owned(), row[name].clone());
                    }
                    for field in &entity.fields {
                        if field.owners.contains(&subgraph) && field.requires.is_none() {
                            let value = row[&field.name].clone();
                            known.insert(
                                field.name.clone(),
                                self.with_provided_fields(field, value, data),
                            );
                        }
                    }
                    Value::Object(known)
                })
                .collect();
            part.insert(entity_name(index), Value::Array(rows));
        }
        let roots = self
            .roots
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| {
                let value = data["Query"][&f.name].clone();
                (f.name.clone(), self.with_provided_fields(f, value, data))
            })
            .collect();
        part.insert("Query".to_owned(), Value::Object(roots));
        let mut mutations: Map<String, Value> = self
            .mutations
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| (f.name.clone(), data["Mutation"][&f.name].clone()))
            .collect();
        if self.payload_sdl(subgraph).is_some() {
            mutations.insert("pay".to_owned(), data["Mutation"]["pay"].clone());
            part.insert("P".to_owned(), data["P"].clone());
        }
        part.insert("Mutation".to_owned(), Value::Object(mutations));
        Value::Object(part)
    }

    /// A reference, with the field that it provides.
    pub(super) fn with_provided_fields(&self, field: &Field, value: Value, data: &Value) -> Value {
        let Some(provides) = &field.provides else {
            return value;
        };
        match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.with_provided_fields(field, item, data))
                .collect(),
            Value::Object(mut reference) => {
                let ty = reference["__typename"].as_str().unwrap_or_default();
                let row = reference["_row"].as_u64().unwrap_or(0);
                let row = usize::try_from(row).unwrap_or(0);
                let given = data[ty][row][provides].clone();
                reference.insert(provides.clone(), given);
                Value::Object(reference)
            }
            other => other,
        }
    }

    /// Computed fields; in a subgraph, an error for fields it must not be asked for.
    pub(super) fn compute(&self, subgraph: Option<usize>) -> Arc<ComputeField> {
        let mut computed: HashMap<(String, String), String> = HashMap::new();
        let mut poisoned: BTreeSet<(String, String)> = BTreeSet::new();
        for ty in std::iter::once("I".to_owned()).chain((0..self.entities.len()).map(entity_name)) {
            computed.insert((ty, "fromTag".to_owned()), "tag".to_owned());
        }
        for (index, entity) in self.entities.iter().enumerate() {
            for field in &entity.fields {
                let at = (entity_name(index), field.name.clone());
                if let Some(requires) = &field.requires {
                    computed.insert(at.clone(), requires.clone());
                }
                if let Some(subgraph) = subgraph
                    && !field.owners.contains(&subgraph)
                {
                    poisoned.insert(at);
                }
            }
        }
        Arc::new(move |ty, name, fields| {
            let mut at = (ty.to_owned(), name.to_owned());
            if poisoned.contains(&at) && !fields.contains_key(name) {
                return Some(json!({ "$error": "is resolved elsewhere" }));
            }
            // The monolith computes the inputs that subgraphs get in representations.
            let mut text = String::new();
            let mut depth = 0;
            while let Some(requires) = computed.get(&at) {
                if let Some(known) = fields.get(name).filter(|_| depth == 0) {
                    return Some(known.clone());
                }
                text.push_str("f(");
                depth += 1;
                if let Some(known) = fields.get(requires) {
                    match known {
                        Value::String(known) => text.push_str(known),
                        other => {
                            let _ = write!(text, "{other}");
                        }
                    }
                    break;
                }
                if !computed.contains_key(&(ty.to_owned(), requires.clone())) || subgraph.is_some()
                {
                    text.push_str("poison");
                    break;
                }
                at.1 = requires.clone();
            }
            (depth > 0).then(|| Value::String(text + &")".repeat(depth)))
        })
    }
}
