//! What a plan depends on besides the operation, and why an operation has none.

use std::collections::{BTreeMap, BTreeSet};

use apollo_compiler::Name;

use crate::access::DemandId;
use crate::supergraph::Labels;

/// The most selections, fetch nodes and shape nodes of one plan.
pub(crate) const BUDGET: usize = 50_000;

/// The values of the boolean variables that conditions read.
pub type Conditions = BTreeMap<Name, bool>;

/// What a plan depends on besides the operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Decisions {
    /// The values of the variables that `@skip` and `@include` read.
    pub conditions: Conditions,
    /// The override labels that are on.
    pub labels: Labels,
    /// The access demands that the client does not meet.
    pub denied: BTreeSet<DemandId>,
}

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
