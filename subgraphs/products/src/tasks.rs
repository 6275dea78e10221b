//! What runs in the background.

use std::time::Duration;

use stoa_service::idempotency;
use stoa_service::service::Task;

use crate::app::App;

const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// What runs for as long as the process does.
pub fn background(app: &App) -> Vec<Task> {
    vec![
        Box::pin(run_reservation_expiry(app.clone())),
        Box::pin(idempotency::run_purge(
            app.database.clone(),
            app.clock.clone(),
        )),
    ]
}

/// Releases expired reservations until the process ends.
async fn run_reservation_expiry(app: App) {
    loop {
        tokio::time::sleep(EXPIRY_INTERVAL).await;
        if let Err(error) = app.release_expired_reservations().await {
            tracing::warn!(%error, "cannot release expired reservations");
        }
    }
}
