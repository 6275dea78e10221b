//! Exponential backoff, up to a limit.

use std::time::Duration;

/// A pause that doubles from 50 ms up to a limit, 30 seconds by default.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(30))
    }
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Self {
        Self {
            next: Duration::from_millis(50),
            longest,
        }
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}

/// The pause after this many failed attempts: it doubles from `shortest` up to
/// `longest`.
pub fn backoff_delay(attempts: i64, shortest: Duration, longest: Duration) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
    shortest.saturating_mul(1 << doublings).min(longest)
}
