//! The saga of an order: from placed to confirmed, or back.
//!
//! | step | asks | then |
//! |---|---|---|
//! | AUTHORISE | the provider, to authorise the amount | COMMIT, or cancelled |
//! | COMMIT | products, to make the reservation permanent | CAPTURE, or cancelled and VOID |
//! | CAPTURE | the provider, for the money | confirmed, or cancelled and VOID |
//! | VOID | the provider, to release the authorisation | done, or REFUND if already captured |
//! | REFUND | the provider, to return the money | done |
//!
//! Each step is stored before it runs, together with the change that requires it;
//! an interrupted step runs again with the same idempotency key. Its result is
//! stored only if it is still the current step: a cancellation or another worker
//! may have been faster.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::ConnectionTrait;
use stoa_runtime::backoff::backoff_delay;
use stoa_runtime::clock::{Clock, micros};
use stoa_runtime::telemetry;
use stoa_schema::Money;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::CommitStock;
use stoa_service::database::Database;
use stoa_service::failpoint;
use stoa_service::peer::Peers;
use tracing::Span;

use super::fulfilment::refund_rest_in_txn;
use super::wakeup::Wakeup;
use crate::domain::{
    self, Actor, DuePayment, DueWindow, MAX_REASON, Movement, Order, PaymentState, PaymentTask,
    StockTask,
};
use crate::error::Error;
use crate::payment::{Authorised, Captured, NoResponse, PaymentProvider, Voided};
use crate::store::discount::discount_release_in_txn;
use crate::store::{fulfilment, order as orders, payment};

/// The first retry delay after a failed step.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How soon to ask again about an undecided payment; a webhook usually arrives
/// before.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
const UNDECIDED: &str = "the provider has not decided yet";
/// The longest retry delay of a step.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// The longest interval between queries about an undecided payment.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long an authorisation may take: as long as the units are reserved.
const AUTHORISE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a commit or a capture may take before the order is cancelled.
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// The failpoints for crash tests: around each external call, and after each commit.
pub const FAILPOINTS: &[&str] = &[
    "place.claimed",
    "place.reserved",
    "place.stored",
    "webhook.stored",
    "authorise.asked",
    "authorise.stored",
    "commit.asked",
    "commit.stored",
    "capture.asked",
    "capture.stored",
    "fail.stored",
    "void.asked",
    "void.stored",
    "refund.asked",
    "refund.stored",
    "release.asked",
    "release.stored",
    "return.asked",
    "return.stored",
];

/// The steps of sagas, and the return of units to stock; what is due is stored.
#[derive(Clone)]
pub struct Saga {
    pub(super) database: Database,
    pub(super) peers: Peers,
    pub(super) provider: Arc<dyn PaymentProvider>,
    pub(super) clock: Clock,
    pub(super) wakeup: Wakeup,
}

impl Saga {
    /// The clock that decides what is due.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The payment provider, which verifies webhooks.
    pub fn provider(&self) -> &dyn PaymentProvider {
        &*self.provider
    }

    /// Waits until something may have become due.
    pub async fn woken(&self) {
        self.wakeup.worker_woken().await;
    }

    /// Selects the steps that are due now.
    pub(super) fn due_now(&self) -> DueWindow {
        let now = self.clock.now();
        DueWindow {
            now,
            horizon: now + micros(MAX_RETRY_DELAY),
        }
    }

    /// Runs the current step of a payment; if it fails, postpones it.
    pub(super) async fn saga_step(&self, due: &DuePayment, order: &Order) -> Result<(), Error> {
        let ours = self.provider.handles(&due.payment);
        let done = match due.task {
            PaymentTask::None => Ok(()),
            PaymentTask::Commit => self.commit(due, order).await,
            _ if !ours => Err(Error::Payment(NoResponse(format!(
                "the payment was started with {}: only STOA_PAYMENTS={0} can finish it",
                due.payment.provider
            )))),
            PaymentTask::Authorise => self.authorise(due).await,
            PaymentTask::Capture => self.capture(due).await,
            PaymentTask::Void => self.void(due).await,
            PaymentTask::Refund => self.refund(due).await,
        };
        match done {
            Ok(()) => Ok(()),
            // Whatever the error is, other orders must not be held up by it.
            Err(error) => {
                tracing::warn!(%error, order_id = %order.id, step = due.task.into_str(), "step failed; will retry");
                let at = self.clock.now() + micros(retry_delay(due.attempts));
                let txn = self.database.begin().await?;
                payment::payment_postpone_in_txn(&txn, due, at, true, &failure_reason(&error))
                    .await?;
                txn.commit().await?;
                Ok(())
            }
        }
    }

