//! The access demands of the graph's fields and types.

use std::collections::BTreeSet;

use apollo_compiler::Name;
use apollo_compiler::ast::Selection;

use super::Supergraph;
use crate::access::{Demand, DemandId};

impl Supergraph {
    /// All demands of fields and types, by their ids.
    pub fn demands(&self) -> &[Demand] {
        &self.access.table
    }

    /// The demands of a field and of the type it returns.
    pub(crate) fn demands_of(&self, ty: &Name, field: &Name) -> BTreeSet<DemandId> {
        if self.access.table.is_empty() {
            return BTreeSet::new();
        }
        let own = self
            .access
            .demands_on_field(ty, self.possible_types(ty), field);
        let answers = self.field_type(ty, field);
        own.chain(answers.into_iter().flat_map(|ty| self.demands_of_type(ty)))
            .collect()
    }

    /// The demands that a client meets if it may see a field; for an interface, those of
    /// each of its objects.
    pub(crate) fn met_by(&self, ty: &Name, field: &Name) -> Vec<Vec<&Demand>> {
        let by = |object: &Name| {
            let own = self.access.demands_on_field(object, &[], field);
            let types = self.demands_of_type(object);
            own.chain(types)
                .filter_map(|id| self.access.table.get(id as usize))
                .collect()
        };
        self.possible_types(ty).iter().map(by).collect()
    }

    pub(crate) fn demands_of_type<'a>(
        &'a self,
        ty: &'a Name,
    ) -> impl Iterator<Item = DemandId> + 'a {
        self.access
            .demands_on_type(&self.schema, ty, self.possible_types(ty))
    }

    /// Adds to each field the demands of the fields that it reads, transitively.
    pub(super) fn add_required_demands(&mut self) {
        loop {
            let mut more = false;
            for ((ty, field), demands) in self.required_demands() {
                let objects = self.possible_types(&ty).to_vec();
                for ty in objects.into_iter().chain([ty]) {
                    more |= self.access.add((ty, field.clone()), demands.clone());
                }
            }
            if !more {
                return;
            }
        }
    }

    /// The demands of what each field with `@requires` or a context reads.
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
