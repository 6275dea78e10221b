//! Directives that clients may write in their documents.

use apollo_compiler::ast::{Directive, DirectiveDefinition, DirectiveLocation};
use apollo_compiler::{Node, Schema};

use super::Merge;
use super::join::strictest;
use crate::error::Level;
use crate::subgraph::is_executable;

impl Merge<'_, '_> {
    /// Adds the executable directives: those that every subgraph defines.
    pub(super) fn add_executable_directives(&mut self, schema: &mut Schema) {
        let Some((first, rest)) = self.compose.subgraphs.split_first() else {
            return;
        };
        // Only what every subgraph defines is kept, so those of the first are all candidates.
        for (name, definition) in &first.schema.directive_definitions {
            // Carried and composed directives are merged already, by rules of their own.
            if definition.is_built_in()
                || first.canonical(&Directive::new(name.clone())).is_some()
                || schema.directive_definitions.contains_key(name)
                || executable(definition).is_empty()
            {
                continue;
            }
            let others: Vec<_> = rest
                .iter()
                .filter_map(|s| s.schema.directive_definitions.get(name))
                .collect();
            if others.len() < rest.len() {
                let message = format!(
                    "the executable directive @{name} is left out: some subgraph does not define it"
                );
                self.hint(
                    Level::Warn,
                    "INCONSISTENT_EXECUTABLE_DIRECTIVE_PRESENCE",
                    message,
                );
                continue;
            }
            let mut locations = executable(definition);
            locations.retain(|l| others.iter().all(|o| o.locations.contains(l)));
            if locations.is_empty() {
                let message = format!(
                    "the executable directive @{name} is left out: its definitions have no location in common"
                );
                self.hint(Level::Warn, "NO_EXECUTABLE_DIRECTIVE_INTERSECTION", message);
                continue;
            }
            if others
                .iter()
                .chain([&definition])
                .any(|o| executable(o).len() != locations.len())
            {
                let message = format!(
                    "@{name} applies to different locations: only the common ones are kept"
                );
                self.hint(
                    Level::Warn,
                    "INCONSISTENT_EXECUTABLE_DIRECTIVE_LOCATIONS",
                    message,
                );
            }
            if others.iter().any(|o| o.repeatable != definition.repeatable) {
                let message = format!(
                    "@{name} is repeatable in some subgraphs only: it is merged as not repeatable"
                );
                self.hint(
                    Level::Warn,
                    "INCONSISTENT_EXECUTABLE_DIRECTIVE_REPEATABLE",
                    message,
                );
            }
            let mut merged = (**definition).clone();
            merged.repeatable &= others.iter().all(|o| o.repeatable);
            merged.locations = locations;
            // As for other inputs: the common arguments, each with the strictest type.
            merged.arguments.retain_mut(|argument| {
                let theirs: Vec<_> = others
                    .iter()
                    .filter_map(|o| o.arguments.iter().find(|a| a.name == argument.name))
                    .collect();
                let mut ty = (*argument.ty).clone();
                for other in &theirs {
                    match strictest(&ty, &other.ty) {
                        Some(stricter) => ty = stricter,
                        None => return false,
                    }
                }
                let default = theirs.iter().all(|o| o.default_value.is_some());
                let argument = argument.make_mut();
                // A default value that only some subgraphs have is used for all.
                if !default {
                    let known = theirs.iter().find_map(|o| o.default_value.clone());
                    argument.default_value = argument.default_value.take().or(known);
                }
                argument.ty = Node::new(ty);
                theirs.len() == others.len()
            });
            schema
                .directive_definitions
                .insert(name.clone(), Node::new(merged));
        }
    }
}

fn executable(definition: &DirectiveDefinition) -> Vec<DirectiveLocation> {
    let locations = definition.locations.iter();
    locations.filter(|l| is_executable(l)).copied().collect()
}
