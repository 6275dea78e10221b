//! Value completion: turns the subgraphs' data into what the client selected.
//! Strings and numbers are copied as they arrived, once they are checked.
//!
//! Source: GraphQL October 2021, sections 6.4.3 (value completion) and 6.4.4
//! (errors and nullability).

use std::collections::HashSet;

use serde_json::{Map, Value};
use stoa_federation::plan::{FieldShape, FieldSource, Leaf, ObjectShape, ValueShape};

use crate::response::{GraphQLError, PathSegment};
use crate::tree::{ListId, Node, ObjectId, Tree};

const TYPENAME: u32 = 0;

/// Writes the `data` entry; `null` if a null reached the root. Errors that
/// completion itself finds are appended to `errors`. `None` if the response
/// would have more than [`MAX_RESPONSE_BYTES`] bytes.
pub fn complete(
    shape: &ObjectShape,
    tree: &Tree,
    introspection: &Map<String, Value>,
    errors: &mut Vec<GraphQLError>,
    explained: Vec<Vec<PathSegment>>,
) -> Option<Vec<u8>> {
    let mut known = ExplainedPaths::default();
    for error in errors.iter() {
        known.add(&error.path);
    }
    for path in &explained {
        known.add(path);
    }
    let mut completer = Completer {
        known,
        found: 0,
        too_large: false,
        out: Vec::with_capacity(tree.received() + 64),
        path: Vec::new(),
        tree,
        introspection,
        errors,
    };
    if completer.object(shape, tree.root()).is_err() {
        completer.out.clear();
        completer.out.extend_from_slice(b"null");
    }
    (!completer.too_large).then_some(completer.out)
}

/// The most bytes that a response may have: an entity that occurs at many places
/// is written at each.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// The most errors that completion itself reports; further invalid values are
/// null without an error.
const MAX_ERRORS: usize = 100;

/// The paths at which an error already explains a null.
#[derive(Default)]
struct ExplainedPaths {
    /// An error is at this path: all nulls below are explained.
    at: HashSet<Vec<PathSegment>>,
    /// An error is at or below this path: a null that propagated up to it is
    /// explained.
    through: HashSet<Vec<PathSegment>>,
}

impl ExplainedPaths {
    fn add(&mut self, path: &[PathSegment]) {
        if path.is_empty() {
            return;
        }
        self.at.insert(path.to_vec());
        for length in 1..=path.len() {
            self.through.insert(path[..length].to_vec());
        }
    }

    fn covers(&self, path: &[PathSegment]) -> bool {
        !self.at.is_empty()
            && (self.through.contains(path)
                || (1..=path.len()).any(|length| self.at.contains(&path[..length])))
    }
}

/// A null that propagates to the parent.
struct Bubble;

/// A step of the current path.
#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

struct Completer<'a> {
    out: Vec<u8>,
    path: Vec<Step<'a>>,
    tree: &'a Tree,
    introspection: &'a Map<String, Value>,
    errors: &'a mut Vec<GraphQLError>,
    known: ExplainedPaths,
    found: usize,
    too_large: bool,
}

