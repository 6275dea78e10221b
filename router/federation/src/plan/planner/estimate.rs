//! Estimates distances in fetches from the schema alone, where nothing is selected
//! yet. They are used only for ranking.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use apollo_compiler::Name;
use apollo_compiler::ast;
use apollo_compiler::collections::HashMap;

use super::{Planner, selected_by};
use crate::operation::{Item, Selections};
use crate::supergraph::SubgraphId;

/// By type and subgraph: the number of entity fetches to each other subgraph.
pub(super) type Hops = RefCell<HashMap<(Name, SubgraphId), Rc<BTreeMap<SubgraphId, usize>>>>;

/// How many changes of subgraph an estimate looks ahead.
const MAX_SUBGRAPH_CHANGES: usize = 3;

impl Planner<'_> {
    /// How many fetches after the one that has an object its selected fields are known.
    pub(super) fn nested_depth(
        &self,
        id: SubgraphId,
        ty: &Name,
        set: &[ast::Selection],
    ) -> Option<usize> {
        let mut deepest = 0;
        for selection in set {
            let depth = match selection {
                ast::Selection::Field(field) if field.name == "__typename" => Some(0),
                ast::Selection::Field(field) => {
                    let inner = self.graph.field_type(ty, &field.name)?;
                    let one = if self.graph.resolves_alone(id, ty, &field.name, self.labels) {
                        self.nested_depth(id, inner, &field.selection_set)
                    } else {
                        self.hops(ty, id)
                            .iter()
                            .filter(|(other, _)| {
                                self.graph
                                    .field_of(**other, ty, &field.name)
                                    .is_some_and(|join| join.resolves(self.labels))
                            })
                            .filter_map(|(other, hops)| {
                                let below = self.nested_depth(*other, inner, &field.selection_set);
                                Some(hops + below?)
                            })
                            .min()
                    };
                    one.or_else(|| self.joint_depth(ty, field, &self.hops(ty, id)))
                }
                ast::Selection::InlineFragment(inline) => {
                    let ty = inline.type_condition.as_ref().unwrap_or(ty);
                    self.nested_depth(id, ty, &inline.selection_set)
                }
                ast::Selection::FragmentSpread(_) => None,
            };
            deepest = deepest.max(depth?);
        }
        Some(deepest)
    }

    /// The same for a field of which each of several subgraphs, given with their distances,
    /// resolves a part: a value type may be split between them.
    pub(super) fn joint_depth(
        &self,
        ty: &Name,
        field: &ast::Field,
        from: &BTreeMap<SubgraphId, usize>,
    ) -> Option<usize> {
        if field.selection_set.is_empty() {
            return None;
        }
        let inner = self.graph.field_type(ty, &field.name)?;
        let having: BTreeMap<SubgraphId, usize> = from
            .iter()
            .filter(|(id, _)| {
                self.graph
                    .resolves_alone(**id, ty, &field.name, self.labels)
            })
            .map(|(id, depth)| (*id, *depth))
            .collect();
        let mut deepest = 0;
        for selection in &field.selection_set {
            let part = std::slice::from_ref(selection);
            let nearest = having
                .iter()
                .filter_map(|(id, depth)| Some(depth + self.nested_depth(*id, inner, part)?))
                .min();
            let field = selection.as_field();
            let depth = nearest.or_else(|| self.joint_depth(inner, field?, &having));
            deepest = deepest.max(depth?);
        }
        Some(deepest)
    }

    /// The number of entity fetches by keys from a subgraph that has an object of `ty` to
    /// every other subgraph.
    fn hops(&self, ty: &Name, from: SubgraphId) -> Rc<BTreeMap<SubgraphId, usize>> {
        let known = (ty.clone(), from);
        if let Some(hops) = self.hops.borrow().get(&known) {
            return hops.clone();
        }
        let mut hops = BTreeMap::from([(from, 0)]);
        // Keys may refer to each other: a recursive call finds this partial result.
        self.hops
            .borrow_mut()
            .insert(known.clone(), Rc::new(hops.clone()));
        loop {
            let mut added = Vec::new();
            for id in self.graph.ids() {
                if hops.contains_key(&id) {
                    continue;
                }
                let nearest = self
                    .graph
                    .keys(id, ty)
                    .iter()
                    .filter(|key| key.resolvable)
                    .filter_map(|key| self.key_hops(ty, &key.fields, &hops))
                    .min();
                if let Some(depth) = nearest {
                    added.push((id, depth + 1));
                }
            }
            if added.is_empty() {
                break;
            }
            let nearest = added.iter().map(|(_, depth)| *depth).min();
            hops.extend(
                added
                    .into_iter()
                    .filter(|(_, depth)| Some(*depth) == nearest),
            );
        }
        let hops = Rc::new(hops);
        self.hops.borrow_mut().insert(known, hops.clone());
        hops
    }

    fn key_hops(
        &self,
        ty: &Name,
        key: &[ast::Selection],
        hops: &BTreeMap<SubgraphId, usize>,
    ) -> Option<usize> {
        let mut deepest = 0;
        for selection in key {
            let one = std::slice::from_ref(selection);
            let field = selection.as_field();
            if field.is_some_and(|field| field.name == "__typename") {
                continue;
            }
            let nearest = hops
                .iter()
                .filter(|(id, _)| {
                    field.is_none_or(|field| {
                        self.graph
                            .resolves_alone(**id, ty, &field.name, self.labels)
                    })
                })
                .filter_map(|(id, depth)| Some(depth + self.nested_depth(*id, ty, one)?))
                .min()?;
            deepest = deepest.max(nearest);
        }
        Some(deepest)
    }

    /// What a subgraph that has an object of `ty` cannot resolve of a selection by itself:
    /// how many more consecutive fetches it takes, and for how many fields. It looks only
    /// a few changes of subgraph ahead, as it only ranks.
    pub(super) fn estimate_missing(
        &self,
        id: SubgraphId,
        ty: &Name,
        selections: &Selections,
        provided: &[ast::Selection],
    ) -> (usize, usize) {
        self.estimate_missing_within(id, ty, selections, provided, MAX_SUBGRAPH_CHANGES)
    }

    fn estimate_missing_within(
        &self,
        id: SubgraphId,
        ty: &Name,
        selections: &Selections,
        provided: &[ast::Selection],
        changes: usize,
    ) -> (usize, usize) {
        let (mut depth, mut count) = (0, 0);
        for item in &selections.0 {
            let (below, lacking) = match item {
                Item::Field(field) if field.name == "__typename" => (0, 0),
                Item::Field(field) => {
                    let given = selected_by(provided, &field.name);
                    let join = self.graph.field_of(id, ty, &field.name);
                    if given.is_some() || join.is_some_and(|join| join.resolves_alone(self.labels))
                    {
                        let mut below = given.unwrap_or_default().to_vec();
                        below.extend(join.and_then(|j| j.provides.clone()).unwrap_or_default());
                        self.estimate_missing_within(
                            id,
                            &field.ty,
                            &field.selections,
                            &below,
                            changes,
                        )
                    } else {
                        let hops = self.hops(ty, id);
                        let elsewhere = hops
                            .iter()
                            .filter_map(|(other, hops)| {
                                let join = self.graph.field_of(*other, ty, &field.name)?;
                                if !join.resolves(self.labels) {
                                    return None;
                                }
                                // `@requires` or a context takes a fetch of its own.
                                let waits = usize::from(join.has_requirements());
                                let (below, _) = match changes.checked_sub(1) {
                                    Some(left) => self.estimate_missing_within(
                                        *other,
                                        &field.ty,
                                        &field.selections,
                                        &[],
                                        left,
                                    ),
                                    None => (0, 0),
                                };
                                Some(hops + waits + below)
                            })
                            .min();
                        // No key leads there; perhaps an ancestor does, which is not estimated.
                        (elsewhere.unwrap_or(0), 1)
                    }
                }
                Item::Fragment(condition, inner) => {
                    let known = self
                        .graph
                        .possible_types(condition)
                        .iter()
                        .any(|possible| self.graph.local_type_name(id, possible).is_some());
                    if known {
                        self.estimate_missing_within(id, condition, inner, provided, changes)
                    } else {
                        (0, 1)
                    }
                }
            };
            // Fetches of one level run concurrently: the longest chain counts, not the sum.
            depth = depth.max(below);
            count += lacking;
        }
        (depth, count)
    }
}
