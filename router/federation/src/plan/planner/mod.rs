//! Chooses fetches.
//!
//! The planner walks the client's selection. A *position* is a place in the data
//! with an object of one (possibly abstract) type; an *instance* is a fetch that
//! selects from that object in one subgraph. A field is resolved at a position by
//! one of its instances or by a new one, which is made by a key, or by going back
//! to an ancestor and selecting the same path in another subgraph. While the plan
//! is built, a fetch is called a *group*.
//!
//! | module | what it does |
//! |---|---|
//! | this module | the state, and the walk over selections |
//! | [`reach`] | which subgraphs can be reached at a position, how, and at what cost |
//! | [`estimate`] | estimates of the same from the schema alone, for ranking |
//! | [`choose`] | which subgraph resolves a field |
//! | [`enter`] | entity fetches, `@requires`, and the field sets for representations |
//! | [`select`] | selecting a field, and the position below it |
//! | [`narrow`] | abstract types |
//! | [`dead_ends`] | choices from which a selection could not be completed |
//! | [`contexts`] | arguments that an ancestor fills |
//! | [`resume`] | the cursor of a resumable subscription |
//! | [`repeat`] | whether a fetch may be sent again |
//! | [`finish`] | merges fetches, orders and prints them |
//!
//! Each choice is the best locally; [`super::search`] tries the others, as the best
//! plan may need another choice. Most choices only cost: another subgraph can still be
//! reached from them. Those that cannot be left again are dead ends, and avoided.

mod choose;
mod contexts;
mod dead_ends;
mod enter;
mod estimate;
mod finish;
mod narrow;
mod reach;
mod repeat;
mod resume;
mod select;

use std::collections::BTreeSet;
use std::rc::Rc;

use apollo_compiler::Name;
use apollo_compiler::ast;
use apollo_compiler::collections::HashMap;
use apollo_compiler::collections::IndexMap;
use apollo_compiler::executable::{Operation, OperationType};

use super::selection::{Arena, NodeId};
use super::slots::Slots;
use super::{ContextValue, EntityInput, Fetch, PathStep, PlanError, Resume};
use crate::field_set::FieldSet;
use crate::operation::{Field, Item, Selections};
use crate::supergraph::{Labels, SubgraphId, Supergraph};
pub(super) use dead_ends::{DeadEnds, Stop};

type GroupId = usize;
type PositionId = usize;

/// The deepest nesting of requirements.
const MAX_REQUIRING: usize = 30;

/// The depth assumed where it is unknown: ranks after all known depths.
const UNKNOWN_DEPTH: usize = 100;

/// A fetch while the plan is built.
struct Group {
    subgraph: SubgraphId,
    root: NodeId,
    operation: OperationType,
    /// The path of the objects that it is for.
    path: Vec<PathStep>,
    /// `None` for a fetch from a root type.
    entities: Option<Entities>,
    parents: BTreeSet<GroupId>,
    /// The length of the longest chain of fetches before this one.
    depth: usize,
    /// Whether it was merged into another group.
    merged_away: bool,
}

struct Entities {
    /// Whether the objects' types are unknown when they are fetched.
    abstract_input: bool,
    /// Distinguishes fetches that wait for different `@requires`.
    requires: String,
    inputs: IndexMap<Name, EntityInput>,
    /// Context variables; then there is only one input.
    contexts: Vec<ContextValue>,
}

struct Position {
    parent: Parent,
    ty: Name,
    path: Vec<PathStep>,
    /// The object types that can occur here.
    runtime: Rc<[Name]>,
    instances: Vec<Instance>,
}

#[derive(Clone)]
enum Parent {
    /// The root; `open` if fields may be fetched from any subgraph.
    Root {
        open: bool,
    },
    Field {
        of: PositionId,
        field: Field,
    },
    /// The same objects, of a narrower type.
    Narrow {
        of: PositionId,
    },
}

#[derive(Clone)]
struct Instance {
    subgraph: SubgraphId,
    group: GroupId,
    node: NodeId,
    /// The name of the type in the subgraph.
    ty: Name,
    /// What an enclosing `@provides` makes resolvable here.
    provided: Rc<FieldSet>,
}

/// The group that resolves a field, and the position below it.
#[derive(Clone)]
struct Resolved {
    group: GroupId,
    child: Option<PositionId>,
}

/// Identifies a choice by its place in the operation.
type ChoiceKey = String;

