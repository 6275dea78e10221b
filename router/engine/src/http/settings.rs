//! How subgraphs are reached: limits, connections, and what happens on failures.

use std::time::Duration;

use super::breaker::BreakerSettings;

/// The limits of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// The most bytes of a response, decoded, or of an event.
    pub response: usize,
    /// From sending a query or mutation to the last byte of its response. A
    /// subscription has no such limit: a source may be quiet.
    pub timeout: Duration,
    /// How long an unused connection is kept. It must be shorter than servers and
    /// proxies keep their side (Node: 5 s), or requests meet connections that were
    /// just closed.
    pub idle: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            response: 32 * 1024 * 1024,
            idle: Duration::from_secs(4),
            timeout: Duration::from_secs(30),
        }
    }
}

/// How one subgraph is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HttpSettings {
    pub limits: HttpLimits,
    /// How long a connection may take to open, with TLS.
    pub connect_timeout: Duration,
    /// The most queries and mutations at once: over HTTP/1.1 each has a connection.
    /// Others wait, within their timeout. Subscriptions have a limit of their own, at
    /// the clients' side.
    pub connections: usize,
    /// HTTP/2 without TLS, which the subgraph must be known to speak. With TLS the
    /// protocol is negotiated.
    pub http2: bool,
    /// `None` switches the circuit breaker off.
    pub breaker: Option<BreakerSettings>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            limits: HttpLimits::default(),
            connect_timeout: Duration::from_secs(5),
            connections: 1_000,
            http2: false,
            breaker: None,
        }
    }
}
