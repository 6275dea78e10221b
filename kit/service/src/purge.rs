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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::FutureExt;

    use super::*;

    /// How many batches run before the purge waits.
    fn batches(results: &[Result<u64, &'static str>]) -> usize {
        let left = RefCell::new(results.to_vec());
        let batch = || std::future::ready(left.borrow_mut().remove(0));
        let mut run = Box::pin(run_purge("rows", batch));
        // Polled once: it goes on until it sleeps.
        assert_eq!(run.as_mut().now_or_never(), None);
        results.len() - left.borrow().len()
    }

    #[tokio::test]
    async fn batches_are_deleted_until_one_is_not_full() {
        let cases = [
            (vec![Ok(0), Ok(0)], 1),
            (vec![Ok(BATCH - 1), Ok(0)], 1),
            (vec![Ok(BATCH), Ok(BATCH), Ok(3), Ok(0)], 3),
            (
                vec![Ok(BATCH), Err("the database is unavailable"), Ok(0)],
                2,
            ),
        ];
        for (results, expected) in cases {
            assert_eq!(batches(&results), expected, "{results:?}");
        }
    }
}
