//! The router's server. It does not compose and knows nothing of the shop: it
//! serves the supergraph, transport and rules that it is given.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | limits and rules, with their defaults |
//! | [`pipeline`] | one operation from text to response: parse, limit, plan, execute; caches |
//! | `introspection` | `__schema` and `__type` |
//! | `document` | syntax of newer documents that the parser does not support |
//! | [`limits`] | how deep and how large an operation may be |
//! | [`auth`] | access tokens, verified against a JWK set |
//! | [`headers`] | which headers are forwarded to which subgraph, and back |
//! | [`rate_limit`] | requests per client |
//! | [`http`] | GraphQL over HTTP: POST, GET, content negotiation |
//! | `batch` | several requests in one body, where that is enabled |
//! | [`sse`] | server-sent events |
//! | [`ws`] | `graphql-transport-ws` |
//! | [`health`] | liveness, readiness, metrics |
//! | [`playground`] | the GraphQL playground page |

pub mod auth;
mod batch;
pub mod config;
mod cost;
mod document;
pub mod headers;
pub mod health;
pub mod http;
mod introspection;
pub mod limits;
pub mod operation;
pub mod pipeline;
pub mod playground;
pub mod rate_limit;
mod request;
pub mod sse;
pub mod ws;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::routing::{get, post};
use stoa_engine::Transport;
use stoa_federation::Supergraph;
use stoa_runtime::clock::Clock;
use stoa_runtime::health::Check;
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::telemetry::CORRELATION_HEADER;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::cors::{AllowHeaders, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

pub use auth::Verifier;
pub use config::{Config, CostLimits, Limits, RateLimits};
pub use headers::HeaderRules;
use pipeline::Pipeline;

/// How long browsers remember that an origin may call; Chromium takes at most two hours.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// What a router needs to serve.
pub struct Server {
    pub graph: Arc<Supergraph>,
    pub transport: Arc<dyn Transport>,
    /// Verifies access tokens; without it `Authorization` is forwarded unchanged.
    pub verifier: Option<Verifier>,
    /// Signs the identity that subgraphs trust.
    pub identity: Option<IdentityKey>,
    pub config: Config,
    pub clock: Clock,
    /// What readiness depends on, by name.
    pub checks: Vec<Check>,
    /// Additional HTTP routes, such as a service's pictures.
    pub routes: Router,
}

/// The state that all handlers use.
struct AppState {
    pipeline: Pipeline,
    verifier: Option<Verifier>,
    config: Config,
    checks: Vec<Check>,
    limiter: rate_limit::Limiter,
    metrics: health::Metrics,
    stop: CancellationToken,
}

/// The server's routes. When `stop` is cancelled, open streams end.
pub fn app(server: Server, stop: CancellationToken) -> Router {
    let extra = server.routes.clone();
    let shared = Arc::new(AppState {
        limiter: rate_limit::Limiter::new(&server.config),
        pipeline: Pipeline::new(
            server.graph,
            server.transport,
            server.identity,
            server.config.clone(),
            server.clock,
        ),
        verifier: server.verifier,
        config: server.config,
        checks: server.checks,
        metrics: health::Metrics::install(),
        stop: stop.clone(),
    });
    tokio::spawn(stop.run_until_cancelled_owned(rate_limit::upkeep(shared.clone())));
    // Events must be sent at once, so a stream is never compressed.
    let compress = DefaultPredicate::new().and(NotForContentType::const_new("text/event-stream"));
    let cors = cors(&shared.config.cors_origins);
    Router::new()
        .route("/graphql", post(http::post).get(http::get))
        // The limit of a body's size is that of the decompressed one.
        .route_layer(RequestDecompressionLayer::new())
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/", get(playground::page))
        .route("/assets/{*path}", get(playground::asset))
        .with_state(shared)
        .merge(extra)
        .layer(cors)
        .layer(CompressionLayer::new().compress_when(compress))
        .layer(CatchPanicLayer::new())
}

/// Allows the named origins to call with their users' cookies; none by default.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        // Clients add headers of their own, such as names and versions.
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT_MAX_AGE)
        .expose_headers([HeaderName::from_static(CORRELATION_HEADER)])
        .allow_credentials(true)
}
