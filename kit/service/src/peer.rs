//! Direct calls between services: HTTP between processes, a plain call within
//! one. Either way the caller is identified as a service.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::HeaderMap;
use serde_json::Value;
use stoa_schema::peer::PeerRequest;
use tracing::Instrument;

use crate::context::CallContext;
use crate::fault_injection;
use crate::peer_retry::{Retry, RetryBudget};
use stoa_runtime::identity::{Caller, IDENTITY_HEADER, IdentityKey};
use stoa_runtime::telemetry::{CORRELATION_HEADER, inject_trace};

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept: shorter than a server keeps its side, so
/// that no call meets a connection that was just closed.
const IDLE: Duration = Duration::from_secs(4);
/// The pause before a call that could not be sent is tried again: the peer may be
/// restarting.
const RETRY_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    #[error("the \"{service}\" service cannot be reached: {cause}")]
    Unreachable { service: String, cause: String },
    #[error("the \"{service}\" service failed")]
    Failed { service: String },
    #[error("only a service may call this")]
    Forbidden,
    #[error("there is no method \"{0}\"")]
    UnknownMethod(String),
    #[error("the message does not match the method: {0}")]
    BadMessage(String),
}

/// Handles a service's peer methods. Messages are those of
/// [`stoa_schema::peer`], as JSON.
#[async_trait]
pub trait PeerHandler: Send + Sync {
    async fn call(
        &self,
        context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError>;
}

/// For a service that no other asks anything.
pub struct NoPeerMethods;

#[async_trait]
impl PeerHandler for NoPeerMethods {
    async fn call(
        &self,
        _context: &CallContext,
        method: &str,
        _message: Value,
    ) -> Result<Value, PeerError> {
        Err(PeerError::UnknownMethod(method.to_owned()))
    }
}

/// Handles one request type with a function, inside a [`PeerHandler`].
///
/// # Errors
/// [`PeerError::BadMessage`] if the JSON does not match the type; else the function's own.
pub async fn handle_request<R, F>(message: Value, handle: F) -> Result<Value, PeerError>
where
    R: PeerRequest,
    F: AsyncFnOnce(R) -> Result<R::Response, PeerError>,
{
    let request = serde_json::from_value(message)
        .map_err(|error| PeerError::BadMessage(error.to_string()))?;
    let done = handle(request).await?;
    serde_json::to_value(done).map_err(|error| PeerError::BadMessage(error.to_string()))
}

/// How a service reaches its peers.
#[derive(Clone)]
pub struct Peers {
    name: Arc<str>,
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Local(LocalPeers),
    Http {
        client: reqwest::Client,
        /// Opens a connection for each call: the second attempt must not meet another
        /// one that has ended.
        unpooled: reqwest::Client,
        budget: Arc<RetryBudget>,
        urls: Arc<HashMap<String, String>>,
        key: IdentityKey,
    },
}

/// The services of one process, which can call each other once all are built.
#[derive(Clone, Default)]
pub struct LocalPeers(Arc<OnceLock<HashMap<&'static str, Arc<dyn PeerHandler>>>>);

impl LocalPeers {
    /// Registers the services; the first call wins.
    pub fn connect(&self, handlers: HashMap<&'static str, Arc<dyn PeerHandler>>) {
        let _ = self.0.set(handlers);
    }
}

impl Peers {
    /// Peers in the same process, called as service `name`.
    pub fn local(name: &str, peers: LocalPeers) -> Self {
        Self {
            name: name.into(),
            transport: Transport::Local(peers),
        }
    }

    /// Peers at base URLs, by service name.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn http(
        name: &str,
        urls: HashMap<String, String>,
        key: IdentityKey,
    ) -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .timeout(TIMEOUT)
                .pool_idle_timeout(IDLE)
                .redirect(reqwest::redirect::Policy::none())
        };
        Ok(Self {
            name: name.into(),
            transport: Transport::Http {
                client: builder().build()?,
                unpooled: builder().pool_max_idle_per_host(0).build()?,
                budget: Arc::new(RetryBudget::new(Instant::now())),
                urls: Arc::new(urls),
                key,
            },
        })
    }

    /// Calls a peer. Every message of the schema is idempotent: one that was not sent,
    /// or whose connection ended without a response, is sent once more. The caller
    /// decides about further attempts.
    ///
    /// # Errors
    /// [`PeerError`]; on `Unreachable` the call may or may not have happened.
    pub async fn call<R: PeerRequest>(
        &self,
        correlation_id: &str,
        request: &R,
    ) -> Result<R::Response, PeerError> {
        let bad = |error: serde_json::Error| PeerError::BadMessage(error.to_string());
        let message = serde_json::to_value(request).map_err(bad)?;
        let span = tracing::info_span!(
            "peer_call",
            otel.kind = "client",
            peer = R::SERVICE,
            method = R::METHOD,
            correlation_id
        );
        let call = async {
            match &self.transport {
                Transport::Local(peers) => {
                    self.call_local::<R>(peers, correlation_id, message).await
                }
                Transport::Http { .. } => self.call_http::<R>(correlation_id, &message).await,
            }
        };
        let unavailable = || PeerError::Unreachable {
            service: R::SERVICE.to_owned(),
            cause: fault_injection::REASON.to_owned(),
        };
        let answer = fault_injection::call_with_faults(call.instrument(span), unavailable).await?;
        serde_json::from_value(answer).map_err(bad)
    }

    async fn call_local<R: PeerRequest>(
        &self,
        peers: &LocalPeers,
        correlation_id: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        let handler = peers
            .0
            .get()
            .and_then(|handlers| handlers.get(R::SERVICE))
            .ok_or_else(|| PeerError::Unreachable {
                service: R::SERVICE.to_owned(),
                cause: "it is not part of this process".to_owned(),
            })?;
        let context = CallContext {
            caller: Caller::Service {
                name: self.name.to_string(),
            },
            correlation_id: correlation_id.into(),
            ..CallContext::default()
        };
        handler.call(&context, R::METHOD, message).await
    }

    async fn call_http<R: PeerRequest>(
        &self,
        correlation_id: &str,
        message: &Value,
    ) -> Result<Value, PeerError> {
        let unreachable = |cause: String| PeerError::Unreachable {
            service: R::SERVICE.to_owned(),
            cause,
        };
        let Transport::Http {
            client,
            unpooled,
            budget,
            urls,
            key,
        } = &self.transport
        else {
            return Err(unreachable("it is not reached over HTTP".to_owned()));
        };
        let base = urls
            .get(R::SERVICE)
            .ok_or_else(|| unreachable("its URL is not configured".to_owned()))?;
        let caller = Caller::Service {
            name: self.name.to_string(),
        };
        let mut request = client
            .post(format!("{base}/internal/peer/{}", R::METHOD))
            .header(CORRELATION_HEADER, correlation_id)
            .json(message);
        if let Some(identity) = key.sign(&caller) {
            request = request.header(IDENTITY_HEADER, identity);
        }
        let mut trace = HeaderMap::new();
        inject_trace(&mut trace);
        request = request.headers(trace);
        let request = request
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let again = request.try_clone();
        budget.count_call(Instant::now());
        let response = match (client.execute(request).await, again) {
            (Err(error), Some(again)) => match Retry::of(&error) {
                Some(retry) if budget.take(Instant::now()) => {
                    metrics::counter!("stoa_peer_retries_total", "peer" => R::SERVICE).increment(1);
                    if retry == Retry::Later {
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                    unpooled.execute(again).await
                }
                _ => Err(error),
            },
            (sent, _) => sent,
        }
        .map_err(|error| unreachable(error.to_string()))?;
        if !response.status().is_success() {
            return Err(PeerError::Failed {
                service: R::SERVICE.to_owned(),
            });
        }
        response
            .json()
            .await
            .map_err(|error| unreachable(error.to_string()))
    }
}
