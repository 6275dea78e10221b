//! Directives that clients may write in their documents.

use std::collections::BTreeSet;

use apollo_compiler::ast::{Directive, DirectiveDefinition, DirectiveLocation};
use apollo_compiler::collections::IndexSet;
use apollo_compiler::{Name, Node, Schema};

use super::Merge;
use super::inputs::{ARGUMENT, Found};
use crate::error::Level;
use crate::subgraph::{Subgraph, is_executable};

/// A subgraph with its definition of a directive.
type Defined<'a> = (&'a Subgraph, &'a Node<DirectiveDefinition>);

impl<'a> Merge<'_, 'a> {
    /// The directives that clients may write in some subgraph.
    pub(super) fn executable_names(&self) -> BTreeSet<&'a Name> {
        let subgraphs = self.compose.subgraphs.iter();
        subgraphs
            .flat_map(|subgraph| {
                let all = subgraph.schema.directive_definitions.iter();
                all.filter(move |(name, definition)| {
                    !definition.is_built_in()
                        // Federation's own are merged by rules of their own.
                        && subgraph.canonical(&Directive::new((*name).clone())).is_none()
                        && !executable(definition).is_empty()
                })
            })
            .map(|(name, _)| name)
            .collect()
    }

    /// The subgraphs that define a directive.
    pub(super) fn definitions_of(&self, name: &Name) -> Vec<Defined<'a>> {
        let subgraphs = self.compose.subgraphs.iter();
        subgraphs
            .filter_map(|s| Some((s, s.schema.directive_definitions.get(name)?)))
            .collect()
    }

    /// Adds the executable directives: those that every subgraph defines.
    pub(super) fn add_executable_directives(&mut self, schema: &mut Schema) {
        for name in self.executable_names() {
            // Carried and composed directives are merged already.
            if schema.directive_definitions.contains_key(name) {
                continue;
            }
            if let Some(merged) = self.merge_executable(name) {
                schema
                    .directive_definitions
                    .insert(name.clone(), Node::new(merged));
            }
        }
    }

    fn merge_executable(&mut self, name: &Name) -> Option<DirectiveDefinition> {
        let all = self.definitions_of(name);
        if all.len() < self.compose.subgraphs.len() {
            let message = format!(
                "the executable directive @{name} is left out: some subgraph does not define it"
            );
            let code = "INCONSISTENT_EXECUTABLE_DIRECTIVE_PRESENCE";
            self.hint(Level::Warn, code, message);
            return None;
        }
        let (_, first) = all.first()?;
        let mut locations = executable(first);
        locations.retain(|l| all.iter().all(|(_, o)| o.locations.contains(l)));
        if locations.is_empty() {
            let message = format!(
                "the executable directive @{name} is left out: its definitions have no location in common"
            );
            self.hint(Level::Warn, "NO_EXECUTABLE_DIRECTIVE_INTERSECTION", message);
            return None;
        }
        if all
            .iter()
            .any(|(_, o)| executable(o).len() != locations.len())
        {
            let message =
                format!("@{name} applies to different locations: only the common ones are kept");
            let code = "INCONSISTENT_EXECUTABLE_DIRECTIVE_LOCATIONS";
            self.hint(Level::Warn, code, message);
        }
        if all.iter().any(|(_, o)| o.repeatable != first.repeatable) {
            let message = format!(
                "@{name} is repeatable in some subgraphs only: it is merged as not repeatable"
            );
            let code = "INCONSISTENT_EXECUTABLE_DIRECTIVE_REPEATABLE";
            self.hint(Level::Warn, code, message);
        }
        // As for arguments of fields: the common ones, each with the strictest type.
        let mut names: IndexSet<&Name> = IndexSet::default();
        for (_, definition) in &all {
            names.extend(definition.arguments.iter().map(|a| &a.name));
        }
        let mut arguments = Vec::new();
        for argument in names {
            let found: Vec<Found<'_>> = all
                .iter()
                .filter_map(|(subgraph, definition)| {
                    let mut arguments = definition.arguments.iter();
                    Some((*subgraph, arguments.find(|a| a.name == *argument)?))
                })
                .collect();
            let at = format!("@{name}({argument}:)");
            if let Some(merged) = self.merge_input_value(&ARGUMENT, &at, all.len(), &found) {
                arguments.push(Node::new(merged));
            }
        }
        let described = all.iter().map(|(_, o)| o.description.as_ref());
        Some(DirectiveDefinition {
            description: self.description(&format!("@{name}"), described),
            name: name.clone(),
            arguments,
            repeatable: all.iter().all(|(_, o)| o.repeatable),
            locations,
        })
    }
}

fn executable(definition: &DirectiveDefinition) -> Vec<DirectiveLocation> {
    let locations = definition.locations.iter();
    locations.filter(|l| is_executable(l)).copied().collect()
}
