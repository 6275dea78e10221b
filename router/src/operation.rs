//! A client, its request, and the operation that was parsed from it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Node};
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use stoa_federation::access::DemandId;
use stoa_federation::plan::Decisions;
use stoa_federation::{CostFormula, QueryPlan, apollo_compiler};

use crate::auth::Principal;

/// A request, over any transport.
#[derive(Debug, Clone, Default)]
pub struct GraphqlRequest {
    pub query: String,
    pub operation_name: Option<String>,
    /// A JSON object, as it was written.
    pub variables: Option<Box<RawValue>>,
    /// Whether the client also asks for the plan.
    pub explain: bool,
}

/// The sender of a request, and the correlation id that logs use for it.
#[derive(Debug, Clone)]
pub struct Client {
    pub principal: Principal,
    pub correlation_id: Arc<str>,
    pub headers: Arc<HeaderMap>,
    /// The `Last-Event-ID` header: the cursor of the last event that the client saw.
    pub last_event_id: Option<String>,
}

/// A valid document and one of its operations.
pub struct Prepared {
    pub(crate) document: Valid<ExecutableDocument>,
    pub(crate) operation: Node<Operation>,
    pub(crate) cost: CostFormula,
    pub(crate) conditions: Vec<apollo_compiler::Name>,
    pub(crate) demands: BTreeSet<DemandId>,
    pub(crate) plans: Mutex<HashMap<Decisions, Arc<QueryPlan>>>,
}

impl Prepared {
    pub fn kind(&self) -> OperationType {
        self.operation.operation_type
    }

    pub fn name(&self) -> Option<&str> {
        self.operation.name.as_ref().map(|name| name.as_str())
    }

    /// The names of the fields at the root.
    pub fn root_fields(&self) -> impl Iterator<Item = &str> {
        self.operation
            .root_fields(&self.document)
            .map(|field| field.name.as_str())
    }
}
