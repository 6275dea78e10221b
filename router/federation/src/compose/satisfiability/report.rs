//! The error for a field that cannot be resolved: a query that reaches it, and why
//! each subgraph cannot resolve it.

use apollo_compiler::Name;

use super::{Holders, Search};
use crate::error::CompositionError;
use crate::field_set;
use crate::supergraph::SubgraphId;

impl Search<'_> {
    pub(super) fn report(&mut self, ty: &Name, field: &Name, holders: &Holders) {
        if self.suppress_reports > 0 || !self.reported.insert((ty.clone(), field.clone())) {
            return;
        }
        let mut query = String::new();
        for step in self.path.iter().chain([&field.to_string()]) {
            query.push_str("{ ");
            query.push_str(step);
            query.push(' ');
        }
        query.push_str(&"}".repeat(self.path.len() + 1));
        let name = |id: &SubgraphId| self.graph.subgraph(*id).name.clone();
        let at: Vec<String> = holders.keys().map(name).collect();
        // Why each subgraph that has the field cannot resolve it here.
        let mut reasons = Vec::new();
        for id in self.graph.ids() {
            let Some(join) = self.graph.field_of(id, ty, field) else {
                continue;
            };
            let keys: Vec<String> = self
                .graph
                .keys(id, ty)
                .iter()
                .filter(|key| key.resolvable)
                .map(|key| format!("\"{}\"", field_set::print(&key.fields)))
                .collect();
            let reason = if !join.resolves(&self.labels) {
                "only mentions it".to_owned()
            } else if let Some(context) = self.missing_context(join) {
                format!(
                    "needs the context \"{context}\", which no ancestor on this path can provide"
                )
            } else if let Some(requires) = join
                .requires
                .as_ref()
                // Not where the subgraph has no key to enter by: then that is the reason.
                .filter(|_| holders.contains_key(&id) || !keys.is_empty())
            {
                format!(
                    "requires \"{}\", which cannot all be resolved here together with a key to return by",
                    field_set::print(requires)
                )
            } else if keys.is_empty() {
                format!("has no resolvable @key of \"{ty}\" to enter by")
            } else {
                format!(
                    "is entered by {}, which no reachable subgraph can provide",
                    keys.join(" or ")
                )
            };
            reasons.push(format!("{} {reason}", name(&id)));
        }
        if field == "__typename" {
            reasons.push(format!(
                "no subgraph that can be entered by a key tells which type of \"{ty}\" it is"
            ));
        }
        self.found.push(CompositionError::new(
            "SATISFIABILITY_ERROR",
            format!(
                "the query {query} cannot be answered: \"{ty}.{field}\" cannot be resolved from {}; {}",
                if at.is_empty() {
                    "any root".to_owned()
                } else {
                    at.join(", ")
                },
                reasons.join("; ")
            ),
        ));
    }
}
