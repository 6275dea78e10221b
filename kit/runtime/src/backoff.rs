//! Exponential backoff, up to a limit.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

const SHORTEST: Duration = Duration::from_millis(50);

/// A pause that doubles from 50 ms up to a limit, 30 seconds by default. Up to
/// as much again is added at random, so that replicas that failed together do
/// not try again together.
#[derive(Debug)]
pub struct Backoff {
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(30))
    }
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(SHORTEST)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self {
            pauses: pauses.build(),
            longest,
        }
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.longest)
    }
}

/// The pause after this many failed attempts, where those are stored: it doubles from `shortest` up to
/// `longest`.
pub fn backoff_delay(attempts: i64, shortest: Duration, longest: Duration) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
    shortest.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_with_jitter() {
        let longest = Duration::from_secs(1);
        let mut backoff = Backoff::up_to(longest);
        for base in [50, 100, 200, 400, 800, 1_000, 1_000, 1_000] {
            let (pause, base) = (backoff.next(), Duration::from_millis(base));
            assert!(pause >= base && pause <= base * 2, "{pause:?} for {base:?}");
        }
    }

    #[test]
    fn the_delay_of_stored_attempts_is_the_same_each_time() {
        let delay = |attempts| backoff_delay(attempts, SHORTEST, Duration::from_secs(1));
        let millis = [-1, 0, 1, 4, 5, 1_000].map(|attempts| delay(attempts).as_millis());
        assert_eq!(millis, [50, 50, 100, 800, 1_000, 1_000]);
    }
}
