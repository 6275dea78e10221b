//! Chooses the subgraph that resolves a field.

use apollo_compiler::ast::Argument;
use apollo_compiler::{Name, Node};

use super::{ChoicePoint, Instance, Planner, PositionId, selected_by};
use crate::field_set;
use crate::operation::Field;
use crate::plan::PlanError;
use crate::supergraph::SubgraphId;

struct Candidate {
    subgraph: SubgraphId,
    kind: CandidateKind,
    /// The depth of the last fetch it leads to, the fetches it adds, and the fields
    /// that other subgraphs must resolve.
    cost: (usize, usize, usize),
}

enum CandidateKind {
    /// An existing instance.
    Existing(Instance),
    /// An instance that can be made.
    NewInstance,
    /// An entity fetch with the values that `@requires` and contexts select.
    Requirements,
}

impl Planner<'_> {
    /// The subgraph for a root field with side effects: the one that leaves the least to
    /// fetch elsewhere, of those from which the rest can be fetched.
    pub(super) fn pick_root_subgraph(
        &self,
        root: &Name,
        field: &Field,
    ) -> Result<SubgraphId, PlanError> {
        self.graph
            .ids()
            .filter(|id| {
                self.graph
                    .resolves_alone(*id, root, &field.name, self.labels)
                    && !self.is_dead_root(&field.key, *id)
            })
            .min_by_key(|id| self.estimate_missing(*id, &field.ty, &field.selections, &[]))
            .ok_or_else(|| PlanError::Unresolvable {
                ty: root.clone(),
                field: field.name.clone(),
                from: "any root".to_owned(),
            })
    }

    /// The instance that resolves a field of an object type, made if necessary, and the
    /// arguments that it takes besides the client's.
    pub(super) fn choose(
        &mut self,
        at: PositionId,
        field: &Field,
    ) -> Result<(Instance, Vec<Node<Argument>>), PlanError> {
        let ty = self.positions[at].ty.clone();
        // An instance that resolves the field and everything below it is always best.
        let existing = self.existing_candidates(at, field);
        if let Some(candidate) = existing.iter().find(|candidate| candidate.cost.2 == 0)
            && let CandidateKind::Existing(instance) = &candidate.kind
        {
            return Ok((instance.clone(), Vec::new()));
        }
        let mut candidates = existing;
        self.add_other_candidates(at, &ty, field, &mut candidates);
        candidates.sort_by_key(|candidate| (candidate.cost, candidate.subgraph));
        if candidates.is_empty() {
            return Err(self.unresolvable(at, &ty, &field.name));
        }
        let chosen = self.decide(at, field, &candidates);
        let candidate = candidates.swap_remove(chosen);
        match candidate.kind {
            CandidateKind::Existing(instance) => Ok((instance, Vec::new())),
            CandidateKind::NewInstance => Ok((self.obtain(at, candidate.subgraph)?, Vec::new())),
            CandidateKind::Requirements => {
                self.enter_with_requirements(at, candidate.subgraph, &field.name)
            }
        }
    }

    /// The index of the best candidate, or of the one that the search decided on; the
    /// alternatives are recorded for the search.
    fn decide(&mut self, at: PositionId, field: &Field, candidates: &[Candidate]) -> usize {
        if candidates.len() == 1 {
            return 0;
        }
        let position = &self.positions[at];
        let key = format!("{:?} {} {}", position.path, position.ty, field.key);
        let decided = self
            .decided
            .get(&key)
            .and_then(|to| candidates.iter().position(|c| c.subgraph == *to));
        let chosen = decided.unwrap_or(0);
        self.choices.push(ChoicePoint {
            key,
            others: candidates
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != chosen)
                .map(|(_, candidate)| candidate.subgraph)
                .collect(),
        });
        chosen
    }

    fn existing_candidates(&self, at: PositionId, field: &Field) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for instance in &self.positions[at].instances {
            let Some(join) = self
                .graph
                .field(instance.subgraph, &instance.ty, &field.name)
            else {
                continue;
            };
            let given = selected_by(&instance.provided, &field.name);
            let plain = join.resolves_alone(self.labels);
            if !plain && given.is_none() {
                continue;
            }
            let mut provided = given.unwrap_or_default().to_vec();
            provided.extend(join.provides.clone().unwrap_or_default());
            let (below, lacking) =
                self.estimate_missing(instance.subgraph, &field.ty, &field.selections, &provided);
            let cost = (self.groups[instance.group].depth + below, lacking, lacking);
            found.push(Candidate {
                subgraph: instance.subgraph,
                kind: CandidateKind::Existing(instance.clone()),
                cost,
            });
        }
        found.sort_by_key(|candidate| candidate.cost);
        let mut seen = Vec::new();
        found.retain(|candidate| {
            let new = !seen.contains(&candidate.subgraph);
            seen.push(candidate.subgraph);
            new
        });
        found
    }

    fn add_other_candidates(
        &self,
        at: PositionId,
        ty: &Name,
        field: &Field,
        candidates: &mut Vec<Candidate>,
    ) {
        let reach = self.reach(at);
        for id in self.graph.ids() {
            if candidates.iter().any(|candidate| candidate.subgraph == id) {
                continue;
            }
            let Some(join) = self.graph.field_of(id, ty, &field.name) else {
                continue;
            };
            if !join.resolves(self.labels) {
                continue;
            }
            let provides = join.provides.clone().unwrap_or_default();
            let (below, lacking) =
                self.estimate_missing(id, &field.ty, &field.selections, &provides);
            match join.has_requirements() {
                false => {
                    if let Some(reach) = reach.get(&id) {
                        candidates.push(Candidate {
                            subgraph: id,
                            kind: CandidateKind::NewInstance,
                            cost: (reach.depth + below, reach.fetches + lacking, lacking),
                        });
                    }
                }
                true => {
                    if let Some(depth) = self.requirements_depth(at, ty, id, join, &reach) {
                        candidates.push(Candidate {
                            subgraph: id,
                            kind: CandidateKind::Requirements,
                            cost: (depth + 1 + below, 1 + lacking, lacking),
                        });
                    }
                }
            }
        }
    }

    /// The entity fetch for a field with `@requires` or contexts, and the arguments that
    /// contexts fill.
    pub(super) fn enter_with_requirements(
        &mut self,
        at: PositionId,
        to: SubgraphId,
        field: &Name,
    ) -> Result<(Instance, Vec<Node<Argument>>), PlanError> {
        let ty = self.positions[at].ty.clone();
        let join = self.graph.field_of(to, &ty, field);
        let join = join.ok_or_else(|| self.unresolvable(at, &ty, field))?;
        let set = join.requires.as_deref().unwrap_or_default();
        let contexts = &join.contexts;
        let this = (at, field.clone());
        if self.requiring.contains(&this) || self.requiring.len() > super::MAX_REQUIRING {
            let field = field.clone();
            return Err(PlanError::RequiresCycle { ty, field });
        }
        self.requiring.push(this);
        let mark = self.touched.len();
        let (added, required) = self.plan_field_set(&ty, set);
        let planned = self.plan_selections(at, &added);
        let filled = planned.and_then(|()| self.fill_contexts(at, contexts));
        self.requiring.pop();
        let filled = filled?;
        let waits = self.touched[mark..].iter().copied().collect();
        let reach = self.reach(at);
        let key = self
            .graph
            .keys(to, &ty)
            .iter()
            .filter(|key| key.resolvable)
            .filter_map(|key| Some((self.set_depth(at, &ty, &key.fields, &reach)?, key)))
            .min_by_key(|(depth, key)| (*depth, key.fields.len()))
            .map(|(_, key)| key.fields.clone())
            .ok_or_else(|| self.unresolvable(at, &ty, field))?;
        let mut id = field_set::print(set);
        if !filled.values.is_empty() {
            // Objects of other types have other context values, or none.
            id = format!("{ty} {id} {:?}", filled.values);
        }
        let instance = self.enter(
            at,
            to,
            &key,
            Some(super::enter::Requires {
                fields: required,
                waits,
                id,
                contexts: filled.values,
            }),
        )?;
        Ok((instance, filled.arguments))
    }
}
