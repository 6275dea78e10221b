//! Reads the errors that a subgraph sends. An entry keeps what is well-formed: a
//! malformed member costs itself, neither the entry nor the response.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::response::{GraphQLError, PathSegment};
use crate::transport::TransportError;

/// An object whose members are read one by one.
type Members<'a> = HashMap<String, &'a RawValue>;

/// The entries of a list of errors; none for `null`. `None` if it is not a list.
pub fn read(list: &[u8], subgraph: &Arc<str>) -> Option<Vec<GraphQLError>> {
    let entries: Option<Vec<&RawValue>> = serde_json::from_slice(list).ok()?;
    let entries = entries.unwrap_or_default().into_iter();
    Some(entries.map(|entry| error(entry, subgraph)).collect())
}

/// The errors of a response that has no data; `None` if it has none, or is no
/// response.
pub fn of_response(body: &[u8], subgraph: &Arc<str>) -> Option<Vec<GraphQLError>> {
    let members: Members = serde_json::from_slice(body).ok()?;
    let list = members.get("errors")?;
    read(list.get().as_bytes(), subgraph).filter(|errors| !errors.is_empty())
}

/// One entry. Its locations are left out: they are in the text of the fetch, which
/// the client did not write.
fn error(entry: &RawValue, subgraph: &Arc<str>) -> GraphQLError {
    let invalid = || {
        let cause = String::new();
        let subgraph = subgraph.clone();
        TransportError::Invalid { subgraph, cause }.to_graphql()
    };
    let Ok(members) = serde_json::from_str::<Members>(entry.get()) else {
        return invalid();
    };
    let mut error = GraphQLError {
        path: member::<Vec<PathSegment>>(&members, "path").unwrap_or_default(),
        extensions: members
            .get("extensions")
            .map(|value| extensions(value))
            .unwrap_or_default(),
        ..GraphQLError::default()
    };
    match member::<String>(&members, "message") {
        Some(message) => error.message = message,
        None => {
            error.message =
                format!("the \"{subgraph}\" service responded with an error without a message");
            for (key, value) in invalid().extensions {
                error.extensions.entry(key).or_insert(value);
            }
        }
    }
    error
}

fn member<'a, T: Deserialize<'a>>(members: &Members<'a>, name: &str) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

/// The extensions, without those whose value cannot be represented, such as a number
/// out of range.
fn extensions(value: &RawValue) -> Map<String, Value> {
    if let Ok(all) = serde_json::from_str(value.get()) {
        return all;
    }
    let members: Members = serde_json::from_str(value.get()).unwrap_or_default();
    let readable = members
        .into_iter()
        .filter_map(|(key, value)| Some((key, serde_json::from_str(value.get()).ok()?)));
    readable.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reads(entry: &str) -> Value {
        let list = format!("[{entry}]");
        let errors = read(list.as_bytes(), &"a".into()).unwrap();
        serde_json::to_value(&errors[0]).unwrap()
    }

    #[test]
    fn a_malformed_member_costs_only_itself() {
        let kept = json!({ "message": "out of stock", "extensions": { "code": "STOCK" } });
        for odd in [
            r#""path": "a""#,
            r#""path": 1"#,
            r#""path": {}"#,
            r#""path": null"#,
            r#""path": [1.5]"#,
            r#""path": [-1]"#,
            r#""path": [null]"#,
            r#""path": ["a", ["b"]]"#,
            r#""path": [99999999999999999999999]"#,
            r#""path": ["\ud800"]"#,
            r#""locations": "x""#,
            r#""locations": [1]"#,
            r#""locations": {"line": 1}"#,
            r#""other": 1e999"#,
            r#""other": "\ud800""#,
        ] {
            let entry = format!(
                r#"{{{odd}, "message": "out of stock", "extensions": {{"code": "STOCK"}}}}"#
            );
            assert_eq!(reads(&entry), kept, "{odd}");
        }
        assert_eq!(
            reads(r#"{"message": "m", "path": ["a", 0, "b"], "locations": [{"line": 1}]}"#),
            json!({ "message": "m", "path": ["a", 0, "b"] })
        );
    }

    #[test]
    fn odd_extensions_lose_what_is_odd() {
        for odd in ["1", "null", "[]", "\"x\""] {
            let entry = format!(r#"{{"message": "m", "extensions": {odd}}}"#);
            assert_eq!(reads(&entry), json!({ "message": "m" }), "{odd}");
        }
        let entry = r#"{"message": "m", "extensions": {"code": "C", "n": 1e999}}"#;
        assert_eq!(
            reads(entry),
            json!({ "message": "m", "extensions": { "code": "C" } })
        );
    }

    #[test]
    fn an_entry_without_a_message_gets_one() {
        let message = "the \"a\" service responded with an error without a message";
        for odd in [
            "",
            r#""message": null,"#,
            r#""message": 5,"#,
            r#""message": "\ud800","#,
        ] {
            let entry = format!(r#"{{{odd} "path": ["a"], "extensions": {{"code": "STOCK"}}}}"#);
            assert_eq!(
                reads(&entry),
                json!({
                    "message": message,
                    "path": ["a"],
                    "extensions": { "code": "STOCK", "service": "a" },
                }),
                "{odd}"
            );
        }
        let code = &reads("{}")["extensions"]["code"];
        assert_eq!(code, "SUBGRAPH_INVALID_RESPONSE");
    }

    #[test]
    fn what_is_no_list_of_errors_is_none() {
        let subgraph = "a".into();
        for text in ["{}", "1", "\"x\"", "[", ""] {
            assert_eq!(read(text.as_bytes(), &subgraph), None, "{text}");
        }
        assert_eq!(read(b"null", &subgraph), Some(Vec::new()));
        for text in ["{}", "{\"errors\":[]}", "{\"errors\":1}", "x", "[]"] {
            assert_eq!(of_response(text.as_bytes(), &subgraph), None, "{text}");
        }
    }
}
