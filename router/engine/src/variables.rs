//! The variables of an operation: read once, coerced, and passed on as they were written.
//!
//! Numbers and custom scalars keep their text: a double that is parsed and printed may
//! lose its last digit, and only the service knows what a custom scalar means.
//!
//! Source: GraphQL September 2025, sections 6.1.2 (Coercing Variable Values) and 3.5 to
//! 3.12 (input coercion of each type).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use apollo_compiler::ast::{Type, Value};
use apollo_compiler::executable::Operation;
use apollo_compiler::response::{JsonMap, JsonValue};
use apollo_compiler::schema::{ExtendedType, InputObjectType};
use apollo_compiler::{Name, Node, Schema};
use stoa_federation::apollo_compiler;

use crate::scan::Scanner;

/// How deep default values may nest: they can refer to each other in a circle.
const MAX_DEFAULT_DEPTH: usize = 32;
/// How much of a wrong value an error shows, in characters.
const SHOWN: usize = 80;

/// Coerced variables, each as JSON text. A variable that was not given and has no
/// default value is absent, which is not the same as null.
#[derive(Debug, Clone, Default)]
pub struct Variables(HashMap<Name, String>);

impl Variables {
    /// Coerces the values that a client gave, a JSON object, to the types of an
    /// operation's variables. What the operation does not declare is ignored.
    ///
    /// # Errors
    /// The first value that is missing or not of its type, with its path.
    pub fn coerce(schema: &Schema, operation: &Operation, given: &str) -> Result<Self, String> {
        let mut coercion = Coercion {
            schema,
            scan: Scanner::new(given.as_bytes()),
            out: String::new(),
            path: Vec::new(),
        };
        let mut variables = Self::default();
        coercion.entries(|coercion, key| {
            let declared = operation.variables.iter().find(|known| known.name == *key);
            let Some(declared) = declared else {
                return Ok(coercion.scan.skip()?);
            };
            coercion
                .path
                .push(Step::Field(Cow::Borrowed(&declared.name)));
            coercion.value(&declared.ty)?;
            let text = std::mem::take(&mut coercion.out);
            match variables.0.insert(declared.name.clone(), text) {
                Some(_) => Err(coercion.problem("is given twice")),
                None => {
                    coercion.path.pop();
                    Ok(())
                }
            }
        })?;
        for declared in &operation.variables {
            if variables.0.contains_key(&declared.name) {
                continue;
            }
            coercion.path = vec![Step::Field(Cow::Borrowed(&declared.name))];
            if let Some(default) = &declared.default_value {
                coercion.literal(Some(&declared.ty), default, 0)?;
                let text = std::mem::take(&mut coercion.out);
                variables.0.insert(declared.name.clone(), text);
            } else if declared.ty.is_non_null() {
                return Err(
                    coercion.problem(format_args!("is missing: its type is {}", declared.ty))
                );
            }
        }
        Ok(variables)
    }

    /// The JSON text of a variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a variable that is true or false.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.parse().ok()
    }

    /// Sets a variable to a string if it is null or absent.
    pub fn set_string_if_null(&mut self, name: &Name, value: &str) {
        if self.get(name).is_none_or(|text| text == "null") {
            self.0.insert(name.clone(), quoted(value));
        }
    }

    /// The values, parsed: for what the router itself answers, not for subgraphs.
    pub fn parsed(&self) -> JsonMap {
        let parsed = |text: &str| serde_json::from_str::<JsonValue>(text).unwrap_or_default();
        self.0
            .iter()
            .map(|(name, text)| (name.as_str().into(), parsed(text)))
            .collect()
    }
}

/// A step to a value within a variable's value.
enum Step<'a> {
    Field(Cow<'a, str>),
    Item(usize),
}

struct Coercion<'a> {
    schema: &'a Schema,
    scan: Scanner<'a>,
    out: String,
    path: Vec<Step<'a>>,
}

type Coerced = Result<(), String>;

