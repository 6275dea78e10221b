//! What a schema's `@link` directives import, and under which names.
//!
//! Source: <https://specs.apollo.dev/link/v1.0/>.

use std::collections::HashMap;

use apollo_compiler::ast::{Directive, Value};
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::{Name, Node, Schema};

use super::definitions::{KNOWN, LATEST_MINOR};
use super::{ComposedDirective, string_argument};
use crate::error::{CompositionError, Location};

const FEDERATION: &str = "https://specs.apollo.dev/federation";
const LINK: &str = "https://specs.apollo.dev/link";
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

/// Imported elements as (name there, name here); directives with their `@`.
type Imports = Vec<(String, String)>;

/// A link to a third-party specification.
struct ThirdPartyLink {
    directive: Node<Directive>,
    /// `https://specs.example/x`, major and minor version.
    identity: String,
    version: (u32, u32),
    namespace: String,
    imports: Imports,
}

pub(super) struct Links {
    /// The minor version of Federation 2, if that is linked.
    pub federation: Option<u32>,
    /// Local directive names, without `@`, to Federation's names.
    imported: HashMap<String, String>,
    namespace: String,
    other: Vec<ThirdPartyLink>,
    compose: Vec<(String, Option<SourceSpan>)>,
}

impl Links {
    /// Reads the links and appends what is wrong to `errors`.
    pub fn read(subgraph: &str, schema: &Schema, errors: &mut Vec<CompositionError>) -> Self {
        let mut links = Self {
            federation: None,
            imported: HashMap::new(),
            namespace: "federation".to_owned(),
            other: Vec::new(),
            compose: Vec::new(),
        };
        let mut linked: Vec<String> = Vec::new();
        for directive in &schema.schema_definition.directives {
            if directive.name != "link" {
                continue;
            }
            let at = Location::from_span(subgraph, directive.location(), &schema.sources);
            let mut report = |code, message: String| {
                errors.push(
                    CompositionError::new(code, format!("[{subgraph}] {message}")).at(at.clone()),
                );
            };
            let Some(url) = string_argument(directive, "url") else {
                report(
                    "INVALID_LINK_DIRECTIVE_USAGE",
                    "@link needs a url".to_owned(),
                );
                continue;
            };
            let Some((identity, version)) = parse_url(url) else {
                report(
                    "INVALID_LINK_IDENTIFIER",
                    format!("the @link to \"{url}\" has no version: it ends in /vMAJOR.MINOR"),
                );
                continue;
            };
            if linked.contains(&identity) {
                report(
                    "INVALID_LINK_DIRECTIVE_USAGE",
                    format!("\"{identity}\" is linked twice"),
                );
                continue;
            }
            linked.push(identity.clone());
            // Unsupported features are refused, never ignored (docs/adr/0001).
            if identity == CONNECT {
                report(
                    "UNSUPPORTED_FEATURE",
                    "connectors are not supported: serve the data as a GraphQL subgraph".to_owned(),
                );
                continue;
            }
            if identity == LINK {
                if version != (1, 0) {
                    report(
                        "UNKNOWN_LINK_VERSION",
                        format!("\"{url}\" is not a version of the link specification; use v1.0"),
                    );
                }
                continue;
            }
            let imports = match imports(directive) {
                Ok(imports) => imports,
                Err(reason) => {
                    report("INVALID_LINK_DIRECTIVE_USAGE", reason);
                    continue;
                }
            };
            let renamed = string_argument(directive, "as");
            if identity == FEDERATION {
                links.link_federation(url, version, renamed, imports, &mut report);
                continue;
            }
            // The link specification: without `as`, the last part of the URL.
            let namespace = renamed.map_or_else(
                || identity.rsplit('/').next().unwrap_or_default().to_owned(),
                str::to_owned,
            );
            links.import_carried(&identity, &namespace, &imports);
            links.other.push(ThirdPartyLink {
                directive: directive.node.clone(),
                identity,
                version,
                namespace,
                imports,
            });
        }
        // After all links are read, as its name depends on them.
        let compose = links.local("composeDirective");
        for directive in &schema.schema_definition.directives {
            if directive.name == compose.as_str() {
                let name = string_argument(directive, "name").unwrap_or_default();
                links.compose.push((name.to_owned(), directive.location()));
            }
        }
        links
    }

