//! Applied directives, descriptions, and definitions of directives.

use std::collections::{HashMap, HashSet};

use apollo_compiler::ast::{Directive, Value};
use apollo_compiler::{Name, Node, Schema};

use super::Merge;
use super::join::text;
use crate::access::options;
use crate::compose::Source;
use crate::compose::spec::{self, DirectiveBuilder};
use crate::error::{CompositionError, Level};
use crate::subgraph::{ComposedDirective, Subgraph};

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
        let mut others: Vec<Node<Directive>> = Vec::new();
        for (subgraph, directives) in applied {
            for directive in directives {
                if directive.name == "deprecated" {
                    found.push(("deprecated", directive));
                } else if let Some(canonical) = subgraph.canonical(directive) {
                    if super::super::check::CARRIED.contains(&canonical) {
                        found.push((canonical, directive));
                    }
                } else if subgraph.composed.iter().any(|c| c.name == directive.name)
                    && !others.contains(directive)
                {
                    others.push(directive.clone());
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
            match canonical {
                "deprecated" => out.push(self.most_frequent(coordinate, &same)),
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
                    let weight = same.iter().filter_map(|d| int(d, "weight")).max();
                    out.push(
                        DirectiveBuilder::new("cost")
                            .value("weight", number(weight.unwrap_or(1)))
                            .build(),
                    );
                }
                _ => out.push(list_size(&same)),
            }
        }
        for other in others {
            let repeatable = self
                .compose
                .subgraphs
                .iter()
                .flat_map(|s| &s.composed)
                .find(|c| c.name == other.name)
                .is_some_and(|c| c.definition.repeatable);
            // Applied twice, a directive that is not repeatable would make the supergraph invalid.
            if repeatable || !out.iter().any(|d| d.name == other.name) {
                out.push(other);
            } else {
                let message = format!(
                    "@{} differs on \"{coordinate}\": the first is kept",
                    other.name
                );
                self.hint(
                    Level::Warn,
                    "INCONSISTENT_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
                    message,
                );
            }
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
    fn most_frequent(&mut self, coordinate: &str, same: &[&Node<Directive>]) -> Node<Directive> {
        let mut counts: Vec<(&Node<Directive>, usize)> = Vec::new();
        for directive in same {
            match counts.iter_mut().find(|(known, _)| known == directive) {
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
        Node::new((**kept.map_or(same[0], |(directive, _)| directive)).clone())
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

    pub(super) fn add_carried_definitions(&self, schema: &mut Schema) {
        for (canonicals, url, purpose, definitions) in spec::CARRIED {
            if !canonicals
                .iter()
                .any(|canonical| self.carried.contains(canonical))
            {
                continue;
            }
            let parsed = spec::parse(definitions);
            for (name, definition) in parsed.directive_definitions {
                schema
                    .directive_definitions
                    .entry(name)
                    .or_insert(definition);
            }
            for (name, ty) in parsed.types {
                schema.types.entry(name).or_insert(ty);
            }
            let mut link = DirectiveBuilder::new("link").string("url", url);
            if let Some(purpose) = purpose {
                link = link.value("for", Value::Enum(Name::new_static_unchecked(purpose)));
            }
            if canonicals.len() > 1 {
                let names = canonicals
                    .iter()
                    .map(|name| Node::new(Value::String(format!("@{name}"))))
                    .collect();
                link = link.value("import", Value::List(names));
            }
            let directives = &mut schema.schema_definition.make_mut().directives;
            directives.push(link.build());
        }
    }

    /// Adds the directives that `@composeDirective` names.
    pub(super) fn add_composed_definitions(&mut self, schema: &mut Schema) {
        let mut by_name: HashMap<&Name, &ComposedDirective> = HashMap::new();
        let mut order: Vec<&Name> = Vec::new();
        let all: Vec<&ComposedDirective> = self
            .compose
            .subgraphs
            .iter()
            .flat_map(|s| &s.composed)
            .collect();
        for composed in &all {
            let Some(known) = by_name.get(&composed.name) else {
                by_name.insert(&composed.name, composed);
                order.push(&composed.name);
                continue;
            };
            let mut reason = None;
            if known.identity != composed.identity || known.canonical != composed.canonical {
                reason = Some(format!("@{} means different directives", composed.name));
            } else if known.version.0 != composed.version.0 {
                reason = Some(format!(
                    "@{} is composed of versions v{} and v{} of its specification",
                    composed.name, known.version.0, composed.version.0
                ));
            }
            if let Some(reason) = reason {
                self.compose.errors.push(
                    CompositionError::new("DIRECTIVE_COMPOSITION_ERROR", reason)
                        .at(known.at.clone())
                        .at(composed.at.clone()),
                );
            // Within a major version, the newest definition is used.
            } else if composed.version > known.version {
                by_name.insert(&composed.name, composed);
            }
        }
        // Under two names, one definition would be two directives in the supergraph.
        let renamed = all.iter().find_map(|a| {
            let other = all.iter().find(|b| {
                a.identity == b.identity && a.canonical == b.canonical && a.name != b.name
            })?;
            Some((a, other))
        });
        if let Some((a, b)) = renamed {
            self.compose.errors.push(
                CompositionError::new(
                    "DIRECTIVE_COMPOSITION_ERROR",
                    format!(
                        "\"{}\" is composed as @{} and as @{}",
                        a.canonical, a.name, b.name
                    ),
                )
                .at(a.at.clone())
                .at(b.at.clone()),
            );
        }
        let mut links = HashSet::new();
        for name in order {
            let Some(composed) = by_name.get(name) else {
                continue;
            };
            schema
                .directive_definitions
                .entry(composed.name.clone())
                .or_insert_with(|| composed.definition.clone());
            // Directives of one specification may share a @link, which is kept once.
            if links.insert(composed.link.serialize().to_string()) {
                schema
                    .schema_definition
                    .make_mut()
                    .directives
                    .push(composed.link.clone());
            }
        }
    }
}

fn int(directive: &Directive, argument: &str) -> Option<i32> {
    directive.specified_argument_by_name(argument)?.to_i32()
}

fn number(value: i32) -> Value {
    Value::Int(value.into())
}

fn strings(directive: &Directive, argument: &str) -> Vec<String> {
    match directive.specified_argument_by_name(argument).map(|v| &**v) {
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| Some(item.as_str()?.to_owned()))
            .collect(),
        _ => Vec::new(),
    }
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
    if let Some(assumed) = same.iter().filter_map(|d| int(d, "assumedSize")).max() {
        merged = merged.value("assumedSize", number(assumed));
    }
    for argument in ["slicingArguments", "sizedFields"] {
        let mut all: Vec<String> = Vec::new();
        for text in same.iter().flat_map(|d| strings(d, argument)) {
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
        .all(|d| crate::subgraph::bool_argument(d, "requireOneSlicingArgument") != Some(false));
    merged.flag("requireOneSlicingArgument", one).build()
}