impl<'a> Coercion<'a> {
    fn problem(&self, what: impl fmt::Display) -> String {
        let mut text = "variable \"$".to_owned();
        for (index, step) in self.path.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Field(name) if index == 0 => write!(text, "{name}"),
                Step::Field(name) => write!(text, ".{name}"),
                Step::Item(index) => write!(text, "[{index}]"),
            };
        }
        let _ = write!(text, "\" {what}");
        text
    }

    /// What the value that was just read, from `start` on, is not.
    fn mismatch(&self, start: usize, ty: impl fmt::Display) -> String {
        let text = self.text(start);
        let short: String = text.chars().take(SHOWN).collect();
        let more = if short.len() < text.len() { "..." } else { "" };
        self.problem(format_args!("is {short}{more}, which is not of type {ty}"))
    }

    fn text(&self, start: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(&self.scan.bytes[start..self.scan.at])
    }

    /// Reads an object; `entry` reads each value.
    fn entries(&mut self, mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> Coerced) -> Coerced {
        self.scan.skip_whitespace();
        if self.scan.peek() != Some(b'{') {
            return Err("expected an object".to_owned());
        }
        let mut has_entry = self.scan.open(b'}')?;
        while has_entry {
            let key = self.string()?;
            self.scan.colon()?;
            entry(self, key)?;
            has_entry = self.scan.another(b'}')?;
        }
        Ok(())
    }

    /// Reads a string and decodes it.
    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        let (start, end) = self.scan.string()?;
        let quoted = &self.scan.bytes[start..end];
        if quoted.contains(&b'\\') {
            let decoded: Result<String, _> = serde_json::from_slice(quoted);
            return decoded
                .map(Cow::Owned)
                .map_err(|_| self.problem("has a malformed string"));
        }
        Ok(String::from_utf8_lossy(&quoted[1..quoted.len() - 1]))
    }

    /// Reads a value of a type and writes it.
    fn value(&mut self, ty: &'a Type) -> Coerced {
        if self.scan.peek() == Some(b'n') {
            self.scan.word(b"null")?;
            if ty.is_non_null() {
                return Err(self.problem(format_args!("must not be null: its type is {ty}")));
            }
            self.out.push_str("null");
            return Ok(());
        }
        match ty {
            Type::List(item) | Type::NonNullList(item) => match self.scan.peek() {
                Some(b'[') => self.list(item),
                // A single value stands for a list of one (section 3.11).
                _ => {
                    self.out.push('[');
                    self.value(item)?;
                    self.out.push(']');
                    Ok(())
                }
            },
            Type::Named(name) | Type::NonNullNamed(name) => match self.schema.types.get(name) {
                Some(ExtendedType::InputObject(input)) => self.input_object(input),
                Some(ty) => self.leaf(name, ty),
                None => Err(self.problem(format_args!("is of an unknown type, {name}"))),
            },
        }
    }

    fn list(&mut self, item: &'a Type) -> Coerced {
        self.out.push('[');
        let mut index = 0;
        let mut has_item = self.scan.open(b']')?;
        while has_item {
            if index > 0 {
                self.out.push(',');
            }
            self.path.push(Step::Item(index));
            self.value(item)?;
            self.path.pop();
            index += 1;
            has_item = self.scan.another(b']')?;
        }
        self.out.push(']');
        Ok(())
    }

    fn input_object(&mut self, input: &'a InputObjectType) -> Coerced {
        let start = self.scan.at;
        if self.scan.peek() != Some(b'{') {
            self.scan.skip()?;
            return Err(self.mismatch(start, &input.name));
        }
        let mut given = vec![false; input.fields.len()];
        let mut nulls = 0;
        self.out.push('{');
        self.entries(|coercion, key| {
            let Some((index, _, field)) = input.fields.get_full(&*key) else {
                let what = format!("has a field \"{key}\", which {} has not", input.name);
                return Err(coercion.problem(what));
            };
            coercion.path.push(Step::Field(key));
            if std::mem::replace(&mut given[index], true) {
                return Err(coercion.problem("is given twice"));
            }
            coercion.key(&field.name);
            nulls += usize::from(coercion.scan.peek() == Some(b'n'));
            coercion.value(&field.ty)?;
            coercion.path.pop();
            Ok(())
        })?;
        let count = given.iter().filter(|given| **given).count();
        if input.directives.has("oneOf") && (count != 1 || nulls > 0) {
            let name = &input.name;
            let what = format!("needs exactly one field of {name}, and it must not be null");
            return Err(self.problem(what));
        }
        self.missing_fields(input, |index| given[index], 0)?;
        self.out.push('}');
        Ok(())
    }

    /// Writes the default values of the fields that were not given.
    fn missing_fields(
        &mut self,
        input: &'a InputObjectType,
        is_given: impl Fn(usize) -> bool,
        depth: usize,
    ) -> Coerced {
        let fields = input.fields.values().enumerate();
        for (_, field) in fields.filter(|(index, _)| !is_given(*index)) {
            self.path.push(Step::Field(Cow::Borrowed(&field.name)));
            if let Some(default) = &field.default_value {
                self.key(&field.name);
                self.literal(Some(&field.ty), default, depth + 1)?;
            } else if field.ty.is_non_null() {
                return Err(self.problem(format_args!("is missing: its type is {}", field.ty)));
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Writes the key of an object's entry.
    fn key(&mut self, name: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    /// Reads a value of a scalar or an enum and writes it as it is.
    fn leaf(&mut self, name: &'a Name, ty: &'a ExtendedType) -> Coerced {
        let start = self.scan.at;
        let first = self.scan.peek();
        self.scan.skip()?;
        let text = self.text(start);
        let is_number = matches!(first, Some(b'-' | b'0'..=b'9'));
        let is_string = first == Some(b'"');
        let is_integer = is_number && !text.contains(['.', 'e', 'E']);
        let fits = match (ty, name.as_str()) {
            (ExtendedType::Enum(kind), _) if is_string => {
                self.scan.at = start;
                kind.values.contains_key(&*self.string()?)
            }
            (_, "Int") => is_integer && text.parse::<i32>().is_ok(),
            // An integer that no double can represent is rounded, as a fraction is; only
            // what is beyond the largest double is refused (section 3.5.2).
            (_, "Float") => is_number && text.parse::<f64>().is_ok_and(f64::is_finite),
            (_, "String") => is_string,
            (_, "Boolean") => matches!(first, Some(b't' | b'f')),
            (_, "ID") => is_string || is_integer,
            (ExtendedType::Scalar(_), _) => true,
            _ => false,
        };
        if !fits {
            return Err(self.mismatch(start, name));
        }
        self.out.push_str(&text);
        Ok(())
    }

    /// Writes a default value; `ty` is unknown within a custom scalar.
    fn literal(&mut self, ty: Option<&'a Type>, value: &'a Node<Value>, depth: usize) -> Coerced {
        if depth > MAX_DEFAULT_DEPTH {
            return Err(self.problem("has default values that nest too deep"));
        }
        let is_list = ty.is_some_and(Type::is_list);
        match &**value {
            Value::Null => self.out.push_str("null"),
            Value::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.literal(ty.map(Type::item_type), item, depth + 1)?;
                }
                self.out.push(']');
            }
            _ if is_list => {
                self.out.push('[');
                self.literal(ty.map(Type::item_type), value, depth + 1)?;
                self.out.push(']');
            }
            Value::Object(fields) => self.object_literal(ty, fields, depth)?,
            Value::Int(number) => self.out.push_str(number.as_str()),
            Value::Float(number) => self.out.push_str(number.as_str()),
            Value::String(text) => self.out.push_str(&quoted(text)),
            Value::Enum(name) => self.out.push_str(&quoted(name)),
            Value::Boolean(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Variable(_) => return Err(self.problem("has a variable in a default value")),
        }
        Ok(())
    }

    fn object_literal(
        &mut self,
        ty: Option<&'a Type>,
        fields: &'a [(Name, Node<Value>)],
        depth: usize,
    ) -> Coerced {
        let schema = self.schema;
        let input = ty.and_then(|ty| schema.get_input_object(ty.inner_named_type()));
        self.out.push('{');
        for (name, value) in fields {
            self.key(name);
            let field = input.and_then(|input| input.fields.get(name));
            self.literal(field.map(|field| &*field.ty), value, depth + 1)?;
        }
        if let Some(input) = input {
            let is_given = |index: usize| {
                let field = input.fields.get_index(index);
                field.is_some_and(|(field, _)| fields.iter().any(|(name, _)| name == field))
            };
            self.missing_fields(input, is_given, depth)?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
