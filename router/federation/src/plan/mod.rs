//! Query plans: which fetches answer an operation, what each waits for, and
//! the shape that the answer must have.
//!
//! [`planner`] chooses the fetches and [`search`] tries its other choices;
//! [`selection`] holds what each of them selects and prints it, under the keys
//! of [`slots`]; [`shape`] compiles the client's selection for result coercion;
//! [`contexts`] holds the variables that ancestors fill; [`display`] prints a
//! plan for people and goldens.
//!
//! A plan is a graph, not a tree of steps: a fetch names the fetches that it
//! depends on and may start as soon as those are done.

mod contexts;
mod display;
mod planner;
mod search;
mod selection;
pub mod shape;
mod slots;

use std::collections::BTreeSet;
use std::sync::Arc;

use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name};

use crate::access::DemandId;
use crate::operation::{self, Conditions, Denied};
use crate::supergraph::{Labels, SubgraphId, Supergraph};
pub use contexts::{ContextSource, ContextValue, Contexts};
pub use shape::{FieldShape, FieldSource, Leaf, ObjectShape, ValueShape};
use slots::Slots;
pub use slots::{Slot, SlotTable};

/// How many selections, fetch nodes and shape nodes one plan may take.
pub const BUDGET: usize = 50_000;

/// The variable that holds an entity fetch's representations.
pub const REPRESENTATIONS: &str = "_stoa_representations";

/// Why an operation has no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    #[error("the operation is too large: its fragments expand to more than {BUDGET} selections")]
    TooLarge,
    #[error("the variable \"${0}\" is reserved: no variable begins with _stoa_")]
    ReservedName(Name),
    #[error("the @requires of \"{ty}.{field}\" needs the field itself")]
    RequiresCycle { ty: Name, field: Name },
    #[error("no subgraph can resolve \"{ty}.{field}\" from {from}")]
    Unresolvable { ty: Name, field: Name, from: String },
}

/// A plan for one operation under one set of condition values.
#[derive(Debug)]
pub struct QueryPlan {
    pub operation: OperationType,
    /// In an order in which each fetch stands after those it depends on. In a
    /// subscription the first one is the stream's source and the rest run once
    /// for each event.
    pub fetches: Vec<Fetch>,
    pub shape: ObjectShape,
    /// Whether the operation asks for `__schema` or `__type`.
    pub introspects: bool,
    /// How its subscription resumes, if its field is `@resumable`.
    pub resume: Option<Resume>,
    /// The keys of whatever the fetches answer.
    pub slots: SlotTable,
    /// What the client may not see.
    pub denied: Vec<Denied>,
}

/// Where a resumable subscription answers its cursor and takes it back.
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
    /// Indexes of the fetches whose answers this one needs.
    pub depends_on: Vec<usize>,
    /// The objects that the answer merges into.
    pub path: Vec<PathStep>,
    pub kind: FetchKind,
    /// What it answers for several places must not be shared by them: below,
    /// contexts tell them apart.
    pub apart: bool,
    /// The operation's text, fixed when the plan is made.
    pub text: Arc<str>,
    /// A JSON request up to its variables, which only `}` follows.
    pub prefix: Arc<str>,
    pub operation_name: Option<Arc<str>>,
    /// The client's variables that the text uses.
    pub variables: Vec<Name>,
}

#[derive(Debug)]
pub enum FetchKind {
    /// Selects from a root type.
    Root {
        /// What it selects.
        keys: Vec<Slot>,
    },
    /// Asks `_entities` for the objects at the fetch's path.
    Entities {
        inputs: Vec<EntityInput>,
        /// If the fetch has such, its operation is for one group.
        contexts: Option<Contexts>,
    },
}

/// A step from an object to others below it. Lists are walked through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathStep {
    Key(Slot),
    /// Keeps the objects of these types only.
    Types(Vec<Name>),
}

/// How an object becomes a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityInput {
    /// For objects of these types, or whose type is not known yet.
    pub types: Vec<Name>,
    /// What the subgraph calls them.
    pub typename: Name,
    /// Fields of the key: without each of them there is no representation.
    pub keys: Vec<Required>,
    /// Fields that `@requires` selects: null is a value here.
    pub requires: Vec<Required>,
}

/// One field of a representation and where the object holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    pub field: Name,
    /// Where the object has it.
    pub key: Slot,
    /// Only for objects of these types.
    pub only: Option<Vec<Name>>,
    pub nested: Vec<Required>,
}

/// What a plan depends on beside the operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Decisions {
    /// The values of the variables that `@skip` and `@include` read.
    pub conditions: Conditions,
    /// The override labels that are on.
    pub labels: Labels,
    /// The demands that the client does not meet.
    pub denied: BTreeSet<DemandId>,
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
    keep_apart(&mut plan.fetches);
    number(&mut plan);
    Ok(plan)
}

/// Marks the fetches above those that contexts fill.
fn keep_apart(fetches: &mut [Fetch]) {
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
        fetch.apart = below.iter().any(above);
    }
}

/// Numbers every slot of a finished plan.
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
