//! Applied directives, descriptions, and definitions of directives.

use std::collections::HashSet;

use apollo_compiler::ast::{Directive, DirectiveDefinition, Value};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::{Name, Node, Schema};

use super::Merge;
use super::composed::import;
use super::join::text;
use super::values::same_application;
use crate::access::options;
use crate::arguments::{bool_argument, int_argument, strings_argument};
use crate::compose::Source;
use crate::compose::check::{CARRIED, every_directive};
use crate::compose::spec::{self, DirectiveBuilder};
use crate::error::{CompositionError, Level};
use crate::links::name_of;
use crate::subgraph::Subgraph;

impl Merge<'_, '_> {
    /// Merges the directives that clients, access checks and tools need in the
    /// supergraph.
    pub(super) fn merge_applied_directives<'a, D>(
        &mut self,
        coordinate: &str,
        applied: impl Iterator<Item = (&'a Subgraph, D)>,
        out: &mut Vec<Node<Directive>>,
    ) where
        D: Iterator<Item = &'a Node<Directive>>,
    {
        let mut found: Vec<(&'static str, &Node<Directive>)> = Vec::new();
        // Directives that `@composeDirective` names.
        let mut others: IndexMap<&Name, Vec<&Node<Directive>>> = IndexMap::default();
        for (subgraph, directives) in applied {
            for directive in directives {
                if directive.name == "deprecated" {
                    found.push(("deprecated", directive));
                } else if let Some(canonical) = subgraph.canonical(directive) {
                    if CARRIED.contains(&canonical) {
                        found.push((canonical, directive));
                    }
                } else if subgraph.composed.iter().any(|c| c.name == directive.name) {
                    others.entry(&directive.name).or_default().push(directive);
                }
            }
        }
        // A fixed order: the output does not depend on that in the subgraphs.
        for canonical in [
            "deprecated",
            "inaccessible",
            "tag",
            "authenticated",
            "requiresScopes",
            "policy",
            "cost",
            "listSize",
        ] {
            let same: Vec<&Node<Directive>> = found
                .iter()
                .filter(|(name, _)| *name == canonical)
                .map(|(_, directive)| *directive)
                .collect();
            if same.is_empty() {
                continue;
            }
            if canonical != "deprecated" {
                self.carried.insert(canonical);
            }
            let combined = matches!(canonical, "requiresScopes" | "policy" | "cost" | "listSize");
            if combined
                && same
                    .iter()
                    .any(|other| other.arguments != same[0].arguments)
            {
                let message =
                    format!("@{canonical} differs on \"{coordinate}\": all of them apply");
                let code = "MERGED_NON_REPEATABLE_DIRECTIVE_ARGUMENTS";
                self.hint(Level::Info, code, message);
            }
            let before = out.len();
            match canonical {
                "deprecated" => out.push(self.most_frequent(coordinate, None, &same)),
                // One subgraph is enough to hide an element, or to protect it.
                "inaccessible" => out.push(DirectiveBuilder::new("inaccessible").build()),
                "authenticated" => out.push(DirectiveBuilder::new("authenticated").build()),
                "tag" => {
                    let mut names: Vec<&str> = same.iter().map(|d| text(d, "name")).collect();
                    let mut seen = HashSet::new();
                    names.retain(|name| seen.insert(*name));
                    for name in names {
                        out.push(DirectiveBuilder::new("tag").string("name", name).build());
                    }
                }
                "requiresScopes" => out.push(combine_demands("requiresScopes", "scopes", &same)),
                "policy" => out.push(combine_demands("policy", "policies", &same)),
                // The highest of the subgraphs' costs applies.
                "cost" => {
                    let weight = same.iter().filter_map(|d| int_argument(d, "weight")).max();
                    out.push(
                        DirectiveBuilder::new("cost")
                            .value("weight", number(weight.unwrap_or(1)))
                            .build(),
                    );
                }
                _ => out.push(list_size(&same)),
            }
            if let Some(renamed) = self.renamed.get(canonical) {
                for directive in &mut out[before..] {
                    directive.make_mut().name = renamed.clone();
                }
            }
        }
        for (name, same) in others {
            self.merge_composed(coordinate, name, &same, out);
        }
    }

    /// The applications of a composed directive: different ones only if it is repeatable.
    fn merge_composed(
        &mut self,
        coordinate: &str,
        name: &Name,
        same: &[&Node<Directive>],
        out: &mut Vec<Node<Directive>>,
    ) {
        let definition = self.composed_definition(name).cloned();
        let definition = definition.as_deref();
        if definition.is_some_and(|definition| definition.repeatable) {
            let mut kept: Vec<&Node<Directive>> = Vec::new();
            for directive in same {
                if !kept
                    .iter()
                    .any(|k| same_application(definition, k, directive))
                {
                    kept.push(directive);
                }
            }
            out.extend(kept.into_iter().map(detached));
        } else {
            out.push(self.most_frequent(coordinate, definition, same));
        }
    }

    /// A federation directive that planning does not use, kept for tools together
    /// with its subgraph.
    pub(super) fn join_directive(
        &mut self,
        source: &Source<'_>,
        canonical: &str,
        applied: &Directive,
    ) -> Node<Directive> {
        self.uses_join_directive = true;
        let graph = Node::new(Value::Enum(source.graph.clone()));
        let arguments = applied.arguments.iter();
        let arguments = arguments.map(|a| (a.name.clone(), a.value.clone()));
        DirectiveBuilder::new("join__directive")
            .value("graphs", Value::List(vec![graph]))
            .string("name", &format!("federation__{canonical}"))
            .value("args", Value::Object(arguments.collect()))
            .build()
    }

    /// Adds definitions of later versions of the join specification, if used.
    pub(super) fn add_later_join_definitions(&self, schema: &mut Schema) {
        if self.uses_join_directive {
            let definitions = spec::parse(spec::JOIN_DIRECTIVE);
            schema
                .directive_definitions
                .extend(definitions.directive_definitions);
            schema.types.extend(definitions.types);
        }
        if !self.uses_contexts {
            return;
        }
        let definitions = spec::parse(spec::CONTEXTS);
        schema
            .directive_definitions
            .extend(definitions.directive_definitions);
        schema.types.extend(definitions.types);
        let root = schema.schema_definition.make_mut();
        for link in root.directives.iter_mut() {
            for argument in &mut link.make_mut().arguments {
                if argument.value.as_str() == Some(spec::JOIN) {
                    let later = Value::String(spec::JOIN_WITH_CONTEXTS.to_owned());
                    argument.make_mut().value = Node::new(later);
                }
            }
        }
    }

    /// The most frequent application of a directive; on a tie, the first.
    fn most_frequent(
        &mut self,
        coordinate: &str,
        definition: Option<&DirectiveDefinition>,
        same: &[&Node<Directive>],
    ) -> Node<Directive> {
        let mut counts: Vec<(&Node<Directive>, usize)> = Vec::new();
        for directive in same {
            let mut known = counts.iter_mut();
            match known.find(|(known, _)| same_application(definition, known, directive)) {
                Some((_, count)) => *count += 1,
                None => counts.push((directive, 1)),
            }
        }
        if counts.len() > 1 {
            let message = format!("@{} differs on \"{coordinate}\"", counts[0].0.name);
            self.hint(
                Level::Warn,
                "INCONSISTENT_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
                message,
            );
        }
        let most = counts.iter().map(|(_, count)| *count).max();
        let kept = counts.iter().find(|(_, count)| Some(*count) == most);
        detached(kept.map_or(same[0], |(directive, _)| directive))
    }

    /// The most frequent description; on a tie, the first.
    pub(super) fn description<'a>(
        &mut self,
        coordinate: &str,
        all: impl Iterator<Item = Option<&'a Node<str>>>,
    ) -> Option<Node<str>> {
        let mut counts: Vec<(&Node<str>, usize)> = Vec::new();
        for text in all.flatten().filter(|text| !text.trim().is_empty()) {
            match counts.iter_mut().find(|(known, _)| **known == *text) {
                Some((_, count)) => *count += 1,
                None => counts.push((text, 1)),
            }
        }
        if counts.len() > 1 {
            let message = format!("\"{coordinate}\" is described differently by its subgraphs");
            self.hint(Level::Warn, "INCONSISTENT_DESCRIPTION", message);
        }
        let most = counts.iter().map(|(_, count)| *count).max();
        counts
            .into_iter()
            .find(|(_, count)| Some(*count) == most)
            .map(|(text, _)| text.clone())
    }

