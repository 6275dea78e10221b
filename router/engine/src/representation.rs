//! Entities: finding them in the data, asking for each once, and putting the
//! answers back.

use std::collections::HashMap;

use serde_json::{Map, Value};
use stoa_federation::plan::{EntityInput, PathStep, Required};

use crate::response::PathSegment;

/// The representations of one entity fetch and where each answer belongs.
#[derive(Debug, Default)]
pub struct Batch {
    pub representations: Vec<Value>,
    /// For each representation, the paths of the objects that it stands for.
    pub targets: Vec<Vec<Vec<PathSegment>>>,
}

/// The paths of the objects at `path`.
pub fn find(data: &Value, path: &[PathStep]) -> Vec<Vec<PathSegment>> {
    let mut found = Vec::new();
    visit(data, path, &mut Vec::new(), &mut |_, at| {
        found.push(at.to_vec())
    });
    found
}

/// Collects the representations of the objects at `path`, equal ones once.
pub fn collect(data: &Value, path: &[PathStep], inputs: &[EntityInput]) -> Batch {
    let mut collector = Collector {
        inputs,
        batch: Batch::default(),
        seen: HashMap::new(),
    };
    visit(data, path, &mut Vec::new(), &mut |object, at| {
        collector.entity(object, at);
    });
    collector.batch
}

type Visitor<'v> = dyn FnMut(&Map<String, Value>, &[PathSegment]) + 'v;

fn visit(value: &Value, path: &[PathStep], at: &mut Vec<PathSegment>, found: &mut Visitor<'_>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push(PathSegment::Index(index));
                visit(item, path, at, found);
                at.pop();
            }
        }
        Value::Object(object) => match path.split_first() {
            None => found(object, at),
            Some((PathStep::Key(key), rest)) => {
                if let Some(inner) = object.get(key.as_str()) {
                    at.push(PathSegment::Key(key.as_str().into()));
                    visit(inner, rest, at, found);
                    at.pop();
                }
            }
            Some((PathStep::Types(types), rest)) => {
                if has_type(object, types) {
                    visit(value, rest, at, found);
                }
            }
        },
        _ => {}
    }
}

struct Collector<'a> {
    inputs: &'a [EntityInput],
    batch: Batch,
    seen: HashMap<String, usize>,
}

impl Collector<'_> {
    fn entity(&mut self, object: &Map<String, Value>, at: &[PathSegment]) {
        let typename = object.get("__typename").and_then(Value::as_str);
        let input = match (typename, self.inputs) {
            (Some(name), inputs) => inputs
                .iter()
                .find(|input| input.types.iter().any(|ty| ty == name)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(input) = input else { return };
        let mut representation = Map::new();
        representation.insert(
            "__typename".to_owned(),
            Value::from(input.typename.as_str()),
        );
        if !copy(object, &input.keys, true, &mut representation)
            || !copy(object, &input.requires, false, &mut representation)
        {
            return;
        }
        let representation = Value::Object(representation);
        let batch = &mut self.batch;
        let index = *self
            .seen
            .entry(representation.to_string())
            .or_insert_with(|| {
                batch.representations.push(representation);
                batch.targets.push(Vec::new());
                batch.representations.len() - 1
            });
        if let Some(targets) = batch.targets.get_mut(index) {
            targets.push(at.to_vec());
        }
    }
}

fn has_type(object: &Map<String, Value>, types: &[impl AsRef<str>]) -> bool {
    object
        .get("__typename")
        .and_then(Value::as_str)
        .is_some_and(|name| types.iter().any(|ty| ty.as_ref() == name))
}

/// Copies fields into a representation; false if one is missing, or null
/// where `strict`.
fn copy(
    object: &Map<String, Value>,
    fields: &[Required],
    strict: bool,
    out: &mut Map<String, Value>,
) -> bool {
    for required in fields {
        if let Some(types) = &required.only
            && !has_type(object, types)
        {
            continue;
        }
        let Some(value) = object.get(required.key.as_str()) else {
            if required.field == "__typename" {
                continue;
            }
            return false;
        };
        if strict && value.is_null() {
            return false;
        }
        match copied(value, &required.nested, strict) {
            Some(value) => out.insert(required.field.to_string(), value),
            None => return false,
        };
    }
    true
}

fn copied(value: &Value, nested: &[Required], strict: bool) -> Option<Value> {
    if nested.is_empty() {
        return Some(value.clone());
    }
    match value {
        Value::Object(object) => {
            let mut out = Map::new();
            if let Some(name) = object.get("__typename") {
                out.insert("__typename".to_owned(), name.clone());
            }
            copy(object, nested, strict, &mut out).then_some(Value::Object(out))
        }
        Value::Array(items) => items
            .iter()
            .map(|item| copied(item, nested, strict))
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        other => Some(other.clone()),
    }
}

/// Merges an answer into the data: objects by key, lists by position; null
/// never hides what is there.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(existing) => merge(existing, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if into.len() == from.len() => {
            for (existing, value) in into.iter_mut().zip(from) {
                merge(existing, value);
            }
        }
        (into @ Value::Null, from) => *into = from,
        _ => {}
    }
}

/// The value at a path of the data.
pub fn at<'a>(data: &'a mut Value, path: &[PathSegment]) -> Option<&'a mut Value> {
    path.iter().try_fold(data, |value, segment| match segment {
        PathSegment::Key(key) => value.get_mut(&**key),
        PathSegment::Index(index) => value.get_mut(*index),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_keeps_what_is_there() {
        let mut data = json!({ "a": { "x": 1, "l": [{ "p": 1 }, null] }, "n": null });
        merge(
            &mut data,
            json!({ "a": { "y": 2, "l": [{ "q": 2 }, null], "x": null }, "n": { "z": 3 } }),
        );
        assert_eq!(
            data,
            json!({ "a": { "x": 1, "l": [{ "p": 1, "q": 2 }, null], "y": 2 }, "n": { "z": 3 } })
        );
    }
}
