//! Events from the payment provider: each is stored once, and only makes the
//! payment's step due.

use std::time::Duration;

use stoa_runtime::clock::micros;
use stoa_service::{failpoint, purge};

use super::saga::Saga;
use crate::domain::PaymentEvent;
use crate::error::Error;
use crate::store::payment;

/// How long a provider's webhook events are kept.
const EVENT_RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Saga {
    /// Stores an event from the payment provider once, and makes the payment's
    /// step due; the step then asks the provider for the current state.
    ///
    /// # Errors
    /// If it could not be stored; the provider will then retry.
    pub async fn event_store(&self, event: &PaymentEvent, body: &[u8]) -> Result<(), Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let provider = self.provider.name();
        if payment::event_insert_in_txn(&txn, provider, event, body, now).await?
            && let Some(order) = &event.order_id
        {
            payment::payment_due_now_in_txn(&txn, order, now).await?;
        }
        txn.commit().await?;
        failpoint::crash_if_chosen("webhook.stored");
        self.wakeup.wake_worker();
        Ok(())
    }

    /// Deletes a batch of events so old that no provider repeats them any more;
    /// returns how many.
    pub async fn events_purge_expired(&self) -> Result<u64, Error> {
        let before = self.clock.now() - micros(EVENT_RETENTION);
        let txn = self.database.begin().await?;
        let deleted = payment::event_purge_expired_in_txn(&txn, before, purge::BATCH).await?;
        txn.commit().await?;
        Ok(deleted)
    }
}
