//! Which subgraphs can be reached at a position, how, and after how many fetches.
//!
//! The result is exact for existing instances; for objects that nothing selects yet
//! it is estimated from the schema alone ([`super::estimate`]). Estimates only rank:
//! the chosen option is then planned exactly.

use std::collections::BTreeMap;

use apollo_compiler::Name;
use apollo_compiler::ast;
use apollo_compiler::executable::OperationType;

use super::{Instance, Parent, Planner, PositionId, selected_by};
use crate::field_set::FieldSet;
use crate::plan::PlanError;
use crate::supergraph::{FieldJoin, SubgraphId};

/// How a subgraph can be reached at a position.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// The depth of the fetch that gets there.
    pub depth: usize,
    /// How many fetches would be added.
    pub fetches: usize,
    strategy: ResolutionStrategy,
}

#[derive(Debug, Clone)]
enum ResolutionStrategy {
    Existing(usize),
    /// By a new fetch from the root type.
    Root,
    /// By reaching the parent, and selecting from there.
    Parent,
    Key(FieldSet),
    /// By the parent's field, in an entity fetch with what the field requires.
    Requirements,
}

pub(super) type ReachMap = BTreeMap<SubgraphId, Reach>;

impl Planner<'_> {
    pub(super) fn reach(&self, at: PositionId) -> ReachMap {
        let position = &self.positions[at];
        let mut found = ReachMap::new();
        for (index, instance) in position.instances.iter().enumerate() {
            let depth = self.groups[instance.group].depth;
            let known = found.get(&instance.subgraph);
            if known.is_none_or(|known: &Reach| depth < known.depth) {
                let reach = Reach {
                    depth,
                    fetches: 0,
                    strategy: ResolutionStrategy::Existing(index),
                };
                found.insert(instance.subgraph, reach);
            }
        }
        self.reach_by_parent(at, &mut found);
        self.reach_by_key(at, &mut found);
        found
    }

    fn reach_by_parent(&self, at: PositionId, found: &mut ReachMap) {
        let position = &self.positions[at];
        match &position.parent {
            Parent::Root { open: true } => {
                for id in self.graph.ids() {
                    if self.graph.defines(id, &position.ty) {
                        found.entry(id).or_insert(Reach {
                            depth: 0,
                            fetches: 1,
                            strategy: ResolutionStrategy::Root,
                        });
                    }
                }
            }
            Parent::Root { open: false } => {}
            Parent::Field { of, field } => {
                for (id, reach) in self.reach(*of) {
                    if !found.contains_key(&id) && self.resolves_at(*of, id, &field.name) {
                        let strategy = ResolutionStrategy::Parent;
                        found.insert(id, Reach { strategy, ..reach });
                    }
                }
                self.reach_by_requirements(*of, &field.name, found);
                // A field that returns the query root: any subgraph can be queried from
                // there, once the field is known not to be null.
                if let (true, Some(instance)) =
                    (self.is_query(&position.ty), position.instances.first())
                {
                    for id in self
                        .graph
                        .ids()
                        .filter(|id| self.graph.defines(*id, &position.ty))
                    {
                        found.entry(id).or_insert(Reach {
                            depth: self.groups[instance.group].depth + 1,
                            fetches: 1,
                            strategy: ResolutionStrategy::Root,
                        });
                    }
                }
            }
            Parent::Narrow { of } => {
                for (id, reach) in self.reach(*of) {
                    let wider = self.type_name_in(*of, id);
                    if !found.contains_key(&id)
                        && wider.is_some_and(|wider| self.narrowed_type(at, id, &wider).is_some())
                    {
                        let strategy = ResolutionStrategy::Parent;
                        found.insert(id, Reach { strategy, ..reach });
                    }
                }
            }
        }
    }

    /// By a shared field of the parent that a subgraph resolves with values from other
    /// subgraphs.
    fn reach_by_requirements(&self, of: PositionId, field: &Name, found: &mut ReachMap) {
        let ty = &self.positions[of].ty;
        let wanting: Vec<(SubgraphId, &FieldJoin)> = self
            .graph
            .ids()
            .filter(|id| !found.contains_key(id))
            .filter_map(|id| Some((id, self.graph.field_of(id, ty, field)?)))
            .filter(|(_, join)| join.resolves(self.labels) && join.has_requirements())
            .collect();
        if wanting.is_empty() || self.graph.is_abstract(ty) {
            return;
        }
        let reach = self.reach(of);
        for (id, join) in wanting {
            if let Some(depth) = self.requirements_depth(of, ty, id, join, &reach) {
                found.insert(
                    id,
                    Reach {
                        depth: depth + 1,
                        fetches: 1,
                        strategy: ResolutionStrategy::Requirements,
                    },
                );
            }
        }
    }

    /// The depth at which all that a field requires is known, and a key to enter the
    /// subgraph; `None` if that is impossible.
    pub(super) fn requirements_depth(
        &self,
        at: PositionId,
        ty: &Name,
        id: SubgraphId,
        join: &FieldJoin,
        reach: &ReachMap,
    ) -> Option<usize> {
        let key = self
            .graph
            .keys(id, ty)
            .iter()
            .filter(|key| key.resolvable)
            .filter_map(|key| self.set_depth(at, ty, &key.fields, reach))
            .min()?;
        // A set of unknown cost is tried last.
        let set = join.requires.as_deref().unwrap_or_default();
        let waits = self.set_depth(at, ty, set, reach);
        let mut deepest = key.max(waits.unwrap_or(super::UNKNOWN_DEPTH));
        for argument in &join.contexts {
            deepest = deepest.max(self.context_depth(at, argument)?);
        }
        Some(deepest)
    }

    fn is_query(&self, ty: &Name) -> bool {
        let root = &self.graph.schema.schema_definition.query;
        root.as_ref().is_some_and(|root| root.name == *ty)
    }

    /// Whether a subgraph that is reached at a position resolves a field there.
    fn resolves_at(&self, at: PositionId, id: SubgraphId, field: &Name) -> bool {
        let ty = &self.positions[at].ty;
        if self.graph.is_abstract(ty) {
            self.type_name_in(at, id)
                .is_some_and(|name| self.is_direct(at, id, &name, field))
        } else {
            self.graph.resolves_alone(id, ty, field, self.labels)
        }
    }

    /// The type name of a position in a subgraph, if that is reached there.
    fn type_name_in(&self, at: PositionId, id: SubgraphId) -> Option<Name> {
        let position = &self.positions[at];
        if let Some(instance) = position.instances.iter().find(|i| i.subgraph == id) {
            return Some(instance.ty.clone());
        }
        match &position.parent {
            Parent::Field { of, field } => {
                let ty = &self.positions[*of].ty;
                let answers = self
                    .graph
                    .local_type_name(id, ty)
                    .and_then(|name| self.graph.field_type_in(id, name, &field.name));
                match answers {
                    Some(ty) => Some(ty.inner_named_type().clone()),
                    None => self.graph.local_type_name(id, &position.ty).cloned(),
                }
            }
            _ => self.graph.local_type_name(id, &position.ty).cloned(),
        }
    }

    fn reach_by_key(&self, at: PositionId, found: &mut ReachMap) {
        let ty = &self.positions[at].ty;
        loop {
            let mut better: Vec<(SubgraphId, Reach)> = Vec::new();
            for id in self.graph.ids() {
                if self.entering.contains(&(at, id)) {
                    continue;
                }
                let cheapest = self
                    .graph
                    .keys(id, ty)
                    .iter()
                    .filter(|key| key.resolvable)
                    .filter_map(|key| Some((self.set_depth(at, ty, &key.fields, found)? + 1, key)))
                    .min_by_key(|(depth, key)| (*depth, key.fields.len()));
                if let Some((depth, key)) = cheapest
                    && found
                        .get(&id)
                        .is_none_or(|known| depth < known.depth && known.fetches > 0)
                {
                    let reach = Reach {
                        depth,
                        fetches: 1,
                        strategy: ResolutionStrategy::Key(key.fields.clone()),
                    };
                    better.push((id, reach));
                }
            }
            if better.is_empty() {
                return;
            }
            // Only the nearest are final; others may be reached earlier through them.
            let nearest = better.iter().map(|(_, reach)| reach.depth).min();
            for (id, reach) in better {
                if Some(reach.depth) == nearest {
                    found.insert(id, reach);
                }
            }
        }
    }

    /// The depth at which a field set is known at a position, given the reachable
    /// subgraphs; `None` if it cannot be resolved.
    pub(super) fn set_depth(
        &self,
        at: PositionId,
        ty: &Name,
        set: &[ast::Selection],
        found: &ReachMap,
    ) -> Option<usize> {
        let mut deepest = 0;
        for selection in set {
            let depth = match selection {
                ast::Selection::Field(field) if field.name == "__typename" => Some(0),
                ast::Selection::Field(field) => self.field_depth(at, ty, field, found),
                ast::Selection::InlineFragment(inline) => {
                    let ty = inline.type_condition.as_ref().unwrap_or(ty);
                    self.set_depth(at, ty, &inline.selection_set, found)
                }
                ast::Selection::FragmentSpread(_) => None,
            };
            deepest = deepest.max(depth?);
        }
        Some(deepest)
    }

    fn field_depth(
        &self,
        at: PositionId,
        ty: &Name,
        field: &ast::Field,
        found: &ReachMap,
    ) -> Option<usize> {
        let inner = self.graph.field_type(ty, &field.name)?;
        let provided = self.positions[at].instances.iter().filter_map(|instance| {
            selected_by(&instance.provided, &field.name)
                .filter(|given| covers(given, &field.selection_set))
                .map(|_| self.groups[instance.group].depth)
        });
        let had = found.iter().filter_map(|(id, reach)| {
            let join = self.graph.field_of(*id, ty, &field.name)?;
            if !join.resolves(self.labels) {
                return None;
            }
            // An approximation, which is enough for ranking.
            let waits = usize::from(join.has_requirements());
            Some(reach.depth + waits + self.nested_depth(*id, inner, &field.selection_set)?)
        });
        let slot = self
            .slots
            .known(self.graph, ty, &field.name, &field.arguments)
            .and_then(|slot| self.resolution(at, &slot))
            .filter(|resolved| resolved.child.is_none())
            .map(|resolved| self.groups[resolved.group].depth);
        provided.chain(had).chain(slot).min().or_else(|| {
            let depths = found.iter().map(|(id, reach)| (*id, reach.depth)).collect();
            self.joint_depth(ty, field, &depths)
        })
    }

    /// Makes an instance at a position in a subgraph, if there is none yet.
    pub(super) fn obtain(&mut self, at: PositionId, to: SubgraphId) -> Result<Instance, PlanError> {
        let ty = self.positions[at].ty.clone();
        let Some(reach) = self.reach(at).remove(&to) else {
            return Err(self.unresolvable(at, &ty, &apollo_compiler::name!("__typename")));
        };
        match reach.strategy {
            ResolutionStrategy::Existing(index) => Ok(self.positions[at].instances[index].clone()),
            ResolutionStrategy::Root => {
                let before = match self.positions[at].parent {
                    Parent::Root { .. } => None,
                    _ => self.positions[at].instances.first().map(|i| i.group),
                };
                let instance = self.add_root_group(to, &ty, before.into_iter().collect());
                let group = &mut self.groups[instance.group];
                group.path = self.positions[at].path.clone();
                if !group.path.is_empty() {
                    group.operation = OperationType::Query;
                }
                self.positions[at].instances.push(instance.clone());
                Ok(instance)
            }
            ResolutionStrategy::Parent => match self.positions[at].parent.clone() {
                Parent::Field { of, field } => {
                    let above = self.obtain(of, to)?;
                    let slot = field.slot.clone().unwrap_or_else(|| field.name.clone());
                    self.select_filled(of, &above, &field, slot, Vec::new())?;
                    self.last_instance(at, to)
                }
                Parent::Narrow { of } => {
                    let above = self.obtain(of, to)?;
                    match self.positions[at]
                        .instances
                        .iter()
                        .find(|i| i.node == above.node || i.subgraph == to)
                    {
                        Some(instance) => Ok(instance.clone()),
                        None => self.narrow_instance(at, &above).ok_or_else(|| {
                            self.unresolvable(at, &ty, &apollo_compiler::name!("__typename"))
                        }),
                    }
                }
                Parent::Root { .. } => Err(self.unresolvable(at, &ty, &ty)),
            },
            ResolutionStrategy::Requirements => {
                let Parent::Field { of, field } = self.positions[at].parent.clone() else {
                    return Err(self.unresolvable(at, &ty, &ty));
                };
                let slot = field.slot.clone().unwrap_or_else(|| field.name.clone());
                let (above, filled) = self.enter_with_requirements(of, to, &field.name)?;
                self.select_filled(of, &above, &field, slot, filled)?;
                self.last_instance(at, to)
            }
            ResolutionStrategy::Key(key) => self.enter(at, to, &key, None),
        }
    }

    fn last_instance(&self, at: PositionId, to: SubgraphId) -> Result<Instance, PlanError> {
        self.positions[at]
            .instances
            .iter()
            .rev()
            .find(|instance| instance.subgraph == to)
            .cloned()
            .ok_or_else(|| {
                self.unresolvable(
                    at,
                    &self.positions[at].ty,
                    &apollo_compiler::name!("__typename"),
                )
            })
    }
}

/// Whether one field set selects all that another does.
fn covers(given: &[ast::Selection], wanted: &[ast::Selection]) -> bool {
    wanted.iter().all(|selection| match selection {
        ast::Selection::Field(field) => {
            selected_by(given, &field.name).is_some_and(|inner| covers(inner, &field.selection_set))
        }
        ast::Selection::InlineFragment(inline) => covers(given, &inline.selection_set),
        ast::Selection::FragmentSpread(_) => false,
    })
}
