//! What running one plan needs, shared by the steps of running it.

use std::sync::Arc;

use ::http::HeaderMap;
use serde_json::{Map, Value};
use stoa_federation::Supergraph;
use stoa_federation::plan::QueryPlan;

use crate::transport::{Transport, TransportError};
use crate::variables::Variables;

/// Everything that running one plan needs.
#[derive(Clone)]
pub struct Execution {
    pub graph: Arc<Supergraph>,
    pub plan: Arc<QueryPlan>,
    pub transport: Arc<dyn Transport>,
    /// The operation's variables, coerced.
    pub variables: Arc<Variables>,
    /// The values of `__schema` and `__type`, by response key.
    pub introspection: Arc<Map<String, Value>>,
    /// Makes the headers for each subgraph, by its index in the graph: once for an
    /// operation, and again for each event of a subscription, as they may hold
    /// short-lived values.
    pub headers: Arc<dyn Fn() -> Arc<[HeaderMap]> + Send + Sync>,
}

/// Logs why a subgraph request failed; the client sees no cause.
pub(crate) fn log_failure(error: &TransportError) {
    let cause = match error {
        TransportError::Unreachable { cause, .. } | TransportError::Invalid { cause, .. } => cause,
        _ => "",
    };
    tracing::warn!(
        subgraph = %error.subgraph(),
        code = error.code(),
        cause,
        "subgraph request failed"
    );
}
