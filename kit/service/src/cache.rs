//! A cache of JSON values, in memory or in Redis. It holds data that may be
//! slightly stale; stock must not be, and is never cached.
//!
//! Values are grouped in regions. A region is invalidated as a whole, by a new
//! generation: a value that was loaded before a change is stored under the old
//! generation, which is no longer read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use serde::Serialize;
use serde::de::DeserializeOwned;

use stoa_runtime::redis::Redis;

/// The maximum number of bytes kept in memory.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// The upper limit of any region's time to live.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 60);

/// Where values are kept. Shared by all clones.
#[derive(Clone)]
pub enum Cache {
    Memory(moka::sync::Cache<String, Entry>),
    Redis(Redis),
}

/// A value in memory, and when it expires.
#[derive(Clone)]
pub struct Entry {
    value: Arc<str>,
    until: Instant,
}

impl Cache {
    pub fn memory() -> Self {
        let bytes = |key: &String, entry: &Entry| {
            u32::try_from(key.len() + entry.value.len()).unwrap_or(u32::MAX)
        };
        Self::Memory(
            moka::sync::Cache::builder()
                .weigher(bytes)
                .max_capacity(CAPACITY)
                .time_to_live(LONGEST_TTL)
                .build(),
        )
    }

    /// Values of one kind, with one time to live.
    pub fn region(&self, name: &'static str, ttl: Duration) -> Region {
        Region {
            cache: self.clone(),
            name,
            ttl,
            generation: Arc::default(),
            changes: Arc::default(),
            sent_changes: Arc::default(),
        }
    }
}

/// Values of one kind. Shared by all clones.
#[derive(Clone)]
pub struct Region {
    cache: Cache,
    name: &'static str,
    ttl: Duration,
    /// In memory; in Redis it is a key.
    generation: Arc<AtomicU64>,
    /// How many invalidations there were, and how many of them have reached Redis.
    changes: Arc<AtomicU64>,
    sent_changes: Arc<AtomicU64>,
}

impl Region {
    /// Returns values by key, loading those that are not cached. While the cache is
    /// unavailable, everything is loaded.
    ///
    /// # Errors
    /// Those of `load`.
    pub async fn fetch_many<K, V, E>(
        &self,
        keys: &[K],
        load: impl AsyncFnOnce(&[K]) -> Result<HashMap<K, V>, E>,
    ) -> Result<HashMap<K, V>, E>
    where
        K: Hash + Eq + Clone + AsRef<str>,
        V: Serialize + DeserializeOwned,
    {
        let Some(generation) = self.generation().await else {
            return load(keys).await;
        };
        let names: Vec<String> = keys
            .iter()
            .map(|key| format!("stoa:{}:{generation}:{}", self.name, key.as_ref()))
            .collect();
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for (key, value) in keys.iter().zip(self.get(&names).await) {
            match value.and_then(|json| serde_json::from_str(&json).ok()) {
                Some(value) => {
                    found.insert(key.clone(), value);
                }
                None => missing.push(key.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let loaded = load(&missing).await?;
        let entries: Vec<(&String, String)> = keys
            .iter()
            .zip(&names)
            .filter_map(|(key, name)| {
                let value = loaded.get(key)?;
                Some((name, serde_json::to_string(value).ok()?))
            })
            .collect();
        self.put(&entries).await;
        found.extend(loaded);
        Ok(found)
    }

    /// Returns one value, loading it if it is not cached.
    ///
    /// # Errors
    /// Those of `load`.
    pub async fn fetch<V, E>(
        &self,
        key: &str,
        load: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E>
    where
        V: Serialize + DeserializeOwned,
    {
        let Some(generation) = self.generation().await else {
            return load().await;
        };
        let name = format!("stoa:{}:{generation}:{key}", self.name);
        let cached = self.get(std::slice::from_ref(&name)).await.pop().flatten();
        if let Some(value) = cached.and_then(|json| serde_json::from_str(&json).ok()) {
            return Ok(value);
        }
        let value = load().await?;
        if let Ok(json) = serde_json::to_string(&value) {
            self.put(&[(&name, json)]).await;
        }
        Ok(value)
    }

    /// Invalidates all values, after a change was committed.
    pub async fn invalidate(&self) {
        Self::invalidate_all(&[self]).await;
    }

    /// As [`Region::invalidate`], for several: all are marked before Redis
    /// hears of the first, so that none is forgotten if this call is cancelled.
    pub async fn invalidate_all(regions: &[&Self]) {
        for region in regions {
            region.changes.fetch_add(1, Ordering::SeqCst);
            region.generation.fetch_add(1, Ordering::SeqCst);
        }
        for region in regions {
            region.generation().await;
        }
    }

    fn generation_key(&self) -> String {
        format!("stoa:{}:generation", self.name)
    }

    /// `None` while the cache is unavailable.
    async fn generation(&self) -> Option<u64> {
        let Cache::Redis(redis) = &self.cache else {
            return Some(self.generation.load(Ordering::SeqCst));
        };
        let key = self.generation_key();
        // Invalidations that have not reached Redis yet are sent now.
        let changes = self.changes.load(Ordering::SeqCst);
        if changes > self.sent_changes.load(Ordering::SeqCst) {
            let generation = redis
                .run(async |mut connection| connection.incr(&key, 1_u64).await)
                .await?;
            self.sent_changes.fetch_max(changes, Ordering::SeqCst);
            return Some(generation);
        }
        redis
            .run(async |mut connection| connection.get::<_, Option<u64>>(&key).await)
            .await
            .map(Option::unwrap_or_default)
    }

    async fn get(&self, names: &[String]) -> Vec<Option<Arc<str>>> {
        match &self.cache {
            Cache::Memory(entries) => names
                .iter()
                .map(|name| {
                    let entry = entries.get(name)?;
                    (entry.until > Instant::now()).then_some(entry.value)
                })
                .collect(),
            Cache::Redis(redis) => redis
                .run(async |mut connection| connection.mget::<_, Vec<Option<String>>>(names).await)
                .await
                .map(|values| values.into_iter().map(|v| v.map(Into::into)).collect())
                .unwrap_or_else(|| vec![None; names.len()]),
        }
    }

    async fn put(&self, entries: &[(&String, String)]) {
        if entries.is_empty() {
            return;
        }
        match &self.cache {
            Cache::Memory(kept) => {
                let until = Instant::now() + self.ttl;
                for (name, value) in entries {
                    let entry = Entry {
                        value: value.as_str().into(),
                        until,
                    };
                    kept.insert((*name).clone(), entry);
                }
            }
            Cache::Redis(redis) => {
                let mut pipe = redis::pipe();
                for (name, value) in entries {
                    pipe.set_ex(*name, value, self.ttl.as_secs()).ignore();
                }
                redis
                    .run(async |mut connection| pipe.query_async::<()>(&mut connection).await)
                    .await;
            }
        }
    }
}
