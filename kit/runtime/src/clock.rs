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
