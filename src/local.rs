//! The transport that calls subgraphs in the same process: no HTTP, the same
//! headers, and each operation's text parsed once.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Response, Variables};
use async_trait::async_trait;
use futures_util::stream::StreamExt;
use serde_json::Value;
use stoa_engine::transport::{Events, TransportError};
use stoa_engine::{SubgraphRequest, SubgraphResponse, Transport};
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::telemetry::in_span;
use stoa_service::context::CallContext;
use stoa_service::service::GraphqlService;
use tracing::Instrument;

const MAX_CACHED_DOCUMENTS: u64 = 2_000;
/// Longer documents, in bytes, are not cached.
const MAX_CACHED_DOCUMENT_BYTES: usize = 16 * 1024;

/// A service, the request for it, and its correlation id.
type Prepared = (Arc<dyn GraphqlService>, Request, Arc<str>);

/// Calls services directly.
pub struct LocalTransport {
    services: HashMap<&'static str, Arc<dyn GraphqlService>>,
    key: IdentityKey,
    documents: moka::sync::Cache<(Arc<str>, Arc<str>), Arc<ExecutableDocument>>,
}

impl LocalTransport {
    pub fn new(services: HashMap<&'static str, Arc<dyn GraphqlService>>, key: IdentityKey) -> Self {
        Self {
            services,
            key,
            documents: moka::sync::Cache::new(MAX_CACHED_DOCUMENTS),
        }
    }

    fn prepare(&self, request: SubgraphRequest) -> Result<Prepared, TransportError> {
        let invalid = |cause: String| TransportError::Invalid {
            subgraph: request.subgraph.clone(),
            cause,
        };
        let service =
            self.services
                .get(&*request.subgraph)
                .ok_or_else(|| TransportError::Unreachable {
                    subgraph: request.subgraph.clone(),
                    cause: "it is not part of this process".to_owned(),
                })?;
        let context = CallContext::from_headers(&request.headers, &self.key)
            .map_err(|error| invalid(error.to_string()))?;
        let correlation = context.correlation_id.clone();
        let key = (request.subgraph.clone(), request.text.clone());
        let document = match self.documents.get(&key) {
            Some(document) => document,
            None => {
                let parsed = async_graphql::parser::parse_query(&*request.text)
                    .map_err(|error| invalid(error.to_string()))?;
                let parsed = Arc::new(parsed);
                if request.text.len() <= MAX_CACHED_DOCUMENT_BYTES {
                    self.documents.insert(key, parsed.clone());
                }
                parsed
            }
        };
        let variables: Value = serde_json::from_slice(&request.variables)
            .map_err(|error| invalid(error.to_string()))?;
        let mut call = Request::new(&*request.text)
            .variables(Variables::from_json(variables))
            .data(context);
        if let Some(name) = &request.operation_name {
            call = call.operation_name(&**name);
        }
        call.set_parsed_query((*document).clone());
        Ok((service.clone(), call, correlation))
    }
}

fn to_subgraph_response(mut response: Response) -> SubgraphResponse {
    let headers = std::mem::take(&mut response.http_headers);
    SubgraphResponse {
        headers,
        ..SubgraphResponse::from_json(&response)
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn execute(&self, request: SubgraphRequest) -> Result<SubgraphResponse, TransportError> {
        let name = request.subgraph.clone();
        let (service, call, correlation) = self.prepare(request)?;
        let span = tracing::info_span!("subgraph", service = %name, correlation_id = %correlation);
        Ok(to_subgraph_response(
            service.execute(call).instrument(span).await,
        ))
    }

    async fn subscribe(&self, request: SubgraphRequest) -> Result<Events, TransportError> {
        let name = request.subgraph.clone();
        let (service, call, correlation) = self.prepare(request)?;
        let span = tracing::info_span!("subgraph", service = %name, correlation_id = %correlation);
        let events = span.in_scope(|| service.subscribe(call));
        Ok(in_span(span, events)
            .map(|response| Ok(to_subgraph_response(response)))
            .boxed())
    }
}
