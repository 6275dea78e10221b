//! What runs in the background.

use std::time::Duration;

use stoa_service::service::Task;

use crate::app::App;

const TOKEN_PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// What runs for as long as the process does.
pub fn background(app: &App) -> Vec<Task> {
    vec![Box::pin(run_token_purge(app.clone()))]
}

/// Deletes expired refresh tokens until the process ends.
async fn run_token_purge(app: App) {
    loop {
        if let Err(error) = app.tokens_purge_expired().await {
            tracing::warn!(%error, "cannot delete expired tokens");
        }
        tokio::time::sleep(TOKEN_PURGE_INTERVAL).await;
    }
}
