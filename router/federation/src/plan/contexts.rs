//! Variables whose values come from an ancestor of the objects that a fetch is
//! for: the arguments with `@fromContext`.
//!
//! A representation does not hold them, so objects are fetched in groups of equal
//! values: one `_entities` per group, all of them in one operation.

use std::fmt::Write;
use std::sync::Arc;

use super::{REPRESENTATIONS, Required};
use apollo_compiler::Name;

/// Ends a variable's name in [`Contexts::body`]; the group's number replaces it. It
/// never occurs in printed GraphQL, where control characters are escaped.
pub(super) const GROUP_MARK: char = '\0';

/// A variable and the places that its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextValue {
    pub variable: Name,
    pub ty: String,
    /// Nearest ancestor first.
    pub sources: Vec<ContextSource>,
}

/// An ancestor that may set a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSource {
    /// How many keys of the fetch's path lead to the ancestor.
    pub depth: usize,
    /// Only if it is of one of these types.
    pub only: Option<Vec<Name>>,
    /// The field that holds the value; one leaf, possibly nested.
    pub field: Required,
}

/// The variables of a fetch that contexts fill, and the parts of its operation.
#[derive(Debug)]
pub struct Contexts {
    pub values: Vec<ContextValue>,
    pub(super) name: Option<Arc<str>>,
    /// The declarations of the client's variables.
    pub(super) declared: Vec<String>,
    /// Those of the operation, each after a space.
    pub(super) directives: String,
    /// The selection set for each entity.
    pub(super) body: String,
}

impl Contexts {
    /// The alias of a group's entities. No slot has such a name.
    pub fn alias(group: usize) -> String {
        format!("_stoa__{group}")
    }

    /// The variable that holds a group's representations.
    pub fn representations(group: usize) -> String {
        format!("{REPRESENTATIONS}_{group}")
    }

    /// The variable that holds a context's value for a group.
    pub fn variable(&self, value: &ContextValue, group: usize) -> String {
        format!("{}_{group}", value.variable)
    }

    /// The operation for a number of groups, and its JSON request up to the variables.
    pub fn text(&self, groups: usize) -> (Arc<str>, Arc<str>) {
        let mut declared = Vec::new();
        for group in 0..groups {
            declared.push(format!("${}:[_Any!]!", Self::representations(group)));
            for value in &self.values {
                declared.push(format!("${}:{}", self.variable(value, group), value.ty));
            }
        }
        declared.extend(self.declared.iter().cloned());
        let mut text = "query".to_owned();
        if let Some(name) = &self.name {
            let _ = write!(text, " {name}");
        }
        let _ = write!(text, "({}){}{{", declared.join(","), self.directives);
        for group in 0..groups {
            let _ = write!(
                text,
                "{}:_entities(representations:${}){}",
                Self::alias(group),
                Self::representations(group),
                self.body.replace(GROUP_MARK, &format!("_{group}"))
            );
        }
        text.push('}');
        let prefix = prefix(&text, self.name.as_deref());
        (text.into(), prefix)
    }
}

/// A JSON request up to its variables.
pub(super) fn prefix(text: &str, operation_name: Option<&str>) -> Arc<str> {
    let mut out = format!("{{\"query\":{}", serde_json::Value::from(text));
    if let Some(name) = operation_name {
        let _ = write!(out, ",\"operationName\":{}", serde_json::Value::from(name));
    }
    out.push_str(",\"variables\":");
    out.into()
}
