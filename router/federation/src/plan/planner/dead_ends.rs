//! Choices from which a selection could not be completed.
//!
//! From most places every subgraph can be reached again: by a key, or through a parent.
//! Two kinds of choices cannot be left. A root field with side effects is called once, in
//! one subgraph. And a field that is selected on an abstract type is selected in the
//! subgraphs that have that type, while keys belong to its object types. The satisfiability
//! check tries each start of the former, and follows the latter for each object type; so a
//! walk that meets a dead end notes it, and the next walk avoids it.

use std::collections::BTreeSet;

use apollo_compiler::Name;

use super::{ChoiceKey, Planner, PositionId};
use crate::operation::Field;
use crate::plan::PlanError;
use crate::supergraph::SubgraphId;

/// The choices to avoid.
#[derive(Debug, Default)]
pub(in crate::plan) struct DeadEnds {
    /// Fields of abstract types that must be planned for each object type.
    by_type: BTreeSet<ChoiceKey>,
    /// Root fields with side effects, by response key, and the subgraph to avoid.
    roots: BTreeSet<(Name, SubgraphId)>,
    /// The first error that one of them led to.
    error: Option<PlanError>,
}

/// Why a walk made no plan.
#[derive(Debug)]
pub(in crate::plan) enum Stop {
    Failed(PlanError),
    /// It met these, and what it planned until then may have parts that serve nothing.
    DeadEnds(DeadEnds),
}

impl DeadEnds {
    pub(super) fn is_empty(&self) -> bool {
        self.by_type.is_empty() && self.roots.is_empty()
    }

    /// Adds what a walk met; false if nothing of it is new.
    pub fn extend(&mut self, met: Self) -> bool {
        let before = self.by_type.len() + self.roots.len();
        self.by_type.extend(met.by_type);
        self.roots.extend(met.roots);
        self.error = self.error.take().or(met.error);
        self.by_type.len() + self.roots.len() > before
    }

    /// The error to report if no plan was found.
    pub fn into_error(self) -> Option<PlanError> {
        self.error
    }
}

impl Planner<'_> {
    /// Notes that a root field cannot be completed from a subgraph.
    pub(super) fn leave_root(
        &mut self,
        key: &Name,
        subgraph: SubgraphId,
        error: PlanError,
    ) -> Result<(), PlanError> {
        if !leads_nowhere(&error) {
            return Err(error);
        }
        self.met.roots.insert((key.clone(), subgraph));
        self.met.error.get_or_insert(error);
        Ok(())
    }

    pub(super) fn is_dead_root(&self, key: &Name, subgraph: SubgraphId) -> bool {
        let roots = &self.dead_ends.roots;
        !roots.is_empty() && roots.contains(&(key.clone(), subgraph))
    }

    /// Whether a field of an abstract type must be planned for each object type.
    pub(super) fn must_go_by_type(&self, at: PositionId, slot: &Name) -> bool {
        let known = &self.dead_ends.by_type;
        !known.is_empty() && known.contains(&self.by_type_key(at, slot))
    }

    fn by_type_key(&self, at: PositionId, slot: &Name) -> ChoiceKey {
        let position = &self.positions[at];
        format!("{:?} {} {slot}", position.path, position.ty)
    }

    /// The outcome of planning a field at once for all objects of a position; if that led
    /// nowhere and their type is abstract, of planning it for each object type.
    pub(super) fn or_by_type(
        &mut self,
        at: PositionId,
        field: &Field,
        slot: &Name,
        outcome: Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        match outcome {
            Err(error)
                if leads_nowhere(&error) && self.graph.is_abstract(&self.positions[at].ty) =>
            {
                self.met.by_type.insert(self.by_type_key(at, slot));
                self.met.error.get_or_insert(error);
                self.plan_by_type(at, field)
            }
            other => other,
        }
    }
}

/// Whether another choice may avoid an error.
fn leads_nowhere(error: &PlanError) -> bool {
    matches!(
        error,
        PlanError::Unresolvable { .. } | PlanError::RequiresCycle { .. }
    )
}
