//! Refuses operations that may cost too much, before anything of them runs.

use stoa_engine::{GraphQLError, Variables};
use stoa_federation::Supergraph;
use stoa_runtime::identity::Caller;

use crate::config::CostLimits;
use crate::operation::{Client, Prepared};

/// What an operation may cost, and the caller's limit.
pub(crate) struct Cost {
    pub estimate: u64,
    pub limit: u64,
}

/// # Errors
/// `QUERY_TOO_COSTLY`, with the estimate and the limit; or a field without the one
/// argument that its `@listSize` requires.
pub(crate) fn check(
    graph: &Supergraph,
    prepared: &Prepared,
    variables: &Variables,
    client: &Client,
    limits: &CostLimits,
) -> Result<Cost, Box<GraphQLError>> {
    let limit = match client.principal.caller {
        Caller::Anonymous => limits.anonymous,
        Caller::User { .. } | Caller::Service { .. } => limits.signed_in,
    };
    let estimate = prepared
        .cost
        .cost(graph, limits.list_size, &|name| variables.get(name))
        .map_err(|problem| GraphQLError::new("GRAPHQL_VALIDATION_FAILED", problem))?;
    // Exact as a float up to 2^53, far above any limit.
    #[allow(clippy::cast_precision_loss, reason = "a metric")]
    metrics::histogram!("stoa_operation_cost").record(estimate as f64);
    if estimate > limit {
        return Err(Box::new(GraphQLError::new(
            "QUERY_TOO_COSTLY",
            format!(
                "the operation may cost {estimate}; the limit is {limit}: ask for fewer items at a time, or nest fewer lists"
            ),
        )));
    }
    Ok(Cost { estimate, limit })
}
