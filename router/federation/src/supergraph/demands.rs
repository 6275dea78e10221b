//! What the graph's fields and types demand of clients.

use std::collections::BTreeSet;

use apollo_compiler::Name;
use apollo_compiler::ast::Selection;

use super::Supergraph;
use crate::access::{Demand, DemandId};

impl Supergraph {
    /// What fields and types may demand of clients, by number.
    pub fn demands(&self) -> &[Demand] {
        &self.access.table
    }

    /// The demands of a field and of what it answers.
    pub(crate) fn demands_of(&self, ty: &Name, field: &Name) -> BTreeSet<DemandId> {
        if self.access.table.is_empty() {
            return BTreeSet::new();
        }
        let own = self.access.of_field(ty, self.possible_types(ty), field);
        let answers = self.field_type(ty, field);
        own.chain(answers.into_iter().flat_map(|ty| self.demands_of_type(ty)))
            .collect()
    }

    /// What a client has met who was let see a field.
    pub(crate) fn met_by(&self, ty: &Name, field: &Name) -> Vec<&Demand> {
        let own = self.access.of_field(ty, self.possible_types(ty), field);
        own.chain(self.demands_of_type(ty))
            .filter_map(|id| self.access.table.get(id as usize))
            .collect()
    }

    pub(crate) fn demands_of_type<'a>(
        &'a self,
        ty: &'a Name,
    ) -> impl Iterator<Item = DemandId> + 'a {
        self.access
            .of_type(&self.schema, ty, self.possible_types(ty))
    }

    /// What each field with `@requires` or a context reads on a client's behalf.
    pub(crate) fn required_demands(&self) -> Vec<((Name, Name), BTreeSet<DemandId>)> {
        if self.access.table.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (ty, info) in &self.types {
            for (field, joins) in &info.fields {
                let mut demands = BTreeSet::new();
                for join in joins.values() {
                    if let Some(set) = &join.requires {
                        self.set_demands(ty, set, &mut demands);
                    }
                    for argument in &join.contexts {
                        for ty in self.contexts.get(&argument.context).into_iter().flatten() {
                            self.set_demands(ty, &argument.selection, &mut demands);
                        }
                    }
                }
                if !demands.is_empty() {
                    found.push(((ty.clone(), field.clone()), demands));
                }
            }
        }
        found
    }

    fn set_demands(&self, ty: &Name, set: &[Selection], demands: &mut BTreeSet<DemandId>) {
        demands.extend(self.demands_of_type(ty));
        for selection in set {
            match selection {
                Selection::Field(field) => {
                    demands.extend(self.demands_of(ty, &field.name));
                    if let Some(inner) = self.field_type(ty, &field.name) {
                        self.set_demands(inner, &field.selection_set, demands);
                    }
                }
                Selection::InlineFragment(inline) => {
                    let inner = inline.type_condition.as_ref().unwrap_or(ty);
                    self.set_demands(inner, &inline.selection_set, demands);
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }
}