    /// The names of carried directives in the supergraph, where a composed or executable
    /// directive has the name that the specification gives them: those of the subgraphs.
    pub(super) fn rename_carried(&mut self) {
        let executable: HashSet<&Name> = self.executable_names().into_iter().collect();
        for canonical in CARRIED {
            let composed = self.composed_definition(canonical).is_some();
            let executable = executable.iter().any(|name| *name == canonical);
            if !composed && !executable {
                continue;
            }
            let subgraphs = self.compose.subgraphs.iter();
            let mut names = subgraphs.filter_map(|subgraph| {
                let mut all = subgraph.own_types().flat_map(|(_, ty)| every_directive(ty));
                all.find(|d| subgraph.canonical(d) == Some(canonical))
                    .map(|d| d.name.clone())
            });
            let Some(name) = names.next() else {
                continue;
            };
            if name != *canonical {
                self.renamed.insert(canonical, name);
            } else if composed {
                self.compose.errors.push(CompositionError::new(
                    "INVALID_LINK_DIRECTIVE_USAGE",
                    format!(
                        "@{canonical} is composed, but other subgraphs use Federation's @{canonical}: import one of them under another name"
                    ),
                ));
            }
        }
    }

    pub(super) fn add_carried_definitions(&self, schema: &mut Schema) {
        for (canonicals, url, purpose, definitions) in spec::CARRIED {
            if !canonicals
                .iter()
                .any(|canonical| self.carried.contains(canonical))
            {
                continue;
            }
            let renames = canonicals.iter().any(|c| self.renamed.contains_key(c));
            let identity = url.rsplit_once('/').map_or(*url, |(identity, _)| identity);
            // Under its own name, the namespace would be that of the other directive.
            let namespace = format!("_0{}", name_of(identity));
            let parsed = match renames {
                true => {
                    let theirs = format!("{}__", name_of(identity));
                    spec::parse(&definitions.replace(&theirs, &format!("{namespace}__")))
                }
                false => spec::parse(definitions),
            };
            for (name, mut definition) in parsed.directive_definitions {
                let name = self.renamed.get(name.as_str()).unwrap_or(&name).clone();
                definition.make_mut().name = name.clone();
                schema
                    .directive_definitions
                    .entry(name)
                    .or_insert(definition);
            }
            for (name, ty) in parsed.types {
                schema.types.entry(name).or_insert(ty);
            }
            let mut link = DirectiveBuilder::new("link").string("url", url);
            if renames {
                link = link.string("as", &namespace);
            }
            if let Some(purpose) = purpose {
                link = link.value("for", Value::Enum(Name::new_static_unchecked(purpose)));
            }
            if canonicals.len() > 1 || renames {
                let names = canonicals
                    .iter()
                    .map(|name| {
                        let local = self.renamed.get(name).map_or(*name, Name::as_str);
                        Node::new(import(&format!("@{name}"), &format!("@{local}")))
                    })
                    .collect();
                link = link.value("import", Value::List(names));
            }
            let directives = &mut schema.schema_definition.make_mut().directives;
            directives.push(link.build());
        }
    }
}

