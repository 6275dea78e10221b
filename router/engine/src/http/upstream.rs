//! What is known of one subgraph.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Now;
use super::breaker::{Admission, Breaker, Outcome};
use super::connection::{self, Client};
use super::retry::RetryBudget;
use super::settings::HttpSettings;
use crate::transport::{SubgraphResponse, TransportError};

/// A subgraph's clients, limits and failures.
pub struct Upstream {
    name: Arc<str>,
    pub settings: HttpSettings,
    pub client: Client,
    /// Opens a connection for each request: the second attempt must not meet another
    /// one that has ended.
    pub unpooled: Client,
    connections: Semaphore,
    budget: Mutex<RetryBudget>,
    breaker: Option<Mutex<Breaker>>,
}

impl Upstream {
    pub fn new(
        name: Arc<str>,
        settings: HttpSettings,
        tls: &rustls::ClientConfig,
        now: Instant,
    ) -> Self {
        let breaker = settings.breaker.map(|breaker| Breaker::new(breaker, now));
        Self {
            client: connection::client(tls, &settings, true),
            unpooled: connection::client(tls, &settings, false),
            connections: Semaphore::new(settings.connections.clamp(1, Semaphore::MAX_PERMITS)),
            budget: Mutex::new(RetryBudget::new(now)),
            breaker: breaker.map(Mutex::new),
            settings,
            name,
        }
    }

    /// A connection's share of the limit; waits until one is free.
    pub async fn connection(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so there always is one.
        self.connections.acquire().await.ok()
    }

    pub fn count_request(&self, now: Instant) {
        lock(&self.budget).count_request(now);
    }

    /// Whether a request may be sent again.
    pub fn take_retry(&self, now: Instant) -> bool {
        let is_allowed = lock(&self.budget).take(now);
        let outcome = match is_allowed {
            true => "sent",
            false => "over_budget",
        };
        metrics::counter!(
            "stoa_subgraph_retries_total",
            "subgraph" => self.name.to_string(),
            "outcome" => outcome
        )
        .increment(1);
        is_allowed
    }

    /// Refuses a subscription while the breaker is open. It is no probe: its response
    /// may take as long as it wants.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`].
    pub fn check_open(&self, now: Instant) -> Result<(), TransportError> {
        match &self.breaker {
            Some(breaker) if lock(breaker).is_open(now) => Err(self.unavailable()),
            _ => Ok(()),
        }
    }

    fn unavailable(&self) -> TransportError {
        TransportError::Unavailable {
            subgraph: self.name.clone(),
        }
    }

    fn show(&self, breaker: &Breaker) {
        let state = f64::from(breaker.state() as u8);
        metrics::gauge!("stoa_subgraph_breaker_state", "subgraph" => self.name.to_string())
            .set(state);
    }
}

/// Used on after a panic: each change of what is locked is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that the breaker let through; dropped, it counts as cancelled.
pub struct Admitted<'a> {
    upstream: &'a Upstream,
    now: &'a Now,
    /// `None` without a breaker, and once it is recorded.
    admission: Option<Admission>,
}

impl<'a> Admitted<'a> {
    /// # Errors
    /// [`TransportError::Unavailable`] while the breaker is open.
    pub fn new(upstream: &'a Upstream, now: &'a Now) -> Result<Self, TransportError> {
        let mut admission = None;
        if let Some(breaker) = &upstream.breaker {
            let mut breaker = lock(breaker);
            let before = breaker.state();
            admission = breaker.admit(now());
            if breaker.state() != before {
                upstream.show(&breaker);
            }
            if admission.is_none() {
                return Err(upstream.unavailable());
            }
        }
        Ok(Self {
            upstream,
            now,
            admission,
        })
    }

    pub fn record(mut self, result: &Result<SubgraphResponse, TransportError>) {
        let failed = match result {
            Ok(response) => response.error_status.is_some_and(|status| status >= 500),
            // The others say that it works, if not as it should.
            Err(error) => matches!(
                error,
                TransportError::Unreachable { .. }
                    | TransportError::Timeout { .. }
                    | TransportError::Invalid { .. }
            ),
        };
        self.end(match failed {
            true => Outcome::Failure,
            false => Outcome::Success,
        });
    }

    fn end(&mut self, outcome: Outcome) {
        let (Some(admission), Some(breaker)) = (self.admission.take(), &self.upstream.breaker)
        else {
            return;
        };
        let mut breaker = lock(breaker);
        let before = breaker.state();
        breaker.record(admission, outcome, (self.now)());
        let after = breaker.state();
        if after != before {
            tracing::warn!(subgraph = %self.upstream.name, state = ?after, "circuit breaker");
        }
        self.upstream.show(&breaker);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}
