//! Contexts (`@context`, `@fromContext`) along a path.

use apollo_compiler::Name;

use super::{AvailableContexts, Holders, Search};
use crate::field_set;
use crate::supergraph::{ContextArgument, FieldJoin};

impl Search<'_> {
    /// Records the contexts that an object sets for its descendants; returns what was
    /// available before.
    pub(super) fn set_contexts(&self, ty: &Name, holders: &Holders) -> AvailableContexts {
        let above = self.available.borrow().clone();
        // The fields that a context selects are checked without contexts.
        if self.in_context_selection.replace(true) {
            return above;
        }
        for context in self.graph.contexts_of(ty) {
            let had = self
                .uses
                .get(context)
                .into_iter()
                .flatten()
                .filter(|set| {
                    let set = self.graph.selection_for_type(ty, set);
                    !set.is_empty() && self.can_resolve_set(ty, &set, holders, &mut Vec::new())
                })
                .map(|set| field_set::print(set))
                .collect();
            self.available.borrow_mut().insert(context.to_owned(), had);
        }
        self.in_context_selection.set(false);
        above
    }

    /// The first context that a field needs and that no ancestor provides.
    pub(super) fn missing_context<'j>(&self, join: &'j FieldJoin) -> Option<&'j str> {
        let missing = |argument: &&'j ContextArgument| {
            let available = self.available.borrow();
            let had = available.get(&argument.context);
            !had.is_some_and(|had| had.contains(&field_set::print(&argument.selection)))
        };
        let found = join.contexts.iter().find(missing);
        found.map(|argument| argument.context.as_str())
    }
}
