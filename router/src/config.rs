//! Limits and rules. The defaults leave a margin above what the shop's own clients
//! need.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use stoa_runtime::redis::Redis;

use crate::headers::HeaderRules;

/// How a router behaves.
#[derive(Clone, Default)]
pub struct Config {
    pub limits: Limits,
    /// `None` switches rate limits off.
    pub rate_limits: Option<RateLimits>,
    pub headers: HeaderRules,
    /// Refuses `__schema` and `__type`.
    pub hide_schema: bool,
    /// Returns a request's plan if it has `extensions: { "plan": true }`.
    pub expose_plans: bool,
    /// The labels of progressive overrides that are on. Labels of the form
    /// `percent(N)` are decided at random for each operation.
    pub override_labels: BTreeSet<String>,
    /// Origins, other than the router's own, whose pages may call the router.
    pub cors_origins: Vec<String>,
}

/// The limits of one request.
#[derive(Debug, Clone)]
pub struct Limits {
    pub cost: CostLimits,
    /// Bytes of a request's body, or of one WebSocket message.
    pub body: usize,
    /// Tokens in a document.
    pub tokens: usize,
    /// The deepest nesting of fields.
    pub depth: usize,
    /// Fields after fragments are expanded.
    pub fields: usize,
    /// Aliases after fragments are expanded.
    pub aliases: usize,
    /// Fields at the root.
    pub root_fields: usize,
    /// Requests that one body may hold, as a list; 0 refuses lists.
    pub batch: usize,
    /// How long a query or mutation may take.
    pub timeout: Duration,
    /// Concurrent operations on one WebSocket connection.
    pub operations_per_socket: usize,
    /// Concurrent subscriptions in the whole process.
    pub subscriptions: usize,
}

/// What one operation may cost, by `stoa_federation::cost`.
#[derive(Debug, Clone, Copy)]
pub struct CostLimits {
    pub anonymous: u64,
    pub signed_in: u64,
    /// The items of a list whose size the schema does not say.
    pub list_size: u32,
}

impl Default for CostLimits {
    fn default() -> Self {
        Self {
            anonymous: 5_000,
            signed_in: 20_000,
            list_size: 10,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cost: CostLimits::default(),
            body: 1024 * 1024,
            tokens: 5_000,
            depth: 15,
            fields: 2_000,
            aliases: 100,
            root_fields: 20,
            batch: 0,
            timeout: Duration::from_secs(30),
            operations_per_socket: 100,
            subscriptions: 10_000,
        }
    }
}

/// How many requests one client address may send.
#[derive(Clone)]
pub struct RateLimits {
    pub window: Duration,
    pub requests: u32,
    /// The tighter limit for the fields below.
    pub guarded_requests: u32,
    /// Root fields that an attacker could use to guess secrets.
    pub guarded_fields: Vec<String>,
    /// The Redis in which all replicas count together.
    pub shared: Option<Redis>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(15 * 60),
            requests: 5_000,
            guarded_requests: 500,
            guarded_fields: Vec::new(),
            shared: None,
            trusted_proxies: Vec::new(),
        }
    }
}
