//! A cache of JSON values with a time to live each, in memory. It holds what
//! may be a little old; stock never is, and is never in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

const CAPACITY: u64 = 10_000;

/// Shared by all clones.
#[derive(Clone)]
pub struct Cache {
    entries: moka::sync::Cache<String, Entry>,
    removals: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Entry {
    value: Arc<str>,
    until: Instant,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            entries: moka::sync::Cache::new(CAPACITY),
            removals: Arc::default(),
        }
    }
}

impl Cache {
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let entry = self.entries.get(key)?;
        if entry.until < Instant::now() {
            self.entries.invalidate(key);
            return None;
        }
        serde_json::from_str(&entry.value).ok()
    }

    pub fn put<T: Serialize>(&self, key: &str, value: &T, ttl: Duration) {
        if let Ok(json) = serde_json::to_string(value) {
            let entry = Entry {
                value: json.into(),
                until: Instant::now() + ttl,
            };
            self.entries.insert(key.to_owned(), entry);
        }
    }

    pub fn remove(&self, key: &str) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key);
    }

    /// Changes with each removal: whoever reads it before a slow look-up can
    /// tell whether what they found is already old.
    pub fn generation(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }
}
