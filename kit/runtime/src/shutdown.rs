//! Ending: requests under way are finished, but not waited for without end.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long requests under way may still take.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs a server that begins to drain when `stop` is cancelled, and gives up
/// on what is still open after a while.
///
/// # Errors
/// Those of the server.
pub async fn bounded(
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
            tracing::warn!("some requests were still open and are cut off");
            Ok(())
        }
    }
}
