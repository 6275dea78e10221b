//! Runs what is due after an order's answer: the steps of sagas, and units that
//! go back. What is due is stored, so that a crash forgets nothing.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use stoa_kit::clock::micros;
use stoa_kit::fault::point;
use stoa_kit::peer::PeerError;
use stoa_kit::telemetry;
use stoa_schema::OrderId;
use stoa_schema::peer::{ReleaseStock, ReturnStock};
use tracing::{Instrument, Span};

use crate::app::App;
use crate::domain::Order;
use crate::error::Error;
use crate::saga::LONGEST_PAUSE;
use crate::store;
use crate::store::fulfilment;
use crate::store::task::{self, StockTask};

const BATCH: u64 = 100;
/// How many steps of one saga may follow each other without a pause.
const ROUNDS: usize = 6;
/// How many steps run at once.
const AT_ONCE: usize = 8;
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
        // Units first: a provider that is slow must not keep them.
        self.units_once().await?;
        // A step may make the next one due at once.
        for _ in 0..ROUNDS {
            if self.steps_once().await? == 0 {
                break;
            }
        }
        self.units_once().await?;
        let next = task::payment_next_due(self.database.read()).await?;
        Ok(next.map_or(IDLE, |at| {
            let wait = u64::try_from(at - self.clock.now()).unwrap_or(0);
            Duration::from_micros(wait).clamp(Duration::from_millis(1), IDLE)
        }))
    }

    /// Puts back the units that are to go back.
    async fn units_once(&self) -> Result<(), Error> {
        let releases = task::stock_release_due(self.database.read(), BATCH).await?;
        for order in self.orders_of(&releases).await?.values() {
            let released = self.stock_release(order);
            // Whoever is away is away for the next one as well.
            if !released.instrument(span("release", order)).await? {
                break;
            }
        }
        for due in fulfilment::return_due(self.database.read(), BATCH).await? {
            if !self.stock_return(&due).await? {
                break;
            }
        }
        Ok(())
    }

    /// Runs each step that is due; answers how many there were.
    async fn steps_once(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let horizon = now + micros(LONGEST_PAUSE);
        let payments = task::payment_due(self.database.read(), now, horizon, BATCH).await?;
        let ids: Vec<_> = payments
            .iter()
            .map(|due| due.payment.order_id.clone())
            .collect();
        let orders = self.orders_of(&ids).await?;
        let count = payments.len();
        let mut steps = Vec::with_capacity(count);
        for due in payments {
            let Some(order) = orders.get(&due.payment.order_id).cloned() else {
                continue;
            };
            let (app, span) = (self.clone(), span(due.task.as_str(), &order));
            steps.push(async move { app.saga_step(&due, &order).await }.instrument(span));
        }
        let done: Vec<Result<(), Error>> = stream::iter(steps)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        // Each had its turn before one that could not even be put off ends this.
        done.into_iter().collect::<Result<(), Error>>()?;
        Ok(count)
    }

    async fn orders_of(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Order>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        match store::order_fetch_many(self.database.read(), ids).await {
            Err(Error::Corrupt(_)) => {}
            fetched => return fetched,
        }
        // One that cannot be read must not keep the others.
        let mut found = HashMap::new();
        for id in ids {
            let one = std::slice::from_ref(id);
            match store::order_fetch_many(self.database.read(), one).await {
                Ok(order) => found.extend(order),
                Err(Error::Corrupt(reason)) => {
                    tracing::error!(reason, order_id = %id, "an order cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Whether products answered.
    async fn stock_return(&self, due: &ReturnStock) -> Result<bool, Error> {
        let correlation = due.order_id.as_str();
        let returned = self.peers.call(correlation, due).await;
        point("return.asked");
        if let Err(error) = returned {
            tracing::warn!(%error, order_id = %due.order_id, "units are not back yet");
            // One that fails must not keep the others.
            return Ok(!matches!(error, PeerError::Unreachable { .. }));
        }
        let txn = self.database.begin().await?;
        fulfilment::return_done_in_txn(&txn, &due.return_id).await?;
        txn.commit().await?;
        point("return.stored");
        Ok(true)
    }

    /// Whether products answered.
    async fn stock_release(&self, order: &Order) -> Result<bool, Error> {
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
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, order_id = %order.id, "stock is not released yet");
                Ok(false)
            }
        }
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
