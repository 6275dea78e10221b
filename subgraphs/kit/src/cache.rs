//! A cache of JSON values with a time to live each, in memory. It holds what
//! may be a little old; stock never is, and is never in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

const CAPACITY: u64 = 10_000;

/// Shared by all clones.
#[derive(Clone)]
pub struct Cache(moka::sync::Cache<String, Entry>);

#[derive(Clone)]
struct Entry {
    value: Arc<str>,
    until: Instant,
}

impl Default for Cache {
    fn default() -> Self {
        Self(moka::sync::Cache::new(CAPACITY))
    }
}

impl Cache {
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let entry = self.0.get(key)?;
        if entry.until < Instant::now() {
            self.0.invalidate(key);
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
            self.0.insert(key.to_owned(), entry);
        }
    }

    pub fn remove(&self, key: &str) {
        self.0.invalidate(key);
    }
}
