//! Two counts over the last seconds.

use std::time::{Duration, Instant};

const BUCKETS: usize = 10;

/// Counts of the last ten tenths of a length of time.
#[derive(Debug)]
pub struct Window {
    buckets: [[u32; 2]; BUCKETS],
    bucket: Duration,
    /// When the newest bucket began.
    began: Instant,
    newest: usize,
}

impl Window {
    pub fn new(length: Duration, now: Instant) -> Self {
        Self {
            buckets: [[0; 2]; BUCKETS],
            bucket: (length / 10).max(Duration::from_millis(1)),
            began: now,
            newest: 0,
        }
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Instant) {
        let mut cleared = 0;
        while now.saturating_duration_since(self.began) >= self.bucket {
            if cleared == BUCKETS {
                // Nothing was counted for longer than the window.
                self.began = now;
                return;
            }
            self.began += self.bucket;
            self.newest = (self.newest + 1) % BUCKETS;
            self.buckets[self.newest] = [0; 2];
            cleared += 1;
        }
    }

    /// Adds to the two counts.
    pub fn add(&mut self, now: Instant, counts: [u32; 2]) {
        self.advance(now);
        for (kept, more) in self.buckets[self.newest].iter_mut().zip(counts) {
            *kept = kept.saturating_add(more);
        }
    }

    /// The two counts.
    pub fn sums(&mut self, now: Instant) -> [u32; 2] {
        self.advance(now);
        self.buckets.iter().fold([0; 2], |[a, b], [c, d]| {
            [a.saturating_add(*c), b.saturating_add(*d)]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(at(0), [1, 0]);
        window.add(at(1_500), [2, 1]);
        assert_eq!(window.sums(at(9_900)), [3, 1]);
        assert_eq!(window.sums(at(10_000)), [2, 1]);
        assert_eq!(window.sums(at(11_000)), [0, 0]);
        window.add(at(11_000), [5, 5]);
        assert_eq!(window.sums(at(500_000)), [0, 0]);
        window.add(at(500_000), [1, 1]);
        assert_eq!(window.sums(at(500_001)), [1, 1]);
        // A clock that goes back changes nothing.
        assert_eq!(window.sums(at(0)), [1, 1]);
    }
}
