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
    /// Fixed for the life of a plan: a transport may cache by it.
    pub text: Arc<str>,
    /// A JSON request up to its variables, which only `}` follows.
    pub prefix: Arc<str>,
    pub operation_name: Option<Arc<str>>,
    /// A JSON object.
    pub variables: Vec<u8>,
    pub headers: HeaderMap,
}

/// What a subgraph answered.
#[derive(Debug, Default)]
pub struct SubgraphResponse {
    /// A GraphQL response as JSON, or whatever else came.
    pub body: Bytes,
    /// The HTTP status, if it was not one of success.
    pub failure: Option<u16>,
    pub headers: HeaderMap,
}

impl SubgraphResponse {
    /// An answer of a subgraph that is no server.
    pub fn of(answer: &impl serde::Serialize) -> Self {
        Self {
            // What cannot be written is no answer, and found out when read.
            body: serde_json::to_vec(answer).unwrap_or_default().into(),
            ..Self::default()
        }
    }
}

/// Why a subgraph gave no answer. The texts are fit for clients: no address
/// and no inner cause; those are for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    #[error("the \"{subgraph}\" service cannot be reached")]
    Unreachable { subgraph: Arc<str>, cause: String },
    #[error("the \"{subgraph}\" service did not answer within {after:?}")]
    Timeout { subgraph: Arc<str>, after: Duration },
    #[error("the \"{subgraph}\" service answered with HTTP status {status}")]
    Status { subgraph: Arc<str>, status: u16 },
    #[error("the \"{subgraph}\" service answered with something that is not a GraphQL response")]
    Invalid { subgraph: Arc<str>, cause: String },
    #[error("the \"{subgraph}\" service answered with more than {limit} bytes")]
    TooLarge { subgraph: Arc<str>, limit: usize },
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
        }
    }

    pub fn subgraph(&self) -> &Arc<str> {
        match self {
            Self::Unreachable { subgraph, .. }
            | Self::Timeout { subgraph, .. }
            | Self::Status { subgraph, .. }
            | Self::Invalid { subgraph, .. }
            | Self::TooLarge { subgraph, .. } => subgraph,
        }
    }

    /// As a client sees it.
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