    /// Takes a link to the Federation specification.
    fn link_federation(
        &mut self,
        url: &str,
        version: (u32, u32),
        renamed: Option<&str>,
        imports: Vec<(String, String)>,
        report: &mut impl FnMut(&'static str, String),
    ) {
        if version.0 != 2 || version.1 > LATEST_MINOR {
            report(
                "UNKNOWN_FEDERATION_LINK_VERSION",
                format!(
                    "\"{url}\" is not a known version of Federation 2 (up to v2.{LATEST_MINOR})"
                ),
            );
        }
        self.federation = Some(version.1);
        if let Some(namespace) = renamed {
            self.namespace = namespace.to_owned();
        }
        for problem in self.import_federation(imports, version.1) {
            report(
                "INVALID_LINK_DIRECTIVE_USAGE",
                format!("\"{url}\" has no \"{problem}\" to import"),
            );
        }
    }

    /// Takes what is imported of Federation; returns the names that this version
    /// does not have.
    fn import_federation(&mut self, imports: Vec<(String, String)>, minor: u32) -> Vec<String> {
        let mut unknown = Vec::new();
        for (from, to) in imports {
            match from.strip_prefix('@') {
                Some(canonical)
                    if KNOWN
                        .iter()
                        .any(|(name, since)| *name == canonical && *since <= minor) =>
                {
                    let local = to.trim_start_matches('@').to_owned();
                    self.imported.insert(local, canonical.to_owned());
                }
                None if matches!(
                    from.as_str(),
                    "FieldSet" | "Scope" | "Policy" | "ContextFieldValue"
                ) => {}
                _ => unknown.push(from),
            }
        }
        unknown
    }

    /// Takes the directives of another specification that composition carries.
    fn import_carried(&mut self, identity: &str, namespace: &str, imports: &[(String, String)]) {
        // The default name is `namespace__name`, or the name alone if both are equal.
        for (_, canonical) in CARRIED.iter().filter(|(known, _)| *known == identity) {
            let local = imports
                .iter()
                .find(|(from, _)| from.trim_start_matches('@') == *canonical)
                .map_or_else(
                    || match *canonical == namespace {
                        true => namespace.to_owned(),
                        false => format!("{namespace}__{canonical}"),
                    },
                    |(_, to)| to.trim_start_matches('@').to_owned(),
                );
            self.imported.insert(local, (*canonical).to_owned());
        }
    }

    /// The name by which the subgraph uses a federation directive.
    pub fn local(&self, canonical: &str) -> String {
        let imported = self.imported.iter().find(|(_, from)| *from == canonical);
        match imported {
            Some((local, _)) => local.clone(),
            None if self.federation.is_none() => canonical.to_owned(),
            None => format!("{}__{canonical}", self.namespace),
        }
    }

    /// The directives that `@composeDirective` names.
    pub fn composed(
        &self,
        subgraph: &str,
        schema: &Schema,
        errors: &mut Vec<CompositionError>,
    ) -> Vec<ComposedDirective> {
        let mut composed = Vec::new();
        for (name, span) in &self.compose {
            let mut report = |message: String| {
                errors.push(
                    CompositionError::new(
                        "DIRECTIVE_COMPOSITION_ERROR",
                        format!("[{subgraph}] {message}"),
                    )
                    .at(Location::from_span(subgraph, *span, &schema.sources)),
                );
            };
            let Some(bare) = name.strip_prefix('@') else {
                report(format!(
                    "the name that @composeDirective gives, \"{name}\", must begin with \"@\""
                ));
                continue;
            };
            if self.imported.contains_key(bare) {
                // Those of `CARRIED` are always composed: naming them is allowed.
                let carried = CARRIED.iter().any(|(_, carried)| {
                    Some(*carried) == self.imported.get(bare).map(String::as_str)
                });
                if !carried {
                    report(format!(
                        "\"{name}\" is Federation's own and cannot be composed"
                    ));
                }
                continue;
            }
            // A directive is imported by name, or named after its namespace, or prefixed with it.
            let link = self.other.iter().find(|other| {
                other.imports.iter().any(|(_, to)| to == name)
                    || bare == other.namespace
                    || bare.starts_with(&format!("{}__", other.namespace))
            });
            let definition = schema.directive_definitions.get(bare);
            match (link, definition) {
                (Some(link), Some(definition)) => composed.push(ComposedDirective {
                    name: Name::new_unchecked(bare),
                    canonical: link
                        .imports
                        .iter()
                        .find(|(_, to)| to == name)
                        .map_or_else(|| name.clone(), |(from, _)| from.clone()),
                    definition: definition.clone(),
                    link: link.directive.clone(),
                    identity: link.identity.clone(),
                    version: link.version,
                    at: Location::from_span(subgraph, *span, &schema.sources),
                }),
                (None, _) => report(format!(
                    "@composeDirective names \"{name}\", which no @link imports"
                )),
                (_, None) => report(format!(
                    "@composeDirective names \"{name}\", which is not defined"
                )),
            }
        }
        composed
    }
}

/// A link's identity and version: `https://x/y/v1.2` is (`https://x/y`, 1, 2).
fn parse_url(url: &str) -> Option<(String, (u32, u32))> {
    let (identity, version) = url.trim_end_matches('/').rsplit_once('/')?;
    let (major, minor) = version.strip_prefix('v')?.split_once('.')?;
    Some((
        identity.to_owned(),
        (major.parse().ok()?, minor.parse().ok()?),
    ))
}

fn imports(link: &Directive) -> Result<Imports, String> {
    let Some(import) = link.specified_argument_by_name("import") else {
        return Ok(Vec::new());
    };
    let Value::List(items) = &**import else {
        return Err("the import of a @link must be a list".to_owned());
    };
    let mut found = Vec::new();
    for item in items {
        match &**item {
            Value::String(name) => found.push((name.clone(), name.clone())),
            Value::Object(fields) => {
                let mut name = None;
                let mut renamed = None;
                for (key, value) in fields {
                    let text = value
                        .as_str()
                        .ok_or_else(|| format!("\"{key}\" of an import must be a string"))?;
                    match key.as_str() {
                        "name" => name = Some(text),
                        "as" => renamed = Some(text),
                        other => return Err(format!("an import has no \"{other}\"")),
                    }
                }
                let name = name.ok_or("an import needs a name")?;
                let renamed = renamed.unwrap_or(name);
                if name.starts_with('@') != renamed.starts_with('@') {
                    return Err(format!(
                        "\"{name}\" cannot be imported as \"{renamed}\": a directive's name begins with \"@\", a type's does not"
                    ));
                }
                found.push((name.to_owned(), renamed.to_owned()));
            }
            _ => return Err("each import must be a name, or {name:, as:}".to_owned()),
        }
    }
    Ok(found)
}
