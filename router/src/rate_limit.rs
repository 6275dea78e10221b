//! How many requests one client address may send: a burst of the whole
//! allowance, which then refills evenly over the window (GCRA). Where Redis is
//! configured, all replicas count together; while it is unavailable, each process
//! counts separately.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::HeaderMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use stoa_runtime::redis::{Redis, Script};

use crate::AppState;
use crate::config::Config;

const UPKEEP: Duration = Duration::from_secs(60);
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Counts the request and returns 0, or returns how many microseconds to wait.
/// The key holds the time at which the allowance is full again, by Redis' clock.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local each, window = tonumber(ARGV[1]), tonumber(ARGV[2])
        local whole = tonumber(redis.call('GET', KEYS[1]) or now)
        if whole < now then whole = now end
        whole = whole + each
        if whole - now > window then return whole - now - window end
        redis.call('SET', KEYS[1], string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000))
        return 0
        ",
    )
});

/// The limiters; without a configuration nothing is limited.
pub struct Limiter {
    all: Option<Allowance>,
    guarded: Option<Allowance>,
    guarded_fields: Vec<String>,
    shared: Option<Redis>,
    trusted_proxies: Vec<IpNet>,
    clock: DefaultClock,
}

/// A number of requests in a time window.
struct Allowance {
    name: &'static str,
    each: Duration,
    window: Duration,
    local: DefaultKeyedRateLimiter<IpAddr>,
}

impl Allowance {
    fn new(name: &'static str, requests: u32, window: Duration) -> Option<Self> {
        let burst = NonZeroU32::new(requests)?;
        let each = window / requests;
        Some(Self {
            name,
            each,
            window,
            local: RateLimiter::keyed(Quota::with_period(each)?.allow_burst(burst)),
        })
    }
}

/// How long until the next request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimited(pub Duration);

impl Limiter {
    pub fn new(config: &Config) -> Self {
        let limits = config.rate_limits.as_ref();
        Self {
            all: limits.and_then(|l| Allowance::new("all", l.requests, l.window)),
            guarded: limits.and_then(|l| Allowance::new("guarded", l.guarded_requests, l.window)),
            guarded_fields: limits
                .map(|limits| limits.guarded_fields.clone())
                .unwrap_or_default(),
            shared: limits.and_then(|limits| limits.shared.clone()),
            trusted_proxies: limits
                .map(|limits| limits.trusted_proxies.clone())
                .unwrap_or_default(),
            clock: DefaultClock::default(),
        }
    }

    /// The client's address: the peer's, or, if the peer is a trusted proxy, the
    /// last address in `X-Forwarded-For` that is not one. IPv6 addresses count by
    /// their /64 network, since a client usually has all 2^64 addresses of it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match self.sender(peer, headers).to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & !u128::from(u64::MAX),
            )),
            address => address,
        }
    }

    fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: IpAddr| {
            let address = address.to_canonical();
            self.trusted_proxies
                .iter()
                .any(|net| net.contains(&address))
        };
        if !trusted(peer) {
            return peer;
        }
        let forwarded: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let mut client = peer;
        for hop in forwarded.into_iter().rev() {
            // Some proxies add the port.
            let address = hop.parse::<IpAddr>();
            let address = address.or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()));
            let Ok(address) = address else { break };
            client = address;
            if !trusted(address) {
                break;
            }
        }
        client
    }

    /// Counts a request.
    ///
    /// # Errors
    /// If the address has used up its allowance.
    pub async fn request(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.check(self.all.as_ref(), address).await
    }

    /// Counts an operation that selects one of the guarded fields.
    ///
    /// # Errors
    /// If the address has used up its allowance.
    pub async fn operation<'f>(
        &self,
        address: IpAddr,
        root_fields: impl IntoIterator<Item = &'f str>,
    ) -> Result<(), RateLimited> {
        let guarded = root_fields
            .into_iter()
            .filter(|field| self.guarded_fields.iter().any(|guarded| guarded == field))
            .count();
        for _ in 0..guarded {
            self.check(self.guarded.as_ref(), address).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        allowance: Option<&Allowance>,
        address: IpAddr,
    ) -> Result<(), RateLimited> {
        let Some(allowance) = allowance else {
            return Ok(());
        };
        if let Some(redis) = &self.shared
            && let Some(counted) = count(redis, allowance, address).await
        {
            return counted;
        }
        allowance
            .local
            .check_key(&address)
            .map_err(|not_until| RateLimited(not_until.wait_time_from(self.clock.now())))
    }
}

/// Counts in Redis; `None` while it is unavailable.
async fn count(
    redis: &Redis,
    allowance: &Allowance,
    address: IpAddr,
) -> Option<Result<(), RateLimited>> {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let key = format!("stoa:rate:{}:{address}", allowance.name);
    let wait: u64 = redis
        .run(async |mut connection| {
            COUNT
                .key(&key)
                .arg(micros(allowance.each))
                .arg(micros(allowance.window))
                .invoke_async(&mut connection)
                .await
        })
        .await?;
    Some(match wait {
        0 => Ok(()),
        wait => Err(RateLimited(Duration::from_micros(wait))),
    })
}

/// Regularly removes addresses whose allowance is full again.
pub(crate) async fn upkeep(shared: Arc<AppState>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        for allowance in [&shared.limiter.all, &shared.limiter.guarded]
            .into_iter()
            .flatten()
        {
            allowance.local.retain_recent();
        }
        shared.metrics.upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateLimits;

    #[test]
    fn a_forwarded_address_counts_from_a_trusted_proxy_alone() {
        let limiter = Limiter::new(&Config {
            rate_limits: Some(RateLimits {
                trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
                ..RateLimits::default()
            }),
            ..Config::default()
        });
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let client = |peer: &str, forwarded: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, forwarded.parse().unwrap());
            limiter.client(ip(peer), &headers)
        };
        assert_eq!(client("192.0.2.1", "198.51.100.7"), ip("192.0.2.1"));
        assert_eq!(client("10.0.0.1", "198.51.100.7"), ip("198.51.100.7"));
        // What the client itself sent is further to the left.
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 198.51.100.7"),
            ip("198.51.100.7")
        );
        assert_eq!(
            client("10.0.0.1", "198.51.100.7, 10.0.0.9"),
            ip("198.51.100.7")
        );
        assert_eq!(client("10.0.0.1", "nonsense"), ip("10.0.0.1"));
        assert_eq!(client("10.0.0.1", "198.51.100.7:4711"), ip("198.51.100.7"));
        assert_eq!(client("10.0.0.1", "[2001:db8::7]:4711"), ip("2001:db8::"));
        assert_eq!(client("2001:db8::1", "x"), client("2001:db8::2", "x"));
        assert_eq!(
            client("::ffff:10.0.0.1", "198.51.100.7"),
            ip("198.51.100.7")
        );
    }
}
