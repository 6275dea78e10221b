//! When a request that failed is sent again, and how often that may happen.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::connection::{Failure, connection_of};
use super::window::Window;

/// The window over which retries are measured against requests.
const WINDOW: Duration = Duration::from_secs(10);
/// Retries within the window that are always allowed.
const LEAST: u32 = 10;
/// One retry for this many requests.
const SHARE: u32 = 10;

/// What a failed attempt means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// No byte of the request was sent: it may be sent, whatever it is, when the
    /// subgraph had time to come back.
    NotSent,
    /// A kept connection ended before any byte of the response came: the other side
    /// closed it as the request left. What changes nothing may be sent again.
    Ended,
    /// Nobody knows what happened, or trying again would not help.
    Final,
}

impl Next {
    pub fn of(error: &Failure, http2: bool) -> Self {
        if is_timeout(error) {
            return Self::Final;
        }
        if error.is_connect() || was_not_sent(error) {
            return Self::NotSent;
        }
        match connection_of(error) {
            // Over HTTP/2 an error means that the response did not begin, whatever else
            // was received.
            Some((connection, is_http2))
                if connection.was_used()
                    && (http2 || is_http2 || !connection.has_received_since_sending()) =>
            {
                Self::Ended
            }
            _ => Self::Final,
        }
    }
}

fn causes(error: &Failure) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

fn is_timeout(error: &Failure) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == ErrorKind::TimedOut)
    })
}

fn was_not_sent(error: &Failure) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled)
    })
}

/// Bounds retries: a tenth of the requests of the last ten seconds, so that a
/// subgraph in trouble does not get a multiple of its load, and at least ten.
#[derive(Debug)]
pub struct RetryBudget(Window);

impl RetryBudget {
    pub fn new(now: Instant) -> Self {
        Self(Window::new(WINDOW, now))
    }

    pub fn count_request(&mut self, now: Instant) {
        self.0.add(now, [1, 0]);
    }

    /// Takes a retry, if one is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let [requests, retries] = self.0.sums(now);
        let is_allowed = retries < LEAST.max(requests / SHARE);
        if is_allowed {
            self.0.add(now, [0, 1]);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut RetryBudget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn a_tenth_of_the_requests_may_be_repeated_and_at_least_ten() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = RetryBudget::new(start);
        assert_eq!(taken(&mut budget, start), 10);
        for _ in 0..250 {
            budget.count_request(at(1));
        }
        assert_eq!(taken(&mut budget, at(1)), 15);
        // The first ten are past.
        assert_eq!(taken(&mut budget, at(10)), 10);
        assert_eq!(taken(&mut budget, at(30)), 10);
    }
}