/// A copy that has no place in a subgraph's text.
fn detached(directive: &Node<Directive>) -> Node<Directive> {
    Node::new((**directive).clone())
}

fn number(value: i32) -> Value {
    Value::Int(value.into())
}

/// Combines the demands of all subgraphs, which must all be met: `[[a], [b]]` and
/// `[[c]]` make `[[a, c], [b, c]]`.
fn combine_demands(
    name: &'static str,
    argument: &'static str,
    same: &[&Node<Directive>],
) -> Node<Directive> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen: Vec<&Node<Directive>> = Vec::new();
    for directive in same {
        if seen.contains(directive) {
            continue;
        }
        seen.push(directive);
        let options = options(directive, argument);
        // Demands nothing.
        if options.is_empty() {
            continue;
        }
        let mut next = Vec::new();
        for known in &all {
            for option in &options {
                let mut both = known.clone();
                both.extend(option.iter().filter(|text| !known.contains(text)).cloned());
                both.sort();
                if !next.contains(&both) {
                    next.push(both);
                }
            }
        }
        all = next;
    }
    // An option that contains another one is redundant.
    let needless = |option: &Vec<String>| {
        all.iter().any(|other| {
            other.len() < option.len() && other.iter().all(|text| option.contains(text))
        })
    };
    let kept = all
        .iter()
        .filter(|option| !needless(option))
        .map(|option| {
            let texts = option
                .iter()
                .map(|text| Node::new(Value::String(text.clone())));
            Node::new(Value::List(texts.collect()))
        })
        .collect();
    DirectiveBuilder::new(name)
        .value(argument, Value::List(kept))
        .build()
}

fn list_size(same: &[&Node<Directive>]) -> Node<Directive> {
    let mut merged = DirectiveBuilder::new("listSize");
    if let Some(assumed) = same
        .iter()
        .filter_map(|d| int_argument(d, "assumedSize"))
        .max()
    {
        merged = merged.value("assumedSize", number(assumed));
    }
    for argument in ["slicingArguments", "sizedFields"] {
        let mut all: Vec<String> = Vec::new();
        for text in same.iter().flat_map(|d| strings_argument(d, argument)) {
            if !all.contains(&text) {
                all.push(text);
            }
        }
        if !all.is_empty() {
            let all = all.into_iter().map(|text| Node::new(Value::String(text)));
            merged = merged.value(argument, Value::List(all.collect()));
        }
    }
    let one = same
        .iter()
        .all(|d| bool_argument(d, "requireOneSlicingArgument") != Some(false));
    merged.flag("requireOneSlicingArgument", one).build()
}