impl<'a> Completer<'a> {
    fn object(&mut self, shape: &'a ObjectShape, object: ObjectId) -> Result<(), Bubble> {
        let (typename, fields): (&str, &[FieldShape]) = match shape {
            ObjectShape::One(name, fields) => (name, fields),
            ObjectShape::ByType {
                known,
                untyped,
                hidden,
            } => {
                let name = self.tree.get(object, TYPENAME);
                let name = name.and_then(|name| self.tree.unescaped_text(name));
                match (name.map(|name| (name, known.get_key_value(name))), untyped) {
                    (Some((_, Some((name, fields)))), _) => (name, fields),
                    // No fetch had to ask for the type: nothing depends on it.
                    (None, Some(fields)) => ("", fields),
                    // An @inaccessible type is null to clients, and no error.
                    (Some((name, None)), _) if hidden.iter().any(|ty| ty == name) => {
                        self.mark_explained();
                        return Err(Bubble);
                    }
                    _ => {
                        self.error(
                            "a service returned an object of an unexpected type",
                            Node::Object(object),
                        );
                        return Err(Bubble);
                    }
                }
            }
        };
        // Once for each object: entities written at many places are what makes a response grow.
        if self.out.len() > MAX_RESPONSE_BYTES || self.too_large {
            self.too_large = true;
            self.out.clear();
            return Err(Bubble);
        }
        self.out.push(b'{');
        // Fields mostly arrive in the order of the selection: each search begins after the last.
        let mut cursor = self.tree.start(object);
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            // A GraphQL name needs no escapes.
            self.name(&field.key);
            self.out.push(b':');
            match field.source {
                FieldSource::Typename => self.name(typename),
                FieldSource::Introspection => {
                    let value = self.introspection.get(field.key.as_str());
                    // Writing JSON into memory cannot fail.
                    let _ = serde_json::to_writer(&mut self.out, value.unwrap_or(&Value::Null));
                }
                // The plan already reports an error for it.
                FieldSource::Denied => {
                    self.path.push(Step::Key(&field.key));
                    self.mark_explained();
                    let done = self.value(&field.value, Node::Null);
                    self.path.pop();
                    done?;
                }
                FieldSource::Data => {
                    self.path.push(Step::Key(&field.key));
                    let value = self.tree.field(object, field.slot.id, &mut cursor);
                    // Absent if its fetch failed or the subgraph left it out: the same as null.
                    let done = self.value(&field.value, value.unwrap_or(Node::Null));
                    self.path.pop();
                    done?;
                }
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a value; returns whether it was not null.
    fn value(&mut self, shape: &'a ValueShape, value: Node) -> Result<bool, Bubble> {
        if let ValueShape::NonNull(inner) = shape {
            if self.value(inner, value)? {
                return Ok(true);
            }
            if !self.is_explained() {
                self.error(
                    "a service returned null for a field that is never null",
                    value,
                );
            }
            return Err(Bubble);
        }
        let start = self.out.len();
        let written = match (shape, value) {
            (_, Node::Null) => Err(Bubble),
            (ValueShape::Leaf(leaf), value) => self.leaf(leaf, value),
            (ValueShape::List(item), Node::List(list)) => self.list(item, list),
            (ValueShape::Object(shape), Node::Object(object)) => self.object(shape, object),
            _ => {
                self.error("a service returned a value of the wrong shape", value);
                Err(Bubble)
            }
        };
        match written {
            Ok(()) => Ok(true),
            Err(Bubble) if self.too_large => Err(Bubble),
            Err(Bubble) => {
                self.out.truncate(start);
                self.out.extend_from_slice(b"null");
                Ok(false)
            }
        }
    }

    fn list(&mut self, item: &'a ValueShape, list: ListId) -> Result<(), Bubble> {
        self.out.push(b'[');
        for (index, value) in self.tree.items(list).iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.path.push(Step::Index(index));
            let done = self.value(item, *value);
            self.path.pop();
            done?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, value: Node) -> Result<(), Bubble> {
        let fits = match (leaf, value) {
            (Leaf::Float, Node::Number(span)) => is_finite(self.tree.bytes(span)),
            (Leaf::Any, _)
            | (Leaf::Boolean, Node::Bool(_))
            | (Leaf::String | Leaf::Id, Node::Text(_)) => true,
            (Leaf::Int, Node::Number(span)) => match parse_whole_int(self.tree.bytes(span)) {
                Some(number) => {
                    self.out.extend_from_slice(number.to_string().as_bytes());
                    return Ok(());
                }
                None => {
                    let digits = self.tree.bytes(span);
                    digits
                        .iter()
                        .all(|byte| byte.is_ascii_digit() || *byte == b'-')
                        && is_int(digits)
                }
            },
            (Leaf::Id, Node::Number(span)) => {
                let digits = self.tree.bytes(span);
                let whole = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
                if digits.iter().all(whole) {
                    self.out.push(b'"');
                    self.out.extend_from_slice(digits);
                    self.out.push(b'"');
                    return Ok(());
                }
                false
            }
            (Leaf::Enum(values), Node::Text(_)) => {
                match self
                    .tree
                    .unescaped_text(value)
                    .and_then(|name| values.get(name))
                {
                    // An @inaccessible value is null to clients, and no error.
                    Some(false) => {
                        self.mark_explained();
                        return Err(Bubble);
                    }
                    public => public.is_some(),
                }
            }
            _ => false,
        };
        if fits {
            self.out.extend_from_slice(self.tree.raw(value));
            Ok(())
        } else {
            self.error(
                "a service returned a value that does not fit the field's type",
                value,
            );
            Err(Bubble)
        }
    }

    /// Writes a quoted string that needs no escapes.
    fn name(&mut self, text: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    fn current_path(&self) -> Vec<PathSegment> {
        self.path
            .iter()
            .map(|step| match step {
                Step::Key(key) => PathSegment::Key((*key).into()),
                Step::Index(index) => PathSegment::Index(*index),
            })
            .collect()
    }

    fn is_explained(&self) -> bool {
        !self.known.at.is_empty() && self.known.covers(&self.current_path())
    }

    /// Records that the null at the current path needs no error.
    fn mark_explained(&mut self) {
        let here = self.current_path();
        self.known.add(&here);
    }

    fn error(&mut self, message: &str, value: Node) {
        if self.found == MAX_ERRORS {
            return;
        }
        self.found += 1;
        let here = self.current_path();
        self.known.add(&here);
        let mut error = GraphQLError::new("SUBGRAPH_INVALID_VALUE", message).at(here);
        if let Some(source) = self.tree.source(value) {
            let service = Value::from(source);
            error.extensions.insert("service".to_owned(), service);
        }
        self.errors.push(error);
    }
}

/// Whether a JSON number written as digits fits into 32 bits.
fn is_int(digits: &[u8]) -> bool {
    digits.len() < 10 || std::str::from_utf8(digits).is_ok_and(|text| text.parse::<i32>().is_ok())
}

/// The Int value of a number with a decimal point or an exponent (`1.0`, `1e3`);
/// `None` for one that is written as digits only, or is not an Int.
fn parse_whole_int(digits: &[u8]) -> Option<i32> {
    if !digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let number: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let fits =
        number.fract() == 0.0 && number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX);
    #[allow(clippy::cast_possible_truncation, reason = "whole and in range")]
    fits.then_some(number as i32)
}

/// Whether a JSON number is a finite Float.
fn is_finite(digits: &[u8]) -> bool {
    let plain = digits.len() < 300 && !digits.iter().any(|byte| matches!(byte, b'e' | b'E'));
    plain
        || std::str::from_utf8(digits)
            .is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}
