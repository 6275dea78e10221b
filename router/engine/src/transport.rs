//! How the engine reaches a subgraph.

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::response::GraphQLError;

/// One operation for one subgraph.
#[derive(Debug, Clone)]
pub struct SubgraphRequest {
    pub subgraph: Arc<str>,
    pub url: Arc<str>,
    /// The same for all executions of a plan, so that a transport can cache by it.
    pub text: Arc<str>,
    /// The JSON request up to its variables; after them only `}` follows.
    pub prefix: Arc<str>,
    pub operation_name: Option<Arc<str>>,
    /// A JSON object.
    pub variables: Vec<u8>,
    /// Whether it may be sent a second time if it got no response: true of queries,
    /// which change nothing, and of mutations that are safe to repeat.
    pub is_repeatable: bool,
    pub headers: HeaderMap,
}

/// The response of a subgraph.
#[derive(Debug, Default)]
pub struct SubgraphResponse {
    /// The body: a GraphQL response as JSON, unless the subgraph failed.
    pub body: Bytes,
    /// The HTTP status, if it was not a success.
    pub error_status: Option<u16>,
    pub headers: HeaderMap,
}

impl SubgraphResponse {
    /// A response from a subgraph in the same process.
    pub fn from_json(answer: &impl serde::Serialize) -> Self {
        Self {
            // If it cannot be serialised, reading the empty body reports an error.
            body: serde_json::to_vec(answer).unwrap_or_default().into(),
            ..Self::default()
        }
    }
}

/// Why a request to a subgraph failed. The messages are safe for clients: they
/// have no address and no inner cause, which are only logged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    #[error("the \"{subgraph}\" service cannot be reached")]
    Unreachable { subgraph: Arc<str>, cause: String },
    #[error("the \"{subgraph}\" service did not respond within {after:?}")]
    Timeout { subgraph: Arc<str>, after: Duration },
    #[error("the \"{subgraph}\" service responded with HTTP status {status}")]
    Status { subgraph: Arc<str>, status: u16 },
    #[error("the \"{subgraph}\" service responded with something that is not a GraphQL response")]
    Invalid { subgraph: Arc<str>, cause: String },
    #[error("the \"{subgraph}\" service responded with more than {limit} bytes")]
    TooLarge { subgraph: Arc<str>, limit: usize },
    #[error("the \"{subgraph}\" service failed too often and is not asked for a while")]
    Unavailable { subgraph: Arc<str> },
    /// It refused a subscription, and said why.
    #[error("the \"{subgraph}\" service refused the subscription")]
    Refused {
        subgraph: Arc<str>,
        errors: Vec<GraphQLError>,
    },
}

impl TransportError {
    /// The value of `extensions.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "SUBGRAPH_UNREACHABLE",
            Self::Timeout { .. } => "SUBGRAPH_TIMEOUT",
            Self::Status { .. } => "SUBGRAPH_HTTP_STATUS",
            Self::Invalid { .. } => "SUBGRAPH_INVALID_RESPONSE",
            Self::TooLarge { .. } => "SUBGRAPH_RESPONSE_TOO_LARGE",
            Self::Unavailable { .. } => "SUBGRAPH_UNAVAILABLE",
            Self::Refused { .. } => "SUBGRAPH_REFUSED",
        }
    }

    pub fn subgraph(&self) -> &Arc<str> {
        match self {
            Self::Unreachable { subgraph, .. }
            | Self::Timeout { subgraph, .. }
            | Self::Status { subgraph, .. }
            | Self::Invalid { subgraph, .. }
            | Self::TooLarge { subgraph, .. }
            | Self::Unavailable { subgraph }
            | Self::Refused { subgraph, .. } => subgraph,
        }
    }

    /// The error as clients see it.
    pub fn to_graphql(&self) -> GraphQLError {
        let mut error = GraphQLError::new(self.code(), self.to_string());
        error
            .extensions
            .insert("service".to_owned(), Value::from(&**self.subgraph()));
        error
    }
}

/// A subscription's events; the stream ends when the subgraph completes it.
pub type Events = BoxStream<'static, Result<SubgraphResponse, TransportError>>;

/// Reaches subgraphs: over HTTP, or in the same process.
#[async_trait]
pub trait Transport: Send + Sync {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError>;

    /// Starts a subscription. Dropping the stream ends it.
    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError>;
}