/// A choice between several subgraphs.
#[derive(Debug, Clone)]
pub(super) struct ChoicePoint {
    pub key: ChoiceKey,
    pub others: Vec<SubgraphId>,
}

/// What a plan costs, compared in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlanCost {
    pub depth: usize,
    pub fetches: usize,
    pub selections: usize,
}

/// The result of one walk.
pub(super) struct Planned {
    pub fetches: Vec<Fetch>,
    pub resume: Option<Resume>,
    pub cost: PlanCost,
    pub choices: Vec<ChoicePoint>,
}

/// The input of a walk.
pub(super) struct Task<'a> {
    pub graph: &'a Supergraph,
    pub labels: &'a Labels,
    pub operation: &'a Operation,
    pub root: &'a Name,
    pub selections: &'a Selections,
    pub slots: &'a Slots,
}

struct Planner<'a> {
    graph: &'a Supergraph,
    labels: &'a Labels,
    slots: Slots,
    arena: Arena,
    groups: Vec<Group>,
    positions: Vec<Position>,
    resolved: HashMap<(PositionId, Name), Resolved>,
    narrowed: HashMap<(PositionId, Name), PositionId>,
    /// The groups that resolved a field, in order. What was added since a mark is what
    /// the fields planned since then depend on.
    touched: Vec<GroupId>,
    /// The type and sources of each context variable, by number.
    contexts: Vec<String>,
    /// The fields whose `@requires` is being planned, outermost first.
    requiring: Vec<(PositionId, Name)>,
    /// The entity fetches whose keys are being planned, outermost first.
    entering: Vec<(PositionId, SubgraphId)>,
    hops: estimate::Hops,
    decided: &'a HashMap<ChoiceKey, SubgraphId>,
    choices: Vec<ChoicePoint>,
    /// Known from earlier walks.
    dead_ends: &'a DeadEnds,
    /// Met in this walk.
    met: DeadEnds,
    resume: Option<Resume>,
    /// A variable that the plan itself declares, with its type.
    added_variable: Option<(Name, String)>,
    operation: OperationType,
    budget: &'a mut usize,
}

/// Plans one operation. Choices follow `decided`; all others are the local best that is
/// not a known dead end.
pub(super) fn walk(
    task: &Task<'_>,
    decided: &HashMap<ChoiceKey, SubgraphId>,
    dead_ends: &DeadEnds,
    budget: &mut usize,
) -> Result<Planned, Stop> {
    let mut planner = Planner {
        graph: task.graph,
        labels: task.labels,
        slots: task.slots.clone(),
        arena: Arena::default(),
        groups: Vec::new(),
        positions: Vec::new(),
        resolved: HashMap::default(),
        narrowed: HashMap::default(),
        touched: Vec::new(),
        contexts: Vec::new(),
        requiring: Vec::new(),
        entering: Vec::new(),
        hops: estimate::Hops::default(),
        decided,
        choices: Vec::new(),
        dead_ends,
        met: DeadEnds::default(),
        resume: None,
        added_variable: None,
        operation: task.operation.operation_type,
        budget,
    };
    let outcome = planner.plan_root(task.operation.operation_type, task.root, task.selections);
    if !planner.met.is_empty() {
        return Err(Stop::DeadEnds(planner.met));
    }
    outcome.map_err(Stop::Failed)?;
    Ok(planner.finish(task.operation))
}

