//! The faults of a proxy, and how often they occur.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window of the retry budget, of the router and of peers.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// How many faults that need a retry a window may have, whatever its requests: one less
/// than the budget always allows.
const LEAST: usize = 9;
/// One more for this many requests. The budget allows one for ten; two replicas of the
/// router share the requests.
const SHARE: usize = 25;

/// What is done to a request or its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The response's first byte comes later.
    DelayedHead(Duration),
    /// The response's body is encoded, if the client accepts that.
    Compressed,
    /// The connection is closed so long after the response, perhaps as the next request
    /// comes. In the log, a request that came then.
    ClosedIdle(Duration),
    /// The request is read, and the connection ends; the service does not get it.
    ClosedUnanswered(Ending),
    /// The service gets the request; its response is lost and the connection ends.
    LostResponse(Ending),
    /// The connection is closed within the response; of a thousand parts of it, so many are
    /// sent, at least one byte.
    CutResponse(u16),
    /// 502 with nginx's page; the service does not get the request.
    BadGateway,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Properly: FIN.
    Closed,
    /// RST.
    Reset,
}

impl Fault {
    /// Whether the connection ends without a byte of the response.
    pub fn is_retried(self) -> bool {
        matches!(
            self,
            Self::ClosedIdle(_) | Self::ClosedUnanswered(_) | Self::LostResponse(_)
        )
    }

    /// Whether the client gets a right response in spite of it.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::DelayedHead(_) | Self::Compressed)
    }
}

/// Draws the faults of one proxy's requests; by default none.
#[derive(Debug, Default)]
pub struct FaultSource {
    /// Of a hundred requests, so many meet each kind of fault; at most 14.
    pub percent_of_each: u64,
    /// The next mutation's fault.
    pub armed: Option<Fault>,
    /// Requests in the budget's window, and faults that needed a retry.
    requests: VecDeque<Instant>,
    retried: VecDeque<Instant>,
    /// Until then there is no fault that needs a retry.
    resting_until: Option<Instant>,
}

impl FaultSource {
    /// Draws no fault that needs a retry for the window of the budget.
    pub fn rest_from(&mut self, now: Instant) {
        self.resting_until = Some(now + BUDGET_WINDOW + Duration::from_secs(1));
    }

    pub fn draw(
        &mut self,
        seed: u64,
        number: u64,
        is_mutation: bool,
        now: Instant,
    ) -> Option<Fault> {
        if is_mutation && let Some(fault) = self.armed.take() {
            return Some(fault);
        }
        for times in [&mut self.requests, &mut self.retried] {
            while (times.front()).is_some_and(|at| now.duration_since(*at) > BUDGET_WINDOW) {
                times.pop_front();
            }
        }
        self.requests.push_back(now);
        let milliseconds =
            |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(0..=most));
        if self.percent_of_each == 0 {
            return None;
        }
        // Each hundred requests meet each kind as often as the others, in another order.
        let mut order: Vec<u64> = (0..100).collect();
        fastrand::Rng::with_seed(seed.wrapping_add(number / 100)).shuffle(&mut order);
        let drawn = order[usize::try_from(number % 100).unwrap_or(0)];
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        let ending = match random.bool() {
            true => Ending::Closed,
            false => Ending::Reset,
        };
        let fault = match drawn / self.percent_of_each {
            0 => Fault::DelayedHead(milliseconds(&mut random, 300)),
            1 => Fault::Compressed,
            2 => Fault::ClosedIdle(milliseconds(&mut random, 20)),
            3 => Fault::ClosedUnanswered(ending),
            4 => Fault::LostResponse(ending),
            5 => Fault::CutResponse(random.u16(0..1_000)),
            6 => Fault::BadGateway,
            _ => return None,
        };
        let most = LEAST.max(self.requests.len() / SHARE);
        let rests = self.resting_until.is_some_and(|until| now < until);
        if fault.is_retried() && (rests || self.retried.len() >= most) {
            return None;
        }
        if fault.is_retried() {
            self.retried.push_back(now);
        }
        Some(fault)
    }
}
