//! Runs what is due after an order's answer: the steps of sagas, and units that
//! go back. What is due is stored, so that a crash forgets nothing.

use std::collections::HashMap;
use std::time::Duration;

use stoa_kit::fault::point;
use stoa_kit::telemetry;
use stoa_schema::OrderId;
use stoa_schema::peer::ReleaseStock;
use tracing::{Instrument, Span};

use crate::app::App;
use crate::domain::Order;
use crate::error::Error;
use crate::store;
use crate::store::task::{self, StockTask};

const BATCH: u64 = 100;
/// How many steps of one saga may follow each other without a pause.
const ROUNDS: usize = 6;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// Works until the process ends.
pub async fn run_for_ever(app: App) {
    loop {
        let pause = match app.work_once().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the order worker waits");
                IDLE
            }
        };
        let _ = tokio::time::timeout(pause, app.work.notified()).await;
    }
}

impl App {
    /// Does what is due; answers how long nothing more will be.
    ///
    /// # Errors
    /// If the database fails. Failures of peers and of the provider are put
    /// off, each on its own.
    pub async fn work_once(&self) -> Result<Duration, Error> {
        let releases = task::stock_release_due(self.database.read(), BATCH).await?;
        for order in self.orders_of(&releases).await?.values() {
            self.stock_release(order)
                .instrument(span("release", order))
                .await?;
        }
        // A step may make the next one due at once.
        for _ in 0..ROUNDS {
            if self.steps_once().await? == 0 {
                break;
            }
        }
        let next = task::payment_next_due(self.database.read()).await?;
        Ok(next.map_or(IDLE, |at| {
            let wait = u64::try_from(at - self.clock.now()).unwrap_or(0);
            Duration::from_micros(wait).clamp(Duration::from_millis(1), IDLE)
        }))
    }

    /// Runs each step that is due; answers how many there were.
    async fn steps_once(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let payments = task::payment_due(self.database.read(), now, BATCH).await?;
        let ids: Vec<_> = payments
            .iter()
            .map(|due| due.payment.order_id.clone())
            .collect();
        let orders = self.orders_of(&ids).await?;
        for due in &payments {
            let Some(order) = orders.get(&due.payment.order_id) else {
                continue;
            };
            self.saga_step(due, order)
                .instrument(span(due.task.as_str(), order))
                .await?;
        }
        Ok(payments.len())
    }

    async fn orders_of(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Order>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        store::order_fetch_many(self.database.read(), ids).await
    }

    async fn stock_release(&self, order: &Order) -> Result<(), Error> {
        let release = ReleaseStock {
            order_id: order.id.clone(),
        };
        let released = self.peers.call(&order.correlation_id, &release).await;
        point("release.asked");
        match released {
            Ok(_) => {
                let txn = self.database.begin().await?;
                task::stock_task_set_in_txn(&txn, &order.id, StockTask::None).await?;
                txn.commit().await?;
                point("release.stored");
            }
            // The others must not wait for it.
            Err(error) => tracing::warn!(%error, order_id = %order.id, "stock is not released yet"),
        }
        Ok(())
    }
}

/// A step in the trace of the request that placed the order.
fn span(step: &'static str, order: &Order) -> Span {
    let span = tracing::info_span!(
        "order_work",
        step,
        correlation_id = order.correlation_id,
        order_id = %order.id
    );
    telemetry::continue_from(&span, order.traceparent.as_deref());
    span
}