impl Planner<'_> {
    fn plan_root(
        &mut self,
        kind: OperationType,
        root: &Name,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        let fields = selections.0.iter().filter_map(|item| match item {
            Item::Field(field) if !field.name.starts_with("__") && !field.denied => Some(field),
            _ => None,
        });
        if kind == OperationType::Query {
            let at = self.add_root_position(root, true);
            for field in fields {
                self.plan_field(at, field)?;
            }
            return Ok(());
        }
        // Side effects must happen in the client's order: consecutive fields of one
        // subgraph share a fetch, any other fetch waits for all before it.
        let mut last: Option<Instance> = None;
        for field in fields {
            let subgraph = self.pick_root_subgraph(root, field)?;
            let instance = match last.take() {
                Some(instance) if instance.subgraph == subgraph => instance,
                _ => self.add_root_group(subgraph, root, (0..self.groups.len()).collect()),
            };
            let at = self.add_root_position(root, false);
            self.positions[at].instances.push(instance.clone());
            last = Some(instance);
            let planned = match self.resumable(kind, root, field) {
                Some(field) => self.plan_field(at, &field),
                None => self.plan_field(at, field),
            };
            if let Err(error) = planned {
                // The next fields may meet more dead ends, all in one walk.
                self.leave_root(&field.key, subgraph, error)?;
            }
        }
        Ok(())
    }

    fn add_root_position(&mut self, root: &Name, open: bool) -> PositionId {
        self.positions.push(Position {
            parent: Parent::Root { open },
            ty: root.clone(),
            path: Vec::new(),
            runtime: Rc::from([root.clone()]),
            instances: Vec::new(),
        });
        self.positions.len() - 1
    }

    fn add_root_group(
        &mut self,
        subgraph: SubgraphId,
        root: &Name,
        parents: BTreeSet<GroupId>,
    ) -> Instance {
        let node = self.arena.add();
        let group = self.add_group(subgraph, node, self.operation, parents);
        Instance {
            subgraph,
            group,
            node,
            ty: root.clone(),
            provided: Rc::default(),
        }
    }

    fn add_group(
        &mut self,
        subgraph: SubgraphId,
        root: NodeId,
        operation: OperationType,
        parents: BTreeSet<GroupId>,
    ) -> GroupId {
        let deepest = parents.iter().map(|parent| self.groups[*parent].depth + 1);
        let depth = deepest.max().unwrap_or(0);
        self.groups.push(Group {
            subgraph,
            root,
            operation,
            path: Vec::new(),
            entities: None,
            parents,
            depth,
            merged_away: false,
        });
        self.groups.len() - 1
    }

    fn slot(&mut self, ty: &Name, field: &Field) -> Name {
        match &field.slot {
            Some(slot) => slot.clone(),
            None => self.slots.slot_of(self.graph, ty, field),
        }
    }

    fn plan_selections(
        &mut self,
        at: PositionId,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        for item in &selections.0 {
            match item {
                Item::Field(field) if field.denied => {}
                Item::Field(field) => self.plan_field(at, field)?,
                Item::Fragment(condition, inner) => self.plan_fragment(at, condition, inner)?,
            }
        }
        Ok(())
    }

    fn plan_field(&mut self, at: PositionId, field: &Field) -> Result<(), PlanError> {
        *self.budget = self.budget.checked_sub(1).ok_or(PlanError::TooLarge)?;
        let ty = self.positions[at].ty.clone();
        if field.name == "__typename" {
            // The name of an object type is known without fetching it.
            return if self.graph.is_abstract(&ty) {
                self.ensure_typed(at).map(|_| ())
            } else {
                Ok(())
            };
        }
        let slot = self.slot(&ty, field);
        if let Some(resolved) = self.resolution(at, &slot) {
            self.touched.push(resolved.group);
            let Some(child) = resolved.child else {
                return Ok(());
            };
            let planned = self.plan_selections(child, &field.selections);
            return self.or_by_type(at, field, &slot, planned);
        }
        if self.graph.is_abstract(&ty) {
            return self.plan_abstract_field(at, field, slot);
        }
        let (instance, filled) = self.choose(at, field)?;
        self.select(at, &instance, field, slot, filled)
    }

    /// How a slot was already resolved, at this position or, for a leaf, at a wider one.
    fn resolution(&self, at: PositionId, slot: &Name) -> Option<Resolved> {
        if let Some(resolved) = self.resolved.get(&(at, slot.clone())) {
            return Some(resolved.clone());
        }
        match self.positions[at].parent {
            Parent::Narrow { of } => self
                .resolution(of, slot)
                .filter(|resolved| resolved.child.is_none()),
            _ => None,
        }
    }

    fn unresolvable(&self, at: PositionId, ty: &Name, field: &Name) -> PlanError {
        let from: Vec<_> = self.positions[at]
            .instances
            .iter()
            .map(|instance| self.graph.subgraph(instance.subgraph).name.as_str())
            .collect();
        PlanError::Unresolvable {
            ty: ty.clone(),
            field: field.clone(),
            from: if from.is_empty() {
                "any root".to_owned()
            } else {
                from.join(", ")
            },
        }
    }
}

/// What a field set selects below one of its fields.
fn selected_by<'a>(fields: &'a [ast::Selection], name: &Name) -> Option<&'a [ast::Selection]> {
    fields.iter().find_map(|selection| match selection {
        ast::Selection::Field(field) if field.name == *name => Some(&*field.selection_set),
        ast::Selection::InlineFragment(inline) => selected_by(&inline.selection_set, name),
        _ => None,
    })
}
