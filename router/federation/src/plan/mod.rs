//! Query plans: the fetches for an operation, their dependencies, and the shape of
//! the response.
//!
//! [`planner`] chooses the fetches and [`search`] tries alternative choices;
//! [`selection`] holds and prints what each of them selects, under the keys of
//! [`slots`]; [`shape`] compiles the client's selection for result coercion;
//! [`contexts`] holds the variables that ancestors fill; [`display`] prints a plan
//! for people and snapshot tests.
//!
//! A plan is a graph of dependencies, not a tree of steps: a fetch may start as
//! soon as the fetches that it depends on are done.

mod contexts;
mod display;
mod planner;
mod search;
mod selection;
pub mod shape;
mod slots;

use std::sync::Arc;

use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name};

use crate::decisions::BUDGET;
pub use crate::decisions::{Decisions, PlanError};
use crate::operation::{self, Denied};
use crate::supergraph::{SubgraphId, Supergraph};
pub use contexts::{ContextSource, ContextValue, Contexts};
pub use shape::{FieldShape, FieldSource, Leaf, ObjectShape, ValueShape};
use slots::Slots;
pub use slots::{Slot, SlotTable};

/// The variable that holds an entity fetch's representations.
pub const REPRESENTATIONS: &str = "_stoa_representations";

/// A plan for one operation under one set of condition values.
#[derive(Debug)]
pub struct QueryPlan {
    pub operation: OperationType,
    /// Ordered so that each fetch comes after those it depends on. In a subscription
    /// the first one is the source stream, and the others run once for each event.
    pub fetches: Vec<Fetch>,
    pub shape: ObjectShape,
    /// Whether the operation selects `__schema` or `__type`.
    pub introspects: bool,
    /// For a `@resumable` subscription: how it resumes.
    pub resume: Option<Resume>,
    /// The keys of all data that the fetches return.
    pub slots: SlotTable,
    /// The fields that the client selected but may not see.
    pub denied: Vec<Denied>,
}

/// Where a resumable subscription returns its cursor, and where it takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The root field's slot, then the cursor's within it.
    pub cursor: [Slot; 2],
    /// The variable of the first fetch that takes a cursor when the client
    /// gave none; absent where the client wrote a literal.
    pub variable: Option<Name>,
}

/// One request to one subgraph.
#[derive(Debug)]
pub struct Fetch {
    pub subgraph: SubgraphId,
    /// Indexes of the fetches whose data this one needs.
    pub depends_on: Vec<usize>,
    /// The path of the objects that the response merges into.
    pub path: Vec<PathStep>,
    pub kind: FetchKind,
    /// Whether an entity that occurs at several places must be copied for each: at a
    /// fetch below, their context values may differ.
    pub copy_per_target: bool,
    /// Whether it may be sent again: a query, which changes nothing, or a mutation whose
    /// fields are all `@idempotent`.
    pub is_repeatable: bool,
    /// The operation's text, fixed when the plan is made.
    pub text: Arc<str>,
    /// The JSON request up to its variables; after them only `}` follows.
    pub prefix: Arc<str>,
    pub operation_name: Option<Arc<str>>,
    /// The client's variables that the text uses.
    pub variables: Vec<Name>,
}

#[derive(Debug)]
pub enum FetchKind {
    /// Selects from a root type.
    Root {
        /// The root fields that it selects.
        keys: Vec<Slot>,
    },
    /// Fetches the objects at the path through `_entities`.
    Entities {
        inputs: Vec<EntityInput>,
        /// If there are any, the fetch's `text` is for one group.
        contexts: Option<Contexts>,
    },
}

/// A step from an object to others below it. Lists need no step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathStep {
    Key(Slot),
    /// Keeps only the objects of these types.
    Types(Vec<Name>),
}

/// How a representation is made from an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityInput {
    /// For objects of these types, or of unknown type.
    pub types: Vec<Name>,
    /// The name of their type in the subgraph.
    pub typename: Name,
    /// Fields of the key: if one is missing, or null where its type in the subgraph does not
    /// allow it, there is no representation.
    pub keys: Vec<Required>,
    /// Fields that `@requires` selects: these may be null.
    pub requires: Vec<Required>,
}

