//! Deleting what has expired: a batch at a time, so that nobody waits long for
//! the database.

use std::fmt::Display;
use std::time::Duration;

/// How many rows a batch has at most.
pub const BATCH: u64 = 1_000;
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Deletes batches for as long as they are full, then rests for an hour.
/// `batch` answers how many rows it deleted.
pub async fn run<E, F>(what: &'static str, batch: impl Fn() -> F)
where
    E: Display,
    F: Future<Output = Result<u64, E>>,
{
    loop {
        match batch().await {
            Ok(BATCH..) => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, what, "expired rows could not be deleted; the next attempt is in an hour")
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
