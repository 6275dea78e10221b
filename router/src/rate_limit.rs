//! How many requests one client address may send: a burst of the whole
//! allowance, which then refills evenly over the window (GCRA).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::Shared;
use crate::config::Config;

const UPKEEP: Duration = Duration::from_secs(60);

/// The limiters; without a configuration nothing is limited.
pub struct Limiter {
    all: Option<DefaultKeyedRateLimiter<IpAddr>>,
    guarded: Option<DefaultKeyedRateLimiter<IpAddr>>,
    guarded_fields: Vec<String>,
    clock: DefaultClock,
}

/// How long until the next request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited(pub Duration);

impl Limiter {
    pub fn new(config: &Config) -> Self {
        let limits = config.rate_limits.as_ref();
        let quota = |requests: u32| {
            let window = limits.map(|limits| limits.window).unwrap_or_default();
            let burst = NonZeroU32::new(requests)?;
            Some(Quota::with_period(window / requests)?.allow_burst(burst))
        };
        Self {
            all: limits
                .and_then(|limits| quota(limits.requests))
                .map(RateLimiter::keyed),
            guarded: limits
                .and_then(|limits| quota(limits.guarded_requests))
                .map(RateLimiter::keyed),
            guarded_fields: limits
                .map(|limits| limits.guarded_fields.clone())
                .unwrap_or_default(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// If the address has used up its allowance.
    pub fn request(&self, address: IpAddr) -> Result<(), Limited> {
        self.check(self.all.as_ref(), address)
    }

    /// Counts an operation that selects one of the guarded fields.
    ///
    /// # Errors
    /// If the address has used up its allowance.
    pub fn operation<'f>(
        &self,
        address: IpAddr,
        root_fields: impl IntoIterator<Item = &'f str>,
    ) -> Result<(), Limited> {
        for field in root_fields {
            if self.guarded_fields.iter().any(|guarded| guarded == field) {
                self.check(self.guarded.as_ref(), address)?;
            }
        }
        Ok(())
    }

    fn check(
        &self,
        limiter: Option<&DefaultKeyedRateLimiter<IpAddr>>,
        address: IpAddr,
    ) -> Result<(), Limited> {
        let Some(limiter) = limiter else {
            return Ok(());
        };
        limiter
            .check_key(&address)
            .map_err(|not_until| Limited(not_until.wait_time_from(self.clock.now())))
    }
}

/// Forgets addresses that have their whole allowance again.
pub(crate) async fn upkeep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        for limiter in [&shared.limiter.all, &shared.limiter.guarded]
            .into_iter()
            .flatten()
        {
            limiter.retain_recent();
        }
        shared.metrics.upkeep();
    }
}
