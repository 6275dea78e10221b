//! A circuit breaker: a subgraph that fails too often is left alone for a while,
//! then asked a few requests; if these succeed, all are let through again.

use std::time::{Duration, Instant};

use super::window::Window;

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// The share of failures at which it opens, above 0 up to 1.
    pub share: f64,
    /// The time over which failures are counted.
    pub window: Duration,
    /// How many requests the window must have before it opens.
    pub least: u32,
    /// How long it stays open.
    pub pause: Duration,
    /// How many requests are tried at a time when the pause is over, and how many must
    /// succeed.
    pub probes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            share: 0.5,
            window: Duration::from_secs(10),
            least: 10,
            pause: Duration::from_secs(5),
            probes: 3,
        }
    }
}

/// The state, as the metric shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Debug)]
enum Phase {
    Closed(Window),
    Open { until: Instant },
    HalfOpen { running: u32, succeeded: u32 },
}

/// How a request that was let through counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Normal,
    Probe,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Nobody waited for it.
    Cancelled,
}

#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
}

impl Breaker {
    pub fn new(settings: BreakerSettings, now: Instant) -> Self {
        Self {
            phase: Phase::Closed(Window::new(settings.window, now)),
            settings,
        }
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether a request may be sent. `Some` must be followed by [`Self::record`].
    pub fn admit(&mut self, now: Instant) -> Option<Admission> {
        if let Phase::Open { until } = self.phase
            && now >= until
        {
            self.phase = Phase::HalfOpen {
                running: 0,
                succeeded: 0,
            };
        }
        match &mut self.phase {
            Phase::Closed(_) => Some(Admission::Normal),
            Phase::Open { .. } => None,
            Phase::HalfOpen { running, .. } if *running < self.settings.probes => {
                *running += 1;
                Some(Admission::Probe)
            }
            Phase::HalfOpen { .. } => None,
        }
    }

    /// Whether requests that cannot be probes, as they may wait without end, are
    /// refused.
    pub fn is_open(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open { until } if now < until)
    }

    pub fn record(&mut self, admission: Admission, outcome: Outcome, now: Instant) {
        match (&mut self.phase, admission) {
            (Phase::Closed(window), Admission::Normal) => {
                let counts = match outcome {
                    Outcome::Success => [1, 0],
                    Outcome::Failure => [1, 1],
                    Outcome::Cancelled => return,
                };
                window.add(now, counts);
                let [all, failed] = window.sums(now);
                if all >= self.settings.least
                    && f64::from(failed) >= self.settings.share * f64::from(all)
                    && failed > 0
                {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { running, succeeded }, Admission::Probe) => {
                *running = running.saturating_sub(1);
                match outcome {
                    Outcome::Failure => self.open(now),
                    Outcome::Cancelled => {}
                    Outcome::Success => {
                        *succeeded += 1;
                        if *succeeded >= self.settings.probes {
                            self.phase = Phase::Closed(Window::new(self.settings.window, now));
                        }
                    }
                }
            }
            // It began before the state changed.
            _ => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.phase = Phase::Open {
            until: now + self.settings.pause,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn run(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
        let admission = breaker.admit(now).unwrap();
        breaker.record(admission, outcome, now);
    }

    fn open(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerSettings::default(), start);
        for _ in 0..5 {
            run(&mut breaker, Outcome::Success, start);
        }
        for _ in 0..4 {
            run(&mut breaker, Outcome::Failure, start);
        }
        assert_eq!(breaker.state(), State::Closed);
        run(&mut breaker, Outcome::Failure, start);
        assert_eq!(breaker.state(), State::Open);
        breaker
    }

    #[test]
    fn it_opens_at_the_share_and_closes_after_successful_probes() {
        let start = Instant::now();
        let mut breaker = open(start);
        assert_eq!(breaker.admit(at(start, 4)), None);
        assert!(breaker.is_open(at(start, 4)));
        assert!(!breaker.is_open(at(start, 5)));
        let now = at(start, 5);
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Some(Admission::Probe));
        }
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.admit(now), None);
        // Requests from before do not count.
        breaker.record(Admission::Normal, Outcome::Failure, now);
        // A cancelled probe does not count: another may be sent.
        breaker.record(Admission::Probe, Outcome::Cancelled, now);
        assert_eq!(breaker.admit(now), Some(Admission::Probe));
        for _ in 0..3 {
            assert_eq!(breaker.state(), State::HalfOpen);
            breaker.record(Admission::Probe, Outcome::Success, now);
        }
        assert_eq!(breaker.state(), State::Closed);
        // The failures from before are forgotten.
        run(&mut breaker, Outcome::Failure, now);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_again() {
        let start = Instant::now();
        let mut breaker = open(start);
        run(&mut breaker, Outcome::Success, at(start, 5));
        run(&mut breaker, Outcome::Failure, at(start, 5));
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.admit(at(start, 9)), None);
        assert_eq!(breaker.admit(at(start, 10)), Some(Admission::Probe));
    }

    #[test]
    fn failures_that_are_past_do_not_count() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerSettings::default(), start);
        for _ in 0..9 {
            run(&mut breaker, Outcome::Failure, start);
        }
        for _ in 0..9 {
            run(&mut breaker, Outcome::Failure, at(start, 20));
        }
        assert_eq!(breaker.state(), State::Closed);
    }
}
