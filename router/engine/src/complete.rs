//! Completing values: from what subgraphs answered to what the client asked.
//!
//! Source: GraphQL October 2021, sections 6.4.3 (value completion) and 6.4.4
//! (errors and nullability).

use std::collections::HashSet;

use serde_json::{Map, Value};
use stoa_federation::plan::{FieldShape, FieldSource, Leaf, ObjectShape, ValueShape};

use crate::response::{GraphQLError, PathSegment};

/// Writes the `data` entry; `null` if a null reached the root. Errors that
/// completion itself finds are appended to `errors`.
pub fn complete(
    shape: &ObjectShape,
    data: &Value,
    introspection: &Map<String, Value>,
    errors: &mut Vec<GraphQLError>,
    explained: Vec<Vec<PathSegment>>,
) -> Vec<u8> {
    let mut known = Explained::default();
    for error in errors.iter() {
        known.add(&error.path);
    }
    for path in &explained {
        known.add(path);
    }
    let mut completer = Completer {
        known,
        found: 0,
        out: Vec::with_capacity(1024),
        path: Vec::new(),
        introspection,
        errors,
    };
    let root = match data {
        Value::Object(object) => object,
        _ => &Map::new(),
    };
    if completer.object(shape, root).is_err() {
        completer.out.clear();
        completer.out.extend_from_slice(b"null");
    }
    completer.out
}

/// At most this many errors are found by completion itself; the values are
/// null all the same.
const MAX_ERRORS: usize = 100;

/// The places at which a null has its explanation.
#[derive(Default)]
struct Explained {
    /// An error stands here: all below is explained.
    at: HashSet<Vec<PathSegment>>,
    /// An error stands here or below: a null that rose to here is explained.
    through: HashSet<Vec<PathSegment>>,
}

impl Explained {
    fn add(&mut self, path: &[PathSegment]) {
        if path.is_empty() {
            return;
        }
        self.at.insert(path.to_vec());
        for length in 1..=path.len() {
            self.through.insert(path[..length].to_vec());
        }
    }

    fn holds(&self, path: &[PathSegment]) -> bool {
        self.through.contains(path)
            || (1..=path.len()).any(|length| self.at.contains(&path[..length]))
    }
}

/// A null that the parent must take.
struct Bubble;

struct Completer<'a> {
    out: Vec<u8>,
    path: Vec<PathSegment>,
    introspection: &'a Map<String, Value>,
    errors: &'a mut Vec<GraphQLError>,
    known: Explained,
    found: usize,
}

impl Completer<'_> {
    fn object(&mut self, shape: &ObjectShape, object: &Map<String, Value>) -> Result<(), Bubble> {
        let (typename, fields): (&str, &[FieldShape]) = match shape {
            ObjectShape::One(name, fields) => (name, fields),
            ObjectShape::ByType {
                known,
                untyped,
                hidden,
            } => {
                let name = object.get("__typename").and_then(Value::as_str);
                match (name.map(|name| (name, known.get_key_value(name))), untyped) {
                    (Some((_, Some((name, fields)))), _) => (name, fields),
                    (None, Some(fields)) => ("", fields),
                    (Some((name, None)), _) if hidden.iter().any(|ty| ty == name) => {
                        self.known.add(&self.path);
                        return Err(Bubble);
                    }
                    _ => {
                        self.error("a service answered with an object of an unexpected type");
                        return Err(Bubble);
                    }
                }
            }
        };
        self.out.push(b'{');
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.string(&field.key);
            self.out.push(b':');
            match field.source {
                FieldSource::Typename => self.string(typename),
                FieldSource::Introspection => {
                    let value = self.introspection.get(field.key.as_str());
                    self.json(value.unwrap_or(&Value::Null));
                }
                FieldSource::Data => {
                    self.path.push(PathSegment::Key(field.key.as_str().into()));
                    let done = self.value(&field.value, object.get(field.slot.as_str()));
                    self.path.pop();
                    done?;
                }
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a value; answers whether it was not null.
    fn value(&mut self, shape: &ValueShape, value: Option<&Value>) -> Result<bool, Bubble> {
        let inner = match shape {
            ValueShape::NonNull(inner) => {
                if self.value(inner, value)? {
                    return Ok(true);
                }
                if !self.known.holds(&self.path) {
                    self.error("a service answered null for a field that is never null");
                }
                return Err(Bubble);
            }
            inner => inner,
        };
        let start = self.out.len();
        let written = match (inner, value) {
            (_, None | Some(Value::Null)) => Err(Bubble),
            (ValueShape::List(item), Some(Value::Array(items))) => self.list(item, items),
            (ValueShape::Object(shape), Some(Value::Object(object))) => self.object(shape, object),
            (ValueShape::Leaf(leaf), Some(value)) => self.leaf(leaf, value),
            _ => {
                self.error("a service answered with a value of the wrong shape");
                Err(Bubble)
            }
        };
        match written {
            Ok(()) => Ok(true),
            Err(Bubble) => {
                self.out.truncate(start);
                self.out.extend_from_slice(b"null");
                Ok(false)
            }
        }
    }

    fn list(&mut self, item: &ValueShape, items: &[Value]) -> Result<(), Bubble> {
        self.out.push(b'[');
        for (index, value) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.path.push(PathSegment::Index(index));
            let done = self.value(item, Some(value));
            self.path.pop();
            done?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, value: &Value) -> Result<(), Bubble> {
        let fits = match (leaf, value) {
            (Leaf::Any, _) | (Leaf::Float, Value::Number(_)) | (Leaf::Boolean, Value::Bool(_)) => {
                true
            }
            (Leaf::String | Leaf::Id, Value::String(_)) => true,
            (Leaf::Int, Value::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Leaf::Id, Value::Number(number)) if number.is_i64() => {
                self.string(&number.to_string());
                return Ok(());
            }
            (Leaf::Enum(values), Value::String(text)) => match values.get(text.as_str()) {
                // What clients may not see is nothing to them.
                Some(false) => {
                    self.known.add(&self.path);
                    return Err(Bubble);
                }
                public => public.is_some(),
            },
            _ => false,
        };
        if fits {
            self.json(value);
            Ok(())
        } else {
            self.error("a service answered with a value that does not fit the field's type");
            Err(Bubble)
        }
    }

    fn json(&mut self, value: &Value) {
        // Writing JSON into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn string(&mut self, text: &str) {
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    fn error(&mut self, message: &str) {
        if self.found == MAX_ERRORS {
            return;
        }
        self.found += 1;
        self.known.add(&self.path);
        self.errors
            .push(GraphQLError::new("SUBGRAPH_INVALID_VALUE", message).at(self.path.clone()));
    }
}