/// One field of a representation, and the slot that holds it in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    pub field: Name,
    /// The slot that holds it in the object.
    pub key: Slot,
    /// Only for objects of these types.
    pub only: Option<Vec<Name>>,
    pub nested: Vec<Required>,
    /// For a field of a key: whether its type in the subgraph that is entered allows null,
    /// for the value and then for the items of each level of lists. Empty where it must not
    /// be null at all.
    ///
    /// Source: GraphQL October 2021, section 3.12 (Non-Null).
    pub nullable: Vec<bool>,
}

/// Plans one operation of a valid document.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    graph: &Supergraph,
    document: &Valid<ExecutableDocument>,
    operation: &Operation,
    decisions: &Decisions,
) -> Result<QueryPlan, PlanError> {
    let mut budget = BUDGET;
    if let Some(variable) = operation
        .variables
        .iter()
        .find(|variable| variable.name.starts_with(operation::RESERVED))
    {
        return Err(PlanError::ReservedName(variable.name.clone()));
    }
    let (selections, denied) =
        operation::flatten(graph, document, operation, decisions, &mut budget)?;
    let root = operation.object_type().clone();
    let effects = operation.operation_type == OperationType::Mutation;
    let mut slots = Slots::new(effects.then(|| root.clone()));
    let shape = shape::compile(graph, &root, &selections, &mut slots, &mut budget)?;
    let introspects = selections.0.iter().any(|item| {
        matches!(item, operation::Item::Field(field)
            if field.name == "__schema" || field.name == "__type")
    });
    let task = planner::Task {
        graph,
        labels: &decisions.labels,
        operation,
        root: &root,
        selections: &selections,
        slots: &slots,
    };
    let planned = search::best(&task, budget)?;
    let mut plan = QueryPlan {
        operation: operation.operation_type,
        fetches: planned.fetches,
        shape,
        introspects,
        resume: planned.resume,
        slots: SlotTable::new(),
        denied,
    };
    mark_copied_fetches(&mut plan.fetches);
    number(&mut plan);
    Ok(plan)
}

/// Sets `copy_per_target` for the fetches above those with context values.
fn mark_copied_fetches(fetches: &mut [Fetch]) {
    let keys = |fetch: &Fetch| -> Vec<Name> {
        let keys = fetch.path.iter().filter_map(|step| match step {
            PathStep::Key(slot) => Some(slot.name.clone()),
            PathStep::Types(_) => None,
        });
        keys.collect()
    };
    let contextual = |fetch: &&Fetch| matches!(&fetch.kind, FetchKind::Entities { contexts, .. } if contexts.is_some());
    let below: Vec<Vec<Name>> = fetches.iter().filter(contextual).map(keys).collect();
    for fetch in fetches {
        let path = keys(fetch);
        let above = |other: &Vec<Name>| other.len() > path.len() && other.starts_with(&path);
        fetch.copy_per_target = below.iter().any(above);
    }
}

/// Assigns ids to all slots of a finished plan.
fn number(plan: &mut QueryPlan) {
    let slots = &mut plan.slots;
    for fetch in &mut plan.fetches {
        for step in &mut fetch.path {
            if let PathStep::Key(slot) = step {
                slots.number(slot);
            }
        }
        match &mut fetch.kind {
            FetchKind::Root { keys } => keys.iter_mut().for_each(|slot| slots.number(slot)),
            FetchKind::Entities { inputs, contexts } => {
                let values = contexts
                    .iter_mut()
                    .flat_map(|contexts| &mut contexts.values);
                for source in values.flat_map(|value| &mut value.sources) {
                    number_required(slots, std::slice::from_mut(&mut source.field));
                }
                for input in inputs {
                    number_required(slots, &mut input.keys);
                    number_required(slots, &mut input.requires);
                }
            }
        }
    }
    for slot in plan.resume.iter_mut().flat_map(|resume| &mut resume.cursor) {
        slots.number(slot);
    }
    plan.shape.number(slots);
}

fn number_required(slots: &mut SlotTable, required: &mut [Required]) {
    for required in required {
        slots.number(&mut required.key);
        number_required(slots, &mut required.nested);
    }
}
