//! Time as an input. The unit everywhere is microseconds since the Unix epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

/// Microseconds since the Unix epoch.
pub type Micros = i64;

/// Where a service reads the time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is moved.
    pub fn manual(now: Micros) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now))))
    }

    pub fn now(&self) -> Micros {
        match &self.0 {
            Some(manual) => manual.load(Ordering::SeqCst),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, micros),
        }
    }

    /// Moves a manual clock; the machine's clock stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(micros(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock, also back; the machine's clock stays as it is.
    pub fn set(&self, now: Micros) {
        if let Some(manual) = &self.0 {
            manual.store(now, Ordering::SeqCst);
        }
    }
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, as events and GraphQL carry it.
pub fn to_rfc3339(at: Micros) -> String {
    DateTime::from_timestamp_micros(at)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Reads what [`to_rfc3339`] wrote.
pub fn from_rfc3339(text: &str) -> Option<Micros> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_text_in_utc_and_comes_back() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_795_339_800_000_007, "2026-11-22T09:30:00.000007Z"),
        ];
        for (at, text) in cases {
            assert_eq!(to_rfc3339(at), text);
            assert_eq!(from_rfc3339(text), Some(at));
        }
        let elsewhere = from_rfc3339("2026-11-22T10:30:00.000007+01:00");
        assert_eq!(elsewhere, Some(1_795_339_800_000_007));
        for bad in ["", "now", "2026-11-22", "2026-11-22T09:30:00", "1"] {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_too_long_to_count_is_the_longest() {
        assert_eq!(micros(Duration::from_secs(2)), 2_000_000);
        assert_eq!(micros(Duration::from_nanos(1_999)), 1);
        assert_eq!(micros(Duration::MAX), Micros::MAX);
    }

    #[test]
    fn a_manual_clock_moves_for_all_of_its_clones_and_not_by_itself() {
        let clock = Clock::manual(1_000_000);
        let clone = clock.clone();
        clock.advance(Duration::from_micros(5));
        assert_eq!(clone.now(), 1_000_005);
        clone.set(7);
        assert_eq!(clock.now(), 7);
    }

    #[test]
    fn the_clock_of_the_machine_is_not_moved() {
        let clock = Clock::system();
        let before = clock.now();
        clock.advance(Duration::from_secs(1_000_000));
        assert!(clock.now() < before + micros(Duration::from_secs(500_000)));
        clock.set(0);
        assert!(clock.now() >= before);
    }
}
