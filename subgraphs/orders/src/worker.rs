//! What happens after an order's answer: its payment settles, money goes back,
//! units go back. Each step is stored before it is due and may run again.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::ConnectionTrait;
use stoa_kit::clock::micros;
use stoa_kit::telemetry;
use stoa_schema::OrderId;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::{CommitStock, ReleaseStock};
use tracing::{Instrument, Span};

use crate::app::App;
use crate::domain::{self, Actor, Order};
use crate::error::Error;
use crate::payment::Outcome;
use crate::store;
use crate::store::task::{self, DuePayment, PaymentState, PaymentTask, StockTask};

const BATCH: u64 = 100;
/// How soon to ask again about a payment that is not decided.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
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
        let now = self.clock.now();
        let payments = task::payment_due(self.database.read(), now, BATCH).await?;
        let ids: Vec<_> = payments
            .iter()
            .map(|due| due.payment.order_id.clone())
            .collect();
        let orders = self.orders_of(&ids).await?;
        for due in payments {
            let Some(order) = orders.get(&due.payment.order_id) else {
                continue;
            };
            self.payment_step(&due, &order.correlation_id)
                .instrument(span("settle", order))
                .await?;
        }
        let next = task::payment_next_due(self.database.read()).await?;
        Ok(next.map_or(IDLE, |at| {
            let wait = u64::try_from(at - self.clock.now()).unwrap_or(0);
            Duration::from_micros(wait).clamp(Duration::from_millis(1), IDLE)
        }))
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
        match self.peers.call(&order.correlation_id, &release).await {
            Ok(_) => {
                let txn = self.database.begin().await?;
                task::stock_task_set_in_txn(&txn, &order.id, StockTask::None).await?;
                txn.commit().await?;
            }
            // The others must not wait for it.
            Err(error) => tracing::warn!(%error, order_id = %order.id, "stock is not released yet"),
        }
        Ok(())
    }

    async fn payment_step(&self, due: &DuePayment, correlation_id: &str) -> Result<(), Error> {
        match self.payment_work(due, correlation_id).await {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, order_id = %due.payment.order_id, "a payment step will be repeated");
                self.postpone(due, backoff(due.attempts)).await
            }
        }
    }

    async fn payment_work(&self, due: &DuePayment, correlation_id: &str) -> Result<(), Error> {
        let payment = &due.payment;
        match due.task {
            PaymentTask::None => Ok(()),
            PaymentTask::Settle => {
                let now = self.clock.now();
                match self.provider.outcome(payment, now).await {
                    Ok(Outcome::Pending) => self.postpone(due, ASK_AGAIN).await,
                    Ok(Outcome::Captured) => self.captured(due, correlation_id).await,
                    Ok(Outcome::Declined) => {
                        let reason = "the payment was declined";
                        self.fail_order(due, PaymentState::Declined, reason).await
                    }
                    Err(error) => Err(Error::Payment(error)),
                }
            }
            PaymentTask::Void => {
                // The money may have come before the order was called off.
                let now = self.clock.now();
                match self.provider.outcome(payment, now).await {
                    Ok(Outcome::Captured) => {
                        self.payment_move(due, PaymentState::Captured, PaymentTask::Refund)
                            .await
                    }
                    Ok(Outcome::Declined) => {
                        self.payment_move(due, PaymentState::Declined, PaymentTask::None)
                            .await
                    }
                    Ok(Outcome::Pending) => {
                        self.provider.void(payment).await.map_err(Error::Payment)?;
                        self.payment_move(due, PaymentState::Voided, PaymentTask::None)
                            .await
                    }
                    Err(error) => Err(Error::Payment(error)),
                }
            }
            PaymentTask::Refund => {
                self.provider
                    .refund(payment)
                    .await
                    .map_err(Error::Payment)?;
                self.payment_move(due, PaymentState::Refunded, PaymentTask::None)
                    .await
            }
        }
    }

    /// The money is there: the units become the order's, then it is confirmed.
    async fn captured(&self, due: &DuePayment, correlation_id: &str) -> Result<(), Error> {
        let id = &due.payment.order_id;
        let commit = CommitStock {
            order_id: id.clone(),
        };
        let stock = self.peers.call(correlation_id, &commit).await?;
        if !stock.committed {
            let reason = "the reservation ran out before the payment came";
            return self.fail_order(due, PaymentState::Captured, reason).await;
        }
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let Some(mut order) = self.order_if_still_in_txn(&txn, due).await? else {
            return Ok(());
        };
        let todo = if order.status == Status::Pending {
            let change =
                domain::transition(&mut order, Status::Confirmed, Actor::System, None, now)?;
            store::order_move_in_txn(&txn, &order, &change).await?;
            PaymentTask::None
        } else {
            PaymentTask::Refund
        };
        task::payment_set_in_txn(&txn, id, PaymentState::Captured, todo, now).await?;
        txn.commit().await?;
        self.committed();
        Ok(())
    }

    /// Locks a payment's order; `None` if somebody else, another worker or a
    /// cancellation, has changed what is to be done since we read it.
    async fn order_if_still_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        due: &DuePayment,
    ) -> Result<Option<Order>, Error> {
        let id = &due.payment.order_id;
        let order = store::order_lock_in_txn(txn, id).await?;
        let now = task::payment_fetch(txn, id).await?;
        Ok(order.filter(|_| now.task == due.task && now.state == due.state))
    }

    /// Cancels an order that cannot be had; captured money goes back.
    async fn fail_order(
        &self,
        due: &DuePayment,
        state: PaymentState,
        reason: &str,
    ) -> Result<(), Error> {
        let id = &due.payment.order_id;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let Some(mut order) = self.order_if_still_in_txn(&txn, due).await? else {
            return Ok(());
        };
        if order.status == Status::Pending {
            let change = domain::transition(
                &mut order,
                Status::Cancelled,
                Actor::System,
                Some(reason.to_owned()),
                now,
            )?;
            store::order_move_in_txn(&txn, &order, &change).await?;
            task::stock_task_set_in_txn(&txn, id, StockTask::Release).await?;
        }
        let todo = if state == PaymentState::Captured {
            PaymentTask::Refund
        } else {
            PaymentTask::None
        };
        task::payment_set_in_txn(&txn, id, state, todo, now).await?;
        txn.commit().await?;
        self.committed();
        Ok(())
    }

    /// Notes what became of a payment whose order is decided.
    async fn payment_move(
        &self,
        due: &DuePayment,
        state: PaymentState,
        todo: PaymentTask,
    ) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        if self.order_if_still_in_txn(&txn, due).await?.is_some() {
            let id = &due.payment.order_id;
            task::payment_set_in_txn(&txn, id, state, todo, self.clock.now()).await?;
            txn.commit().await?;
            self.work.notify_one();
        }
        Ok(())
    }

    async fn postpone(&self, due: &DuePayment, by: Duration) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        let at = self.clock.now() + micros(by);
        task::payment_postpone_in_txn(&txn, &due.payment.order_id, due.task, at).await?;
        txn.commit().await?;
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

/// From a tenth of a second to a minute, doubling.
fn backoff(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 10)).unwrap_or(0);
    (ASK_AGAIN * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}
