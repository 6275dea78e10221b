//! The directives that `@composeDirective` names.
//!
//! A specification is linked once, in the latest of the versions that are composed, and
//! its directives are defined as in that version; versions must be compatible.
//!
//! Source: <https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/directives#composedirective>,
//! <https://specs.apollo.dev/link/v1.0/>.

use apollo_compiler::ast::{DirectiveDefinition, Value};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::{Name, Node, Schema};

use super::Merge;
use crate::arguments::string_argument;
use crate::compose::spec::DirectiveBuilder;
use crate::error::CompositionError;
use crate::links::name_of;
use crate::subgraph::ComposedDirective;

/// A specification of which directives are composed.
pub(super) struct ComposedSpec<'a> {
    identity: &'a str,
    version: (u32, u32),
    /// The directives' names, each with that in the specification and its definition.
    pub directives: Vec<(&'a Name, &'a str, Node<DirectiveDefinition>)>,
}

impl<'a> Merge<'_, 'a> {
    /// Chooses versions and definitions of all composed directives.
    pub(super) fn choose_composed(&mut self) -> Vec<ComposedSpec<'a>> {
        let subgraphs = self.compose.subgraphs;
        let all: Vec<&'a ComposedDirective> = subgraphs.iter().flat_map(|s| &s.composed).collect();
        let errors = self.compose.errors.len();
        self.check_composed_names(&all);
        if self.compose.errors.len() > errors {
            return Vec::new();
        }
        let mut by_identity: IndexMap<&'a str, Vec<&'a ComposedDirective>> = IndexMap::default();
        for composed in all {
            let same = by_identity.entry(&composed.identity).or_default();
            same.push(composed);
        }
        let mut specs = Vec::new();
        for (identity, all) in by_identity {
            let mut versions = all.iter().map(|composed| composed.version);
            let first = versions.next().unwrap_or_default();
            if versions.any(|version| version.0 != first.0) {
                let reason = format!(
                    "directives of incompatible versions of \"{identity}\" are composed: their major versions differ"
                );
                self.refuse(&all, reason);
                continue;
            }
            let versions = all.iter().map(|composed| composed.version);
            let mut spec = ComposedSpec {
                identity,
                version: versions.max().unwrap_or(first),
                directives: Vec::new(),
            };
            for composed in &all {
                if spec
                    .directives
                    .iter()
                    .any(|(name, _, _)| **name == composed.name)
                {
                    continue;
                }
                match self.definition_in(&spec, composed) {
                    Some(definition) => {
                        let names = (&composed.name, composed.canonical.as_str());
                        spec.directives.push((names.0, names.1, definition));
                    }
                    None => {
                        let (major, minor) = spec.version;
                        let reason = format!(
                            "@{} is composed, but no subgraph with the latest version of its specification, \"{identity}/v{major}.{minor}\", defines it",
                            composed.name
                        );
                        self.refuse(&[*composed], reason);
                    }
                }
            }
            specs.push(spec);
        }
        specs
    }

    /// A directive's definition in the subgraphs that link a version; of several, that in
    /// the last.
    fn definition_in(
        &self,
        spec: &ComposedSpec<'_>,
        composed: &ComposedDirective,
    ) -> Option<Node<DirectiveDefinition>> {
        let found = self.compose.subgraphs.iter().rev().find_map(|subgraph| {
            let link = subgraph
                .links
                .iter()
                .find(|link| link.identity == spec.identity && link.version == spec.version)?;
            let local = link.directive_name(&composed.canonical);
            subgraph.schema.directive_definitions.get(local.as_str())
        })?;
        let mut definition = (**found).clone();
        definition.name = composed.name.clone();
        for argument in &mut definition.arguments {
            // Others may be unknown to the supergraph.
            let kept = |d: &Node<apollo_compiler::ast::Directive>| d.name == "deprecated";
            argument.make_mut().directives.retain(kept);
        }
        Some(Node::new(definition))
    }

    /// A name must mean one directive, and a directive have one name.
    fn check_composed_names(&mut self, all: &[&'a ComposedDirective]) {
        let same = |a: &ComposedDirective, b: &ComposedDirective| {
            a.identity == b.identity && a.canonical == b.canonical
        };
        for (index, composed) in all.iter().enumerate() {
            let name = &composed.name;
            let others = &all[..index];
            if let Some(other) = others
                .iter()
                .find(|other| other.name == *name && !same(other, composed))
            {
                let reason = format!("@{name} means different directives");
                self.refuse(&[*other, *composed], reason);
            }
            if let Some(other) = others
                .iter()
                .find(|other| other.name != *name && same(other, composed))
            {
                let reason = format!(
                    "\"@{}\" of \"{}\" is composed as @{} and as @{name}",
                    composed.canonical, composed.identity, other.name
                );
                self.refuse(&[*other, *composed], reason);
            }
            // Even where they are not used: a subgraph may begin to.
            let taken = self.compose.subgraphs.iter().find(|subgraph| {
                ["tag", "inaccessible"]
                    .iter()
                    .any(|canonical| subgraph.local_name(canonical) == Some(name))
            });
            if let Some(subgraph) = taken {
                let reason = format!(
                    "@{name} is composed, but is Federation's own directive in {}",
                    subgraph.name
                );
                self.refuse(&[*composed], reason);
            }
            if let Some(reserved) = ["join", "link"].iter().find(|reserved| {
                let rest = name.strip_prefix(**reserved);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
            }) {
                let message = format!(
                    "@{name} cannot be composed: in the supergraph it is a name of the {reserved} specification"
                );
                self.compose.errors.push(
                    CompositionError::new("INVALID_LINK_DIRECTIVE_USAGE", message)
                        .at(composed.at.clone()),
                );
            }
        }
    }

    fn refuse(&mut self, all: &[&ComposedDirective], reason: String) {
        let mut error = CompositionError::new("DIRECTIVE_COMPOSITION_ERROR", reason);
        for composed in all {
            error = error.at(composed.at.clone());
        }
        self.compose.errors.push(error);
    }

    /// Adds the definitions of composed directives, and one link for each specification.
    pub(super) fn add_composed_definitions(&self, schema: &mut Schema) {
        for spec in &self.composed {
            let (major, minor) = spec.version;
            let url = format!("{}/v{major}.{minor}", spec.identity);
            let mut link = DirectiveBuilder::new("link").string("url", &url);
            let names = namespaces(schema);
            let mut namespace = name_of(spec.identity).to_owned();
            let mut number = 0;
            while names.contains(&namespace) {
                namespace = format!("_{number}{}", name_of(spec.identity));
                number += 1;
            }
            if number > 0 {
                link = link.string("as", &namespace);
            }
            let imports = spec.directives.iter().map(|(name, canonical, _)| {
                Node::new(import(&format!("@{canonical}"), &format!("@{name}")))
            });
            let link = link.value("import", Value::List(imports.collect())).build();
            let root = schema.schema_definition.make_mut();
            root.directives.push(link);
            for (name, _, definition) in &spec.directives {
                schema
                    .directive_definitions
                    .insert((*name).clone(), definition.clone());
            }
        }
    }

    /// The definition of a composed directive.
    pub(super) fn composed_definition(&self, name: &str) -> Option<&Node<DirectiveDefinition>> {
        let mut all = self.composed.iter().flat_map(|spec| &spec.directives);
        all.find(|(known, _, _)| *known == name)
            .map(|(_, _, definition)| definition)
    }
}

/// An element of a link's `import`.
pub(super) fn import(canonical: &str, name: &str) -> Value {
    let text = |text: &str| Node::new(Value::String(text.to_owned()));
    if canonical == name {
        return Value::String(name.to_owned());
    }
    Value::Object(vec![
        (Name::new_static_unchecked("name"), text(canonical)),
        (Name::new_static_unchecked("as"), text(name)),
    ])
}

/// The namespaces that the links of a schema take.
fn namespaces(schema: &Schema) -> Vec<String> {
    let links = schema.schema_definition.directives.get_all("link");
    links
        .filter_map(|link| {
            let url = string_argument(link, "url")?;
            let identity = url.rsplit_once('/').map_or(url, |(identity, _)| identity);
            let namespace = string_argument(link, "as").unwrap_or_else(|| name_of(identity));
            Some(namespace.to_owned())
        })
        .collect()
}
