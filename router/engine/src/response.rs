//! The response to a client.

use std::sync::Arc;

use ::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A step of an error's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathSegment {
    Index(usize),
    Key(Arc<str>),
}

/// A GraphQL error as clients see it.
///
/// Source: GraphQL October 2021, section 7.1.2.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct GraphQLError {
    pub message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<PathSegment>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extensions: Map<String, Value>,
}

impl GraphQLError {
    /// An error with `extensions.code`.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let mut extensions = Map::new();
        extensions.insert("code".to_owned(), Value::from(code));
        Self {
            message: message.into(),
            extensions,
            ..Self::default()
        }
    }

    pub fn at(mut self, path: Vec<PathSegment>) -> Self {
        self.path = path;
        self
    }

    pub fn code(&self) -> Option<&str> {
        self.extensions.get("code")?.as_str()
    }
}

/// The response of an operation.
#[derive(Debug, Default)]
pub struct Response {
    /// The `data` entry as JSON text; `None` where execution never began.
    pub data: Option<Vec<u8>>,
    pub errors: Vec<GraphQLError>,
    /// Response headers of the subgraphs that sent any, for the router to
    /// choose from.
    pub headers: Vec<(Arc<str>, HeaderMap)>,
    /// For an event of a resumable subscription: the cursor to resume after.
    pub cursor: Option<String>,
    /// The `extensions` entry; left out when empty.
    pub extensions: Map<String, Value>,
}

impl Response {
    /// A request error: no execution, so no `data`.
    pub fn request_error(error: GraphQLError) -> Self {
        Self {
            errors: vec![error],
            ..Self::default()
        }
    }

    /// The whole response as JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.as_ref().map_or(0, Vec::len) + 64);
        out.push(b'{');
        if let Some(data) = &self.data {
            out.extend_from_slice(b"\"data\":");
            out.extend_from_slice(data);
        }
        if !self.errors.is_empty() {
            if self.data.is_some() {
                out.push(b',');
            }
            out.extend_from_slice(b"\"errors\":");
            // Serialising strings, numbers and maps into memory cannot fail.
            let _ = serde_json::to_writer(&mut out, &self.errors);
        }
        if !self.extensions.is_empty() {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(b"\"extensions\":");
            let _ = serde_json::to_writer(&mut out, &self.extensions);
        }
        out.push(b'}');
        out
    }
}
