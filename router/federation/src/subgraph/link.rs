//! What a subgraph's `@link`s bring of Federation and of other specifications, and
//! what `@composeDirective` composes.
//!
//! Source: <https://specs.apollo.dev/link/v1.0/>. Only an import gives an element a short
//! name: what is not imported is `federation__Scope` or `link__Purpose`.

use std::collections::HashMap;

use apollo_compiler::parser::SourceSpan;
use apollo_compiler::{Name, Schema};

use super::ComposedDirective;
use super::definitions::{self, KNOWN, LATEST_MINOR};
use crate::arguments::string_argument;
use crate::error::{CompositionError, Location};
use crate::links::{self, LINK, Link};

const FEDERATION: &str = "https://specs.apollo.dev/federation";
const CONNECT: &str = "https://specs.apollo.dev/connect";
/// Specifications outside Federation's own whose directives the supergraph keeps.
const CARRIED: &[(&str, &str)] = &[
    ("https://specs.apollo.dev/tag", "tag"),
    ("https://specs.apollo.dev/inaccessible", "inaccessible"),
    ("https://specs.apollo.dev/cost", "cost"),
    ("https://specs.apollo.dev/cost", "listSize"),
    ("https://specs.apollo.dev/authenticated", "authenticated"),
    ("https://specs.apollo.dev/requiresScopes", "requiresScopes"),
    ("https://specs.apollo.dev/policy", "policy"),
];
/// Directives that are always composed: `@composeDirective` may name them.
const ALWAYS_COMPOSED: &[&str] = &[
    "tag",
    "inaccessible",
    "authenticated",
    "requiresScopes",
    "policy",
    "context",
];

/// The argument of a `@composeDirective`, with its place.
type Compose = (String, Option<SourceSpan>);

#[derive(Default)]
pub(super) struct Links {
    /// The minor version of Federation 2, if that is linked.
    pub federation: Option<u32>,
    /// Links to the specifications of third parties.
    pub other: Vec<Link>,
    /// Whether the schema has any link.
    pub any: bool,
    /// Local directive names, without `@`, to Federation's names.
    imported: HashMap<String, &'static str>,
    /// The link to Federation, and to the link specification.
    own: Vec<Link>,
    compose: Vec<Compose>,
}

impl Links {
    /// Reads the links and appends what is wrong to `errors`.
    pub fn read(subgraph: &str, schema: &Schema, errors: &mut Vec<CompositionError>) -> Self {
        let mut links = Self::default();
        let mut all: Vec<Link> = Vec::new();
        for (directive, argument) in links::applications(schema) {
            links.any = true;
            let at = Location::from_span(subgraph, directive.location(), &schema.sources);
            let mut report = |code, message: String| {
                errors.push(
                    CompositionError::new(code, format!("[{subgraph}] {message}")).at(at.clone()),
                );
            };
            let link = match Link::read(directive, argument) {
                Ok(link) => link,
                Err((code, message)) => {
                    report(code, message);
                    continue;
                }
            };
            if all.iter().any(|known| known.identity == link.identity) {
                let message = format!("\"{}\" is linked twice", link.identity);
                report("INVALID_LINK_DIRECTIVE_USAGE", message);
                continue;
            }
            all.push(link.clone());
            links.take(link, &mut report);
        }
        for (link, message) in links::clashes(&all) {
            let at = Location::from_span(subgraph, link.directive.location(), &schema.sources);
            let message = format!("[{subgraph}] {message}");
            errors.push(CompositionError::new("INVALID_LINK_DIRECTIVE_USAGE", message).at(at));
        }
        // After all links are read: a specification of its own gives names to Federation's
        // directives only within Federation 2.
        if links.federation.is_some() {
            for link in &all {
                links.imported.extend(carried(link));
            }
        }
        let compose = links.local("composeDirective");
        for directive in &schema.schema_definition.directives {
            if directive.name != compose.as_str() {
                continue;
            }
            // Of another type, validation refuses it.
            let name = directive.specified_argument_by_name("name");
            if name.is_none_or(|name| name.is_null() || name.as_str().is_some()) {
                let name = string_argument(directive, "name").unwrap_or_default();
                links.compose.push((name.to_owned(), directive.location()));
            }
        }
        links
    }

