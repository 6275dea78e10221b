//! Deletes expired rows in batches, so that no other transaction waits long for
//! the database.

use std::fmt::Display;
use std::time::Duration;

/// The maximum number of rows in a batch.
pub const BATCH: u64 = 1_000;
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Deletes batches until one is not full, then waits an hour and starts again.
/// `batch` returns how many rows it deleted.
pub async fn run_purge<E, F>(what: &'static str, batch: impl Fn() -> F)
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
        tokio::time::sleep(INTERVAL).await;
    }
}
