//! What is woken after a commit, instead of waiting for its next poll.

use std::sync::Arc;

use stoa_service::outbox::Relay;
use tokio::sync::Notify;

/// Wakes the outbox relay and the order worker.
#[derive(Clone)]
pub struct Wakeup {
    relay: Relay,
    worker: Arc<Notify>,
}

impl Wakeup {
    pub fn new(relay: Relay) -> Self {
        Self {
            relay,
            worker: Arc::default(),
        }
    }

    /// After a commit that stored events or made tasks due.
    pub fn after_commit(&self) {
        self.relay.wake();
        self.wake_worker();
    }

    /// After a commit that made tasks due.
    pub fn wake_worker(&self) {
        self.worker.notify_one();
    }

    /// Waits until the worker is woken.
    pub async fn worker_woken(&self) {
        self.worker.notified().await;
    }
}
