//! What a `@link` says: a specification, its version, and the names under which the
//! schema has its elements.
//!
//! Source: <https://specs.apollo.dev/link/v1.0/>; `@core` is its older form
//! (<https://specs.apollo.dev/core/v0.2/>).

use std::collections::HashMap;

use apollo_compiler::ast::{Directive, Value};
use apollo_compiler::schema::Component;
use apollo_compiler::{Node, Schema};

pub(crate) const LINK: &str = "https://specs.apollo.dev/link";
const CORE: &str = "https://specs.apollo.dev/core";

/// The name of `@link`, or `@core`, in a schema without another for it; the argument
/// with the URL; the specification.
const FORMS: [(&str, &str, &str); 2] = [("link", "url", LINK), ("core", "feature", CORE)];

/// One application of `@link`.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub directive: Node<Directive>,
    /// The URL without its version: `https://specs.example/x`.
    pub identity: String,
    /// Major and minor.
    pub version: (u32, u32),
    /// The prefix of what is not imported.
    pub namespace: String,
    /// Imported elements as (name there, name here); directives with their `@`.
    pub imports: Vec<(String, String)>,
}

/// The applications of `@link` (or `@core`) on a schema, each with the argument that has
/// the URL. The directive itself may have another name, which its own link gives.
pub(crate) fn applications(
    schema: &Schema,
) -> impl Iterator<Item = (&Component<Directive>, &'static str)> {
    let all = &schema.schema_definition.directives;
    let mut names: Vec<(&str, &'static str)> =
        FORMS.iter().map(|(name, url, _)| (*name, *url)).collect();
    for directive in all.iter() {
        for (canonical, argument, identity) in FORMS {
            let itself = Link::read(directive, argument).ok().filter(|link| {
                link.identity == identity && link.directive_name(canonical) == *directive.name
            });
            if itself.is_some() {
                names.push((directive.name.as_str(), argument));
            }
        }
    }
    all.iter().filter_map(move |directive| {
        let known = names.iter().find(|(name, _)| directive.name == *name)?;
        Some((directive, known.1))
    })
}

impl Link {
    /// Reads a link.
    ///
    /// # Errors
    /// The published code, and what is wrong.
    pub fn read(
        directive: &Component<Directive>,
        argument: &str,
    ) -> Result<Self, (&'static str, String)> {
        let usage = |message: String| ("INVALID_LINK_DIRECTIVE_USAGE", message);
        let url = text(directive, argument)
            .ok_or_else(|| usage(format!("@{} needs a {argument}", directive.name)))?;
        let (identity, version) = parse_url(url).ok_or_else(|| {
            let message =
                format!("the @link to \"{url}\" has no version: it ends in /vMAJOR.MINOR");
            ("INVALID_LINK_IDENTIFIER", message)
        })?;
        let renamed = text(directive, "as");
        if let Some(renamed) = renamed
            && (renamed.is_empty() || renamed.contains("__") || renamed.ends_with('_'))
        {
            return Err(usage(format!(
                "\"{url}\" cannot be linked as \"{renamed}\", which must be a name without \"__\" and without \"_\" at its end"
            )));
        }
        Ok(Self {
            directive: directive.node.clone(),
            namespace: renamed.unwrap_or_else(|| name_of(&identity)).to_owned(),
            imports: imports(directive).map_err(usage)?,
            identity,
            version,
        })
    }

    /// The name here of a directive of the specification; both without `@`.
    pub fn directive_name(&self, canonical: &str) -> String {
        let imported = self.imports.iter().find_map(|(from, to)| {
            (from.strip_prefix('@')? == canonical).then(|| to.trim_start_matches('@'))
        });
        match imported {
            Some(imported) => imported.to_owned(),
            // The directive that is called like its specification has the namespace's name.
            None if canonical == name_of(&self.identity) => self.namespace.clone(),
            None => format!("{}__{canonical}", self.namespace),
        }
    }

    /// The name here of a type of the specification.
    pub fn type_name(&self, canonical: &str) -> String {
        let imported = self.imports.iter().find(|(from, _)| from == canonical);
        imported.map_or_else(
            || format!("{}__{canonical}", self.namespace),
            |(_, to)| to.clone(),
        )
    }

    /// The name in the specification of a directive here, both without `@`; `None` if
    /// it is not the specification's.
    pub fn canonical_name<'a>(&'a self, local: &'a str) -> Option<&'a str> {
        let bare = |name: &'a str| name.strip_prefix('@');
        let imported = self.imports.iter().find(|(_, to)| bare(to) == Some(local));
        if let Some((from, _)) = imported {
            return bare(from);
        }
        let canonical = match local == self.namespace {
            true => name_of(&self.identity),
            false => local
                .strip_prefix(self.namespace.as_str())?
                .strip_prefix("__")?,
        };
        // An element that is imported has only the name that the import gives.
        let renamed = self
            .imports
            .iter()
            .any(|(from, _)| bare(from) == Some(canonical));
        (!renamed).then_some(canonical)
    }
}

/// What is wrong with the names that a schema's links bring: the place of the link, and
/// the reason.
pub(crate) fn clashes(links: &[Link]) -> Vec<(&Link, String)> {
    let mut found = Vec::new();
    // A schema may omit the link to the link specification itself.
    let mut namespaces: HashMap<&str, &str> = HashMap::new();
    if !links.iter().any(|link| link.identity == LINK) {
        namespaces.insert("link", LINK);
    }
    for link in links {
        let other = namespaces.insert(&link.namespace, &link.identity);
        if let Some(other) = other.filter(|other| *other != link.identity) {
            let (identity, namespace) = (&link.identity, &link.namespace);
            let message =
                format!("\"{identity}\" and \"{other}\" are both linked as \"{namespace}\"");
            found.push((link, message));
        }
    }
    let mut names: HashMap<&str, (&str, &str)> = HashMap::new();
    for link in links {
        let mut elements: HashMap<&str, &str> = HashMap::new();
        for (from, to) in &link.imports {
            let here = (link.identity.as_str(), from.as_str());
            let bare = to.trim_start_matches('@');
            if names.insert(to, here).is_some_and(|other| other != here) {
                found.push((
                    link,
                    format!("\"{to}\" is imported twice, and means two things"),
                ));
            } else if elements.insert(from, to).is_some_and(|other| other != to) {
                found.push((link, format!("\"{from}\" is imported under two names")));
            }
            let confused = namespaces.iter().find(|(namespace, identity)| {
                let prefixed = bare
                    .strip_prefix(**namespace)
                    .is_some_and(|rest| rest.starts_with("__") || rest.is_empty());
                prefixed && **identity != link.identity
            });
            if let Some((_, other)) = confused {
                let message =
                    format!("\"{from}\" cannot be imported as \"{to}\", a name of \"{other}\"");
                found.push((link, message));
            }
        }
    }
    found
}

fn text<'a>(directive: &'a Directive, argument: &str) -> Option<&'a str> {
    directive.specified_argument_by_name(argument)?.as_str()
}

/// A specification's name, which is the last part of its identity.
pub(crate) fn name_of(identity: &str) -> &str {
    identity.rsplit('/').next().unwrap_or_default()
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

fn imports(link: &Directive) -> Result<Vec<(String, String)>, String> {
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
                if matches!(renamed, "" | "@") {
                    return Err(format!("\"{name}\" is imported without a name"));
                }
                found.push((name.to_owned(), renamed.to_owned()));
            }
            _ => return Err("each import must be a name, or {name:, as:}".to_owned()),
        }
    }
    Ok(found)
}
