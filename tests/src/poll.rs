//! Waiting for what is to happen, and watching that something does not, without a
//! sleep whose length must be guessed.

use std::time::{Duration, Instant};

/// How long [`eventually`] waits: enough for a machine whose cores are all busy.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// Polls until a condition holds.
///
/// # Panics
/// If it does not hold within half a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        let elapsed = started.elapsed();
        assert!(elapsed < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Polls for as long as the condition must not come to hold.
///
/// # Panics
/// As soon as it holds.
pub async fn never_within(what: &str, during: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < during {
        assert!(!holds().await, "{what}: after {:?}", started.elapsed());
        tokio::time::sleep(INTERVAL).await;
    }
    assert!(!holds().await, "{what}: after {during:?}");
}
