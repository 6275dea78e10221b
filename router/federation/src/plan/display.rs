//! Prints plans for people.

use std::fmt;

use super::{ContextSource, FetchKind, PathStep, QueryPlan};
use crate::field_set;
use crate::supergraph::Supergraph;

impl QueryPlan {
    /// One block per fetch: its number, its subgraph, the fetches it depends on, the
    /// path of its entities, and its operation.
    pub fn display<'a>(&'a self, graph: &'a Supergraph) -> impl fmt::Display + 'a {
        Display { plan: self, graph }
    }
}

struct Display<'a> {
    plan: &'a QueryPlan,
    graph: &'a Supergraph,
}

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plan.fetches.is_empty() {
            return writeln!(f, "(no fetches)");
        }
        for (index, fetch) in self.plan.fetches.iter().enumerate() {
            write!(f, "#{index} {}", self.graph.subgraph(fetch.subgraph).name)?;
            if !fetch.depends_on.is_empty() {
                let after: Vec<_> = fetch.depends_on.iter().map(|d| format!("#{d}")).collect();
                write!(f, " after {}", after.join(", "))?;
            }
            writeln!(f)?;
            if let FetchKind::Entities { inputs, contexts } = &fetch.kind {
                let steps: Vec<_> = fetch
                    .path
                    .iter()
                    .map(|step| match step {
                        PathStep::Key(slot) => slot.name.to_string(),
                        PathStep::Types(types) => format!("|{}|", types.join(",")),
                    })
                    .collect();
                for input in inputs {
                    let fields: Vec<_> = input
                        .keys
                        .iter()
                        .chain(&input.requires)
                        .map(|required| required.field.as_str())
                        .collect();
                    writeln!(
                        f,
                        "  {} of {} by {}",
                        steps.join("."),
                        input.typename,
                        fields.join(" ")
                    )?;
                }
                for value in contexts.iter().flat_map(|contexts| &contexts.values) {
                    let sources: Vec<_> = value.sources.iter().map(source).collect();
                    writeln!(f, "  ${} from {}", value.variable, sources.join(" or "))?;
                }
            }
            let text = match field_set::parse(inner(&fetch.text)) {
                Ok(selections) => field_set::print_pretty(&selections, 2),
                Err(_) => fetch.text.to_string(),
            };
            write!(f, "{text}")?;
        }
        Ok(())
    }
}

/// `2.name` is the `name` of the object that the first two keys of the path lead
/// to.
fn source(source: &ContextSource) -> String {
    let mut text = source.depth.to_string();
    if let Some(types) = &source.only {
        let types: Vec<_> = types.iter().map(|ty| ty.as_str()).collect();
        text.push_str(&format!("|{}|", types.join(",")));
    }
    let mut field = Some(&source.field);
    while let Some(at) = field {
        text.push_str(&format!(".{}", at.field));
        field = at.nested.first();
    }
    text
}

/// The selections of an operation's text, without its outermost braces.
fn inner(text: &str) -> &str {
    match (text.find('{'), text.rfind('}')) {
        (Some(start), Some(end)) if start < end => &text[start + 1..end],
        _ => text,
    }
}
