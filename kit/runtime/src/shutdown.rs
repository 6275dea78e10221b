//! Graceful shutdown: requests in progress may finish, within a time limit.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long requests in progress may still take.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs a server that starts to drain when `stop` is cancelled, and stops waiting
/// for requests that are still open after `DRAIN`.
///
/// # Errors
/// Those of the server.
pub async fn run_until_drained(
    serving: impl Future<Output = io::Result<()>>,
    stop: &CancellationToken,
) -> io::Result<()> {
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served,
        () = patience => {
            tracing::warn!("shutdown timed out; requests that are still open are aborted");
            Ok(())
        }
    }
}
