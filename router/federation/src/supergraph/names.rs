//! The names of directives in supergraph SDL: a composer may link a specification under
//! another name, and another specification may have a directive with a known name.
//!
//! Source: <https://specs.apollo.dev/link/v1.0/>. After [`canonicalize`], directives have
//! the names that their own specifications give them, by which the rest of the crate knows
//! them; if a rename were ignored, protected fields would be public.

use apollo_compiler::collections::{HashMap, HashSet};
use apollo_compiler::{Name, Schema};

use super::api::map_directives;
use crate::arguments::string_argument;
use crate::error::CompositionError;
use crate::links::{self, Link, name_of};

/// The specifications whose directives are known here.
const KNOWN: &[(&str, &[&str])] = &[
    ("https://specs.apollo.dev/inaccessible", &["inaccessible"]),
    ("https://specs.apollo.dev/tag", &["tag"]),
    ("https://specs.apollo.dev/authenticated", &["authenticated"]),
    (
        "https://specs.apollo.dev/requiresScopes",
        &["requiresScopes"],
    ),
    ("https://specs.apollo.dev/policy", &["policy"]),
    ("https://specs.apollo.dev/cost", &["cost", "listSize"]),
    ("https://specs.apollo.dev/context", &["context"]),
];

/// The specifications linked for SECURITY that this version enforces.
const SECURITY: &[&str] = &[
    "https://specs.apollo.dev/inaccessible",
    "https://specs.apollo.dev/authenticated",
    "https://specs.apollo.dev/requiresScopes",
    "https://specs.apollo.dev/policy",
    "https://specs.apollo.dev/context",
];

const CONNECT: &str = "https://specs.apollo.dev/connect";

/// The links of a supergraph; appends those that cannot be enforced, or read, to `errors`.
pub(super) fn read_links(schema: &Schema, errors: &mut Vec<CompositionError>) -> Vec<Link> {
    let mut found = Vec::new();
    for (directive, argument) in links::applications(schema) {
        let purpose = directive.specified_argument_by_name("for");
        let secures = purpose.is_some_and(|purpose| {
            purpose
                .as_enum()
                .is_some_and(|purpose| purpose == "SECURITY")
        });
        let link = match Link::read(directive, argument) {
            Ok(link) => link,
            Err((code, message)) => {
                let url = string_argument(directive, argument).unwrap_or_default();
                // One that changes nothing here may be written as it likes.
                if secures || KNOWN.iter().any(|(known, _)| url.starts_with(known)) {
                    errors.push(CompositionError::new(code, message));
                }
                continue;
            }
        };
        let identity = &link.identity;
        if identity == CONNECT {
            errors.push(CompositionError::new(
                "UNSUPPORTED_FEATURE",
                "the supergraph uses connectors (@connect), which are not supported: replace them by a GraphQL subgraph",
            ));
        } else if secures && !SECURITY.contains(&identity.as_str()) {
            errors.push(CompositionError::new(
                "UNSUPPORTED_LINKED_FEATURE",
                format!("the supergraph links \"{identity}\" for SECURITY, which is not supported"),
            ));
        }
        found.push(link);
    }
    found
}

/// A copy of a supergraph's schema in which directives have the names of their
/// specifications.
pub(crate) fn with_canonical_names(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    let links = read_links(&schema, &mut Vec::new());
    canonicalize(&mut schema, &links);
    schema
}

/// Gives the directives of known specifications their own names, and leaves out those of
/// other specifications that have these names here.
pub(super) fn canonicalize(schema: &mut Schema, links: &[Link]) {
    let mut renamed: HashMap<String, &'static str> = HashMap::default();
    let mut foreign: HashSet<String> = HashSet::default();
    for link in links {
        let known = KNOWN.iter().find(|(known, _)| *known == link.identity);
        for canonical in known.into_iter().flat_map(|(_, directives)| *directives) {
            let local = link.directive_name(canonical);
            if local != *canonical {
                renamed.insert(local, canonical);
                foreign.insert((*canonical).to_owned());
            }
        }
    }
    let all = || KNOWN.iter().flat_map(|(_, directives)| *directives);
    for link in links {
        if KNOWN.iter().any(|(known, _)| *known == link.identity) {
            continue;
        }
        let names = link
            .imports
            .iter()
            .filter_map(|(_, to)| to.strip_prefix('@'));
        for name in names.chain([link.namespace.as_str()]) {
            let linked = links.iter().any(|other| {
                let known = KNOWN.iter().find(|(known, _)| *known == other.identity);
                known.is_some_and(|(_, directives)| {
                    directives.iter().any(|c| other.directive_name(c) == name)
                })
            });
            if all().any(|canonical| *canonical == name) && !linked {
                foreign.insert(name.to_owned());
            }
        }
    }
    // They have said what they say, and may have another name than @link.
    schema
        .schema_definition
        .make_mut()
        .directives
        .retain(|d| !links.iter().any(|link| link.directive.name == d.name));
    hide_types(schema, links);
    if renamed.is_empty() && foreign.is_empty() {
        return;
    }
    for ty in schema.types.values_mut() {
        map_directives(ty, &|list| {
            list.retain(|d| {
                renamed.contains_key(d.name.as_str()) || !foreign.contains(d.name.as_str())
            });
            for directive in list {
                if let Some(canonical) = renamed.get(directive.name.as_str()) {
                    directive.make_mut().name = Name::new_static_unchecked(canonical);
                }
            }
        });
    }
    let definitions = std::mem::take(&mut schema.directive_definitions);
    for (name, mut definition) in definitions {
        if let Some(canonical) = renamed.get(name.as_str()) {
            let name = Name::new_static_unchecked(canonical);
            definition.make_mut().name = name.clone();
            schema.directive_definitions.insert(name, definition);
        } else if !foreign.contains(name.as_str()) {
            schema.directive_definitions.insert(name, definition);
        }
    }
}

/// Leaves out the types of renamed specifications, which only their definitions use.
fn hide_types(schema: &mut Schema, links: &[Link]) {
    let prefixes: Vec<String> = links
        .iter()
        .filter(|link| link.identity.starts_with("https://specs.apollo.dev/"))
        .filter(|link| link.namespace != name_of(&link.identity))
        .map(|link| format!("{}__", link.namespace))
        .collect();
    schema
        .types
        .retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
}