    fn take(&mut self, link: Link, report: &mut impl FnMut(&'static str, String)) {
        match link.identity.as_str() {
            // Unsupported features are refused, never ignored (docs/adr/0001).
            CONNECT => report(
                "UNSUPPORTED_FEATURE",
                "connectors are not supported: serve the data as a GraphQL subgraph".to_owned(),
            ),
            LINK => {
                if link.version != (1, 0) {
                    let (major, minor) = link.version;
                    report(
                        "UNKNOWN_LINK_VERSION",
                        format!(
                            "\"{LINK}/v{major}.{minor}\" is not a version of the link specification; use v1.0"
                        ),
                    );
                }
                self.own.push(link);
            }
            FEDERATION => {
                let (major, minor) = link.version;
                let url = format!("{FEDERATION}/v{major}.{minor}");
                if major != 2 || minor > LATEST_MINOR {
                    report(
                        "UNKNOWN_FEDERATION_LINK_VERSION",
                        format!(
                            "\"{url}\" is not a known version of Federation 2 (up to v2.{LATEST_MINOR})"
                        ),
                    );
                }
                self.federation = Some(minor);
                for problem in self.import_federation(&link) {
                    report(
                        "INVALID_LINK_DIRECTIVE_USAGE",
                        format!("\"{url}\" has no \"{problem}\" to import"),
                    );
                }
                self.own.push(link);
            }
            _ => self.other.push(link),
        }
    }

    /// Takes what is imported of Federation; returns the names that this version
    /// does not have.
    fn import_federation(&mut self, link: &Link) -> Vec<String> {
        let mut unknown = Vec::new();
        for (from, to) in &link.imports {
            let directive = from.strip_prefix('@').map(|canonical| {
                let mut known = KNOWN.iter().filter(|(_, since)| *since <= link.version.1);
                known.find(|(name, _)| *name == canonical)
            });
            match directive {
                Some(Some((canonical, _))) => {
                    let local = to.trim_start_matches('@').to_owned();
                    self.imported.insert(local, *canonical);
                }
                None if definitions::TYPES.contains(&("federation", from.as_str())) => {}
                _ => unknown.push(from.clone()),
            }
        }
        unknown
    }

    /// The name by which the subgraph uses a federation directive.
    pub fn local(&self, canonical: &str) -> String {
        let mut imported = self.imported.iter().filter(|(_, from)| **from == canonical);
        if let Some((local, _)) = imported.next() {
            return local.clone();
        }
        match self.own.iter().find(|link| link.identity == FEDERATION) {
            Some(link) => link.directive_name(canonical),
            None => canonical.to_owned(),
        }
    }

    /// The name here of a type of Federation, or of the link specification.
    pub fn local_type(&self, specification: &str, canonical: &str) -> String {
        let link = self
            .own
            .iter()
            .find(|link| links::name_of(&link.identity) == specification);
        link.map_or_else(
            || format!("{specification}__{canonical}"),
            |link| link.type_name(canonical),
        )
    }

    /// Whether the subgraph's version of Federation has a directive. Federation 1 has
    /// only its own; of the others, those that it defines itself like Federation 2 are
    /// understood, as subgraph libraries print them.
    pub fn has(&self, canonical: &str, since: u32, schema: &Schema) -> bool {
        match self.federation {
            Some(minor) => since <= minor || self.imported.values().any(|name| *name == canonical),
            None => {
                definitions::FEDERATION_1.contains(&canonical)
                    || (definitions::DEFINED_BY_FEDERATION_1.contains(&canonical)
                        && schema.directive_definitions.contains_key(canonical))
            }
        }
    }

    /// The directives that `@composeDirective` names.
    pub fn composed(
        &self,
        subgraph: &str,
        schema: &Schema,
        local: &HashMap<&'static str, Name>,
        errors: &mut Vec<CompositionError>,
    ) -> Vec<ComposedDirective> {
        let mut composed = Vec::new();
        for (name, span) in &self.compose {
            let at = Location::from_span(subgraph, *span, &schema.sources);
            match self.composed_by(name, schema, local) {
                Ok(Some(directive)) => composed.push(ComposedDirective { at, ..directive }),
                Ok(None) => {}
                Err(reason) => errors.push(
                    CompositionError::new(
                        "DIRECTIVE_COMPOSITION_ERROR",
                        format!("[{subgraph}] {reason}"),
                    )
                    .at(at),
                ),
            }
        }
        composed
    }

    fn composed_by(
        &self,
        name: &str,
        schema: &Schema,
        local: &HashMap<&'static str, Name>,
    ) -> Result<Option<ComposedDirective>, String> {
        let Some(bare) = name.strip_prefix('@') else {
            return Err(format!(
                "the name that @composeDirective gives, \"{name}\", must begin with \"@\""
            ));
        };
        if !schema.directive_definitions.contains_key(bare) {
            return Err(format!(
                "@composeDirective names \"{name}\", which is not defined"
            ));
        }
        if let Some((canonical, _)) = local.iter().find(|(_, local)| **local == bare) {
            return match ALWAYS_COMPOSED.contains(canonical) {
                true => Ok(None),
                false => Err(format!(
                    "\"{name}\" is Federation's own and cannot be composed"
                )),
            };
        }
        let link = self
            .other
            .iter()
            .find_map(|link| Some((link, link.canonical_name(bare)?)));
        let Some((link, canonical)) = link else {
            return Err(format!(
                "@composeDirective names \"{name}\", which no @link imports"
            ));
        };
        Ok(Some(ComposedDirective {
            name: Name::new_unchecked(bare),
            canonical: canonical.to_owned(),
            identity: link.identity.clone(),
            version: link.version,
            at: None,
        }))
    }
}

/// The directives of a specification that composition carries, by their names here.
fn carried(link: &Link) -> impl Iterator<Item = (String, &'static str)> {
    CARRIED
        .iter()
        .filter(|(identity, _)| *identity == link.identity)
        .map(|(_, canonical)| (link.directive_name(canonical), *canonical))
}
