//! When a call to a peer is sent again. Every message is idempotent, so the rule
//! needs to know only whether a second attempt can help.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(10);
/// Retries within a window that are always allowed.
const LEAST: u32 = 10;
/// One retry for this many calls.
const SHARE: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The connection ended without a response.
    Now,
    /// No connection could be opened.
    Later,
}

impl Retry {
    /// `None` if a second attempt would not help: the peer may be slow, or has begun to
    /// respond.
    pub fn of(error: &reqwest::Error) -> Option<Self> {
        if error.is_timeout() {
            return None;
        }
        if error.is_connect() {
            return Some(Self::Later);
        }
        let error: &dyn std::error::Error = error;
        std::iter::successors(error.source(), |cause| (*cause).source())
            .any(has_ended)
            .then_some(Self::Now)
    }
}

fn has_ended(cause: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
        return hyper.is_canceled() || hyper.is_incomplete_message();
    }
    let kind = cause
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
    )
}

/// Bounds retries: a tenth of the calls in ten seconds, and at least ten.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    calls: u32,
    retries: u32,
}

impl RetryBudget {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Counts {
            began: now,
            calls: 0,
            retries: 0,
        }))
    }

    pub fn count_call(&self, now: Instant) {
        self.with(now, |counts| counts.calls = counts.calls.saturating_add(1));
    }

    /// Takes a retry, if one is left.
    pub fn take(&self, now: Instant) -> bool {
        self.with(now, |counts| {
            let is_allowed = counts.retries < LEAST.max(counts.calls / SHARE);
            counts.retries += u32::from(is_allowed);
            is_allowed
        })
    }

    fn with<T>(&self, now: Instant, change: impl FnOnce(&mut Counts) -> T) -> T {
        // Used on after a panic: numbers cannot be half changed.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counts.began) >= WINDOW {
            *counts = Counts {
                began: now,
                calls: 0,
                retries: 0,
            };
        }
        change(&mut counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_calls_may_be_repeated_and_at_least_ten() {
        let start = Instant::now();
        let taken = |budget: &RetryBudget, now| (0..1_000).take_while(|_| budget.take(now)).count();
        let budget = RetryBudget::new(start);
        assert_eq!(taken(&budget, start), 10);
        for _ in 0..250 {
            budget.count_call(start);
        }
        assert_eq!(taken(&budget, start), 15);
        assert_eq!(taken(&budget, start + WINDOW), 10);
    }
}
