//! Federations written as text.
//!
//! A file holds cases. Each begins with `= name` and has sections: `## subgraph
//! NAME` (SDL), `## data NAME` (JSON), perhaps `## supergraph`, then for each query `## query` with,
//! below it, `## variables`, `## labels`, `## expect`, `## ordered` (the
//! response's exact text) and `## fetches`. The
//! expectation is the whole response; `"errors": N` is the number of errors, `"errors":
//! "text"` a text within one. `## refused` holds the errors with which composition must
//! fail. `## includes` and `## excludes` hold texts, one on each line, that the composed
//! supergraph must and must not contain. Fetches are written `a:1 b:2`; other subgraphs must not be queried.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stoa_federation::Grants;

/// Prepended to a subgraph that has no `@link` and does not begin with
/// `# federation 1`.
const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.12", import: ["@key", "@shareable", "@external", "@requires", "@provides", "@extends", "@override", "@inaccessible", "@tag", "@interfaceObject", "@authenticated", "@requiresScopes", "@policy", "@cost", "@listSize", "@composeDirective", "@context", "@fromContext", "@cacheTag"])"#;

/// One federation and its queries.
#[derive(Debug, Default, Clone)]
pub struct Case {
    pub name: String,
    /// Name, SDL, data.
    pub subgraphs: Vec<(String, String, Value)>,
    pub asks: Vec<QueryCase>,
    /// A supergraph to load instead of composing one.
    pub supergraph: Option<String>,
    /// The expected composition errors, if composition must fail.
    pub refused: Option<String>,
    /// The expected codes of composition hints, if they are checked.
    pub hints: Option<Vec<String>>,
    /// Texts that the composed supergraph must contain.
    pub includes: Vec<String>,
    /// Texts that it must not contain.
    pub excludes: Vec<String>,
}

/// One query with its expected result.
#[derive(Debug, Default, Clone)]
pub struct QueryCase {
    pub query: String,
    pub variables: Map<String, Value>,
    pub labels: Vec<String>,
    pub grants: Grants,
    pub expect: Value,
    pub fetches: Option<BTreeMap<String, usize>>,
    /// The exact text of the response.
    pub ordered: Option<String>,
}

/// Reads a file of cases.
///
/// # Errors
/// A syntax error, with the case's name.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for chunk in format!("\n{text}").split("\n= ").skip(1) {
        let (name, body) = chunk.split_once('\n').unwrap_or((chunk, ""));
        let mut case = Case {
            name: name.trim().to_owned(),
            ..Case::default()
        };
        for section in format!("\n{body}").split("\n## ").skip(1) {
            let (title, content) = section.split_once('\n').unwrap_or((section, ""));
            read(&mut case, title.trim(), content.trim())
                .map_err(|error| format!("{}: {title}: {error}", case.name))?;
        }
        cases.push(case);
    }
    Ok(cases)
}

fn read(case: &mut Case, title: &str, content: &str) -> Result<(), String> {
    let json = || serde_json::from_str::<Value>(content).map_err(|error| error.to_string());
    let (kind, name) = title.split_once(' ').unwrap_or((title, ""));
    match kind {
        "subgraph" => {
            let linked = content.contains("@link") || content.starts_with("# federation 1");
            let sdl = match linked {
                true => content.to_owned(),
                false => format!("{LINK}\n{content}"),
            };
            case.subgraphs.push((name.to_owned(), sdl, Value::Null));
            return Ok(());
        }
        "data" => {
            let (_, _, data) = case
                .subgraphs
                .iter_mut()
                .find(|(known, _, _)| known == name)
                .ok_or("there is no such subgraph")?;
            *data = json()?;
            return Ok(());
        }
        "query" => {
            case.asks.push(QueryCase {
                query: content.to_owned(),
                ..QueryCase::default()
            });
            return Ok(());
        }
        "supergraph" => {
            case.supergraph = Some(content.to_owned());
            return Ok(());
        }
        "refused" => {
            case.refused = Some(content.to_owned());
            return Ok(());
        }
        "includes" => {
            case.includes = content.lines().map(str::to_owned).collect();
            return Ok(());
        }
        "excludes" => {
            case.excludes = content.lines().map(str::to_owned).collect();
            return Ok(());
        }
        "hints" => {
            let mut codes: Vec<_> = content.split_whitespace().map(str::to_owned).collect();
            codes.sort();
            case.hints = Some(codes);
            return Ok(());
        }
        _ => {}
    }
    // The sections that remain belong to the query before them.
    let ask = case.asks.last_mut().ok_or("there is no query before it")?;
    match kind {
        "variables" => ask.variables = json()?.as_object().cloned().unwrap_or_default(),
        "grants" => {
            ask.grants.authenticated = true;
            for word in content.split_whitespace() {
                match word.split_once(':') {
                    Some(("scope", scope)) => ask.grants.scopes.insert(scope.to_owned()),
                    Some(("policy", policy)) => ask.grants.policies.insert(policy.to_owned()),
                    _ => return Err("write scope:NAME or policy:NAME".to_owned()),
                };
            }
        }
        "labels" => ask.labels = content.split_whitespace().map(str::to_owned).collect(),
        "expect" => ask.expect = json()?,
        "ordered" => ask.ordered = Some(content.to_owned()),
        "fetches" => {
            let mut fetches = BTreeMap::new();
            for word in content.split_whitespace() {
                let (name, count) = word.split_once(':').ok_or("write NAME:COUNT")?;
                let count = count.parse().map_err(|_| "write NAME:COUNT")?;
                fetches.insert(name.to_owned(), count);
            }
            ask.fetches = Some(fetches);
        }
        other => return Err(format!("there is no section \"{other}\"")),
    }
    Ok(())
}

/// Compares a response with its expectation.
///
/// # Errors
/// What differs.
pub fn check(expect: &Value, answer: &Value) -> Result<(), String> {
    let data = |value: &Value| value.get("data").cloned().unwrap_or_default();
    if expect.get("data").is_some() && data(expect) != data(answer) {
        return Err("the data differs".to_owned());
    }
    let none = Vec::new();
    let errors = answer["errors"].as_array().unwrap_or(&none);
    let fits = match expect.get("errors") {
        None => errors.is_empty(),
        Some(Value::Number(count)) => count.as_u64() == u64::try_from(errors.len()).ok(),
        Some(Value::String(text)) => errors
            .iter()
            .any(|error| error.to_string().contains(text.as_str())),
        Some(Value::Array(wanted)) => {
            wanted.len() == errors.len()
                && wanted.iter().zip(errors).all(|(wanted, error)| {
                    wanted
                        .as_object()
                        .is_none_or(|wanted| wanted.iter().all(|(key, value)| error[key] == *value))
                })
        }
        Some(_) => !errors.is_empty(),
    };
    if fits {
        Ok(())
    } else {
        Err("the errors differ".to_owned())
    }
}