    async fn authorise(&self, due: &DuePayment) -> Result<(), Error> {
        if self.took_longer_than(due, AUTHORISE_TIMEOUT) {
            let reason = "the payment was not authorised in time";
            return self
                .fail_order(due, PaymentState::Pending, PaymentTask::Void, reason)
                .await;
        }
        let authorised = self.provider.authorise(&due.payment).await;
        let id = &due.payment.order_id;
        match authorised.map_err(Error::Payment)? {
            Authorised::Approved { reference } => {
                failpoint::crash_if_chosen("authorise.asked");
                let txn = self.database.begin().await?;
                if self
                    .order_lock_if_current_in_txn(&txn, due)
                    .await?
                    .is_none()
                {
                    return Ok(());
                }
                let now = self.clock.now();
                let (state, todo) = (PaymentState::Authorised, PaymentTask::Commit);
                payment::payment_set_in_txn(&txn, id, state, todo, now).await?;
                payment::payment_set_reference_in_txn(&txn, id, &reference).await?;
                txn.commit().await?;
                failpoint::crash_if_chosen("authorise.stored");
                Ok(())
            }
            Authorised::Pending { reference } => {
                let now = self.clock.now();
                let age = u64::try_from(now - due.since).unwrap_or(0);
                let retry_delay =
                    Duration::from_micros(age / 10).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);
                let at = now + micros(retry_delay);
                let txn = self.database.begin().await?;
                if due.payment.reference.as_ref() != Some(&reference) {
                    payment::payment_set_reference_in_txn(&txn, id, &reference).await?;
                }
                payment::payment_postpone_in_txn(&txn, due, at, false, UNDECIDED).await?;
                txn.commit().await?;
                Ok(())
            }
            Authorised::Declined { reason } => {
                self.fail_order(due, PaymentState::Declined, PaymentTask::None, &reason)
                    .await
            }
        }
    }

    /// Makes the reservation permanent; cancels the order if it has expired.
    async fn commit(&self, due: &DuePayment, order: &Order) -> Result<(), Error> {
        if self.took_longer_than(due, CAPTURE_TIMEOUT) {
            let reason = "the reservation could not be made permanent in time";
            return self
                .fail_order(due, PaymentState::Authorised, PaymentTask::Void, reason)
                .await;
        }
        let id = &due.payment.order_id;
        let commit = CommitStock {
            order_id: id.clone(),
        };
        let stock = self.peers.call(&order.correlation_id, &commit).await?;
        failpoint::crash_if_chosen("commit.asked");
        if !stock.committed {
            let reason = "the reservation expired before the payment was authorised";
            return self
                .fail_order(due, PaymentState::Authorised, PaymentTask::Void, reason)
                .await;
        }
        self.payment_move(due, PaymentState::Authorised, PaymentTask::Capture)
            .await?;
        failpoint::crash_if_chosen("commit.stored");
        Ok(())
    }

    async fn capture(&self, due: &DuePayment) -> Result<(), Error> {
        if self.took_longer_than(due, CAPTURE_TIMEOUT) {
            let reason = "the payment could not be captured in time";
            return self
                .fail_order(due, PaymentState::Authorised, PaymentTask::Void, reason)
                .await;
        }
        let captured = self.provider.capture(&due.payment).await;
        failpoint::crash_if_chosen("capture.asked");
        if let Captured::Declined { reason } = captured.map_err(Error::Payment)? {
            return self
                .fail_order(due, PaymentState::Authorised, PaymentTask::Void, &reason)
                .await;
        }
        let txn = self.database.begin().await?;
        // If the order was cancelled meanwhile, its void step will find the captured money.
        let Some(mut order) = self.order_lock_if_current_in_txn(&txn, due).await? else {
            return Ok(());
        };
        let now = self.clock.now();
        let change = domain::transition(&mut order, Status::Confirmed, Actor::System, None, now)?;
        orders::order_move_in_txn(&txn, &order, &change).await?;
        self.book_capture_in_txn(&txn, due, PaymentTask::None)
            .await?;
        txn.commit().await?;
        failpoint::crash_if_chosen("capture.stored");
        self.wakeup.after_commit();
        Ok(())
    }

    async fn void(&self, due: &DuePayment) -> Result<(), Error> {
        let voided = self.provider.void(&due.payment).await;
        failpoint::crash_if_chosen("void.asked");
        match voided.map_err(Error::Payment)? {
            Voided::Done => {
                self.payment_move(due, PaymentState::Voided, PaymentTask::None)
                    .await?;
            }
            Voided::Captured => {
                let txn = self.database.begin().await?;
                if let Some(order) = self.order_lock_if_current_in_txn(&txn, due).await? {
                    self.book_capture_in_txn(&txn, due, PaymentTask::Refund)
                        .await?;
                    let (captured, now) = (due.payment.amount.amount_minor, self.clock.now());
                    let actor = Actor::System;
                    refund_rest_in_txn(&txn, &order, captured, actor, now).await?;
                    txn.commit().await?;
                }
            }
        }
        failpoint::crash_if_chosen("void.stored");
        Ok(())
    }

    /// Returns the money of the oldest refund that is not done.
    async fn refund(&self, due: &DuePayment) -> Result<(), Error> {
        let id = &due.payment.order_id;
        let refunds = fulfilment::refund_list(self.database.read(), id).await?;
        let mut pending = refunds.iter().filter(|refund| !refund.done);
        let next = pending.next();
        if let Some(refund) = next {
            let amount = Money::new(refund.amount, due.payment.amount.currency);
            let refunded = self.provider.refund(&due.payment, amount, &refund.id).await;
            failpoint::crash_if_chosen("refund.asked");
            refunded.map_err(Error::Payment)?;
        }
        let txn = self.database.begin().await?;
        if self
            .order_lock_if_current_in_txn(&txn, due)
            .await?
            .is_some()
        {
            let now = self.clock.now();
            if let Some(refund) = next {
                let (kind, amount) = (Movement::Refund, refund.amount);
                payment::movement_insert_in_txn(&txn, id, kind, &refund.id, amount, now).await?;
                fulfilment::refund_done_in_txn(&txn, &refund.id).await?;
            }
            // More refunds may have been requested meanwhile.
            let refunds = fulfilment::refund_list(&txn, id).await?;
            let todo = match refunds.iter().all(|refund| refund.done) {
                true => PaymentTask::None,
                false => PaymentTask::Refund,
            };
            let returned: i64 = (refunds.iter())
                .filter(|refund| refund.done)
                .map(|refund| refund.amount)
                .sum();
            let state = match returned >= due.captured && todo == PaymentTask::None {
                true => PaymentState::Refunded,
                false => PaymentState::Captured,
            };
            payment::payment_set_in_txn(&txn, id, state, todo, now).await?;
            txn.commit().await?;
        }
        failpoint::crash_if_chosen("refund.stored");
        Ok(())
    }

    /// Records that the whole amount was captured.
    async fn book_capture_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        due: &DuePayment,
        todo: PaymentTask,
    ) -> Result<(), Error> {
        let id = &due.payment.order_id;
        let now = self.clock.now();
        let amount = due.payment.amount.amount_minor;
        let key = format!("{id}:capture");
        payment::movement_insert_in_txn(txn, id, Movement::Capture, &key, amount, now).await?;
        payment::payment_set_in_txn(txn, id, PaymentState::Captured, todo, now).await?;
        Ok(())
    }

    /// Locks a payment's order; `None` if another worker or a cancellation has
    /// changed the payment's step or state since it was read.
    async fn order_lock_if_current_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        due: &DuePayment,
    ) -> Result<Option<Order>, Error> {
        let id = &due.payment.order_id;
        let order = orders::order_lock_in_txn(txn, id).await?;
        let now = payment::payment_fetch(txn, id).await?;
        Ok(order.filter(|_| now.task == due.task && now.state == due.state))
    }

    /// Cancels an order that cannot be confirmed, and has its units released.
    async fn fail_order(
        &self,
        due: &DuePayment,
        state: PaymentState,
        todo: PaymentTask,
        reason: &str,
    ) -> Result<(), Error> {
        let id = &due.payment.order_id;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let Some(mut order) = self.order_lock_if_current_in_txn(&txn, due).await? else {
            return Ok(());
        };
        let reason = Some(clean_text(reason));
        let change = domain::transition(&mut order, Status::Cancelled, Actor::System, reason, now)?;
        orders::order_move_in_txn(&txn, &order, &change).await?;
        payment::stock_task_insert_in_txn(&txn, id.as_str(), id, StockTask::Release, now).await?;
        discount_release_in_txn(&txn, &order).await?;
        payment::payment_set_in_txn(&txn, id, state, todo, now).await?;
        txn.commit().await?;
        failpoint::crash_if_chosen("fail.stored");
        self.wakeup.after_commit();
        Ok(())
    }

    /// Stores the payment's new state and its next step.
    async fn payment_move(
        &self,
        due: &DuePayment,
        state: PaymentState,
        todo: PaymentTask,
    ) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        if self
            .order_lock_if_current_in_txn(&txn, due)
            .await?
            .is_some()
        {
            let id = &due.payment.order_id;
            payment::payment_set_in_txn(&txn, id, state, todo, self.clock.now()).await?;
            txn.commit().await?;
        }
        Ok(())
    }

    fn took_longer_than(&self, due: &DuePayment, limit: Duration) -> bool {
        self.clock.now() > due.since + micros(limit)
    }
}

/// The retry delay of a step after this many failed attempts.
pub(super) fn retry_delay(attempts: i64) -> Duration {
    backoff_delay(attempts, MIN_RETRY_DELAY, MAX_RETRY_DELAY)
}

/// Why a step failed, for administrators.
pub(super) fn failure_reason(error: &Error) -> String {
    match error {
        Error::Payment(cause) => clean_text(&cause.to_string()),
        Error::PeerUnavailable(cause) => clean_text(&cause.to_string()),
        _ => "the orders service failed: see its log".to_owned(),
    }
}

/// A provider's text, cleaned and shortened to fit the columns.
fn clean_text(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control());
    kept.take(MAX_REASON).collect()
}

/// The span of a step, in the trace of the request that placed the order.
pub(super) fn order_work_span(step: &'static str, order: &Order) -> Span {
    let span = tracing::info_span!(
        "order_work",
        step,
        correlation_id = order.correlation_id,
        order_id = %order.id
    );
    telemetry::continue_from_traceparent(&span, order.traceparent.as_deref());
    span
}
