//! Changing an order: cancelling, shipping, delivering and refunding it.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use serde_json::json;
use stoa_runtime::clock::Micros;
use stoa_runtime::identity::Caller;
use stoa_schema::OrderId;
use stoa_schema::events::OrderStatus as Status;
use stoa_service::context::CallerExt;
use stoa_service::failpoint;
use stoa_service::idempotency::{ClaimOutcome, IdempotencyKey};

use super::order::Orders;
use super::place::StoredOutcome;
use crate::domain::{
    self, Actor, LineQuantity, MAX_REASON, Order, PaymentState, PaymentTask, Problem, ProblemCode,
    Refund, RefundRequest, Shipment, StockTask,
};
use crate::error::Error;
use crate::store::discount::discount_release_in_txn;
use crate::store::{fulfilment as rows, order as orders, payment};

/// The longest name of a carrier, and the longest tracking number.
pub const MAX_TRACKING: usize = 100;

/// A request to ship units of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ShipmentRequest {
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
    /// `None` for everything that is left.
    pub lines: Option<Vec<LineQuantity>>,
}

/// A requested change to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum OrderAction {
    Cancel,
    Ship(ShipmentRequest),
    Deliver,
    Refund(RefundRequest),
}

impl OrderAction {
    /// Ships everything that is left.
    pub const SHIP: Self = Self::Ship(ShipmentRequest {
        carrier: None,
        tracking_number: None,
        lines: None,
    });
    /// Refunds everything that is left.
    pub const REFUND: Self = Self::Refund(RefundRequest {
        lines: None,
        shipping: false,
    });

    fn target(&self) -> Status {
        match self {
            Self::Cancel => Status::Cancelled,
            Self::Ship(_) => Status::Shipped,
            Self::Deliver => Status::Delivered,
            Self::Refund(_) => Status::Refunded,
        }
    }

    fn operation(&self) -> &'static str {
        match self {
            Self::Cancel => "cancelOrder",
            Self::Ship(_) => "shipOrder",
            Self::Deliver => "deliverOrder",
            Self::Refund(_) => "refundOrder",
        }
    }
}

/// Who changes an order, why, and when.
struct ChangeContext {
    actor: Actor,
    reason: Option<String>,
    now: Micros,
}

impl Orders {
    /// Changes an order, once for each key. Customers may cancel their own
    /// orders; the rest is for administrators.
    pub async fn order_change(
        &self,
        caller: &Caller,
        verb: &OrderAction,
        order_id: &str,
        reason: Option<String>,
        key: &str,
    ) -> Result<Order, Error> {
        let actor_id = &caller.signed_in()?;
        if *verb != OrderAction::Cancel {
            caller.require_admin()?;
        }
        check_text("reason", reason.as_ref(), MAX_REASON)?;
        if let OrderAction::Ship(shipment) = verb {
            check_text("carrier", shipment.carrier.as_ref(), MAX_TRACKING)?;
            let number = shipment.tracking_number.as_ref();
            check_text("trackingNumber", number, MAX_TRACKING)?;
        }
        // Without shipment or refund details the fingerprint is the same as before these
        // existed: idempotency keys from then must still match.
        let body = match verb {
            OrderAction::Ship(_) | OrderAction::Refund(_)
                if *verb != OrderAction::SHIP && *verb != OrderAction::REFUND =>
            {
                json!([order_id, reason, verb])
            }
            _ => json!([order_id, reason]),
        };
        let idempotency_key = IdempotencyKey::new(actor_id.as_str(), key, verb.operation(), &body)
            .ok_or_else(Problem::invalid_key)?;
        let id = OrderId::parse(order_id).ok_or_else(order_not_found)?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        match idempotency_key.claim_in_txn(&txn, id.as_str(), now).await? {
            // The lease is not needed: claim, change and result commit together.
            ClaimOutcome::Acquired { .. } => {}
            ClaimOutcome::Done { answer } => {
                // Before the order is read: on SQLite the transaction holds the only write lock.
                drop(txn);
                return self.replay(&answer).await;
            }
            other => return Err(Problem::key_conflict(&other).into()),
        }
        // Locked, so that it cannot change between the check and the change. An error from
        // here on rolls back the claim, too: the key can be used again.
        let mut order = orders::order_lock_in_txn(&txn, &id)
            .await?
            .ok_or_else(order_not_found)?;
        caller.require_access_to(&order.customer_id)?;
        failpoint::wait_while_held("change.locked", key).await;
        let by = ChangeContext {
            actor: match caller.is_admin() {
                true => Actor::Admin,
                false => Actor::Customer,
            },
            reason,
            now,
        };
        domain::check_move(&order, verb.target())?;
        match verb {
            OrderAction::Cancel => self.cancel_in_txn(&txn, &mut order, by).await?,
            OrderAction::Ship(shipment) => self.ship_in_txn(&txn, &mut order, shipment, by).await?,
            OrderAction::Deliver => {
                self.move_in_txn(&txn, &mut order, Status::Delivered, by)
                    .await?
            }
            OrderAction::Refund(request) => {
                self.refund_in_txn(&txn, &mut order, request, by).await?
            }
        }
        // In the same transaction as the change: a retry either finds both or neither.
        idempotency_key
            .finish_in_txn(&txn, &StoredOutcome::Order(id))
            .await?;
        txn.commit().await?;
        self.wakeup.after_commit();
        Ok(order)
    }

    async fn move_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        order: &mut Order,
        to: Status,
        by: ChangeContext,
    ) -> Result<(), Error> {
        let change = domain::transition(order, to, by.actor, by.reason, by.now)?;
        orders::order_move_in_txn(txn, order, &change).await
    }

    /// Cancels an order of which nothing is shipped: its units go back to stock,
    /// and what is left of its payment is voided or refunded.
    async fn cancel_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        order: &mut Order,
        by: ChangeContext,
    ) -> Result<(), Error> {
        let lines = rows::line_states(txn, &order.id).await?;
        if lines.iter().any(|line| line.shipped > 0) {
            return Err(Problem::new(
                &["orderId"],
                ProblemCode::IllegalStatus,
                "part of the order has been shipped; the rest can be refunded instead",
            )
            .into());
        }
        let (actor, now) = (by.actor, by.now);
        self.move_in_txn(txn, order, Status::Cancelled, by).await?;
        let due = payment::payment_fetch(txn, &order.id).await?;
        let todo = match due.state {
            PaymentState::Pending | PaymentState::Authorised => PaymentTask::Void,
            PaymentState::Captured => {
                refund_rest_in_txn(txn, order, due.captured, actor, now).await?;
                PaymentTask::Refund
            }
            _ => PaymentTask::None,
        };
        payment::payment_set_in_txn(txn, &order.id, due.state, todo, now).await?;
        let id = &order.id;
        payment::stock_task_insert_in_txn(txn, id.as_str(), id, StockTask::Release, now).await?;
        discount_release_in_txn(txn, order).await?;
        Ok(())
    }

    /// Stores a shipment; once all units are shipped the order is SHIPPED.
    async fn ship_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        order: &mut Order,
        shipment: &ShipmentRequest,
        by: ChangeContext,
    ) -> Result<(), Error> {
        let states = rows::line_states(txn, &order.id).await?;
        let lines = domain::plan_shipment(&states, shipment.lines.as_deref())?;
        check_limits_in_txn(txn, &order.id).await?;
        let left: u32 = states.iter().map(domain::LineState::left_to_ship).sum();
        let sent: u32 = lines.iter().map(|(_, units)| units).sum();
        let shipment = Shipment {
            id: stoa_schema::ids::new_id(),
            carrier: shipment.carrier.clone(),
            tracking_number: shipment.tracking_number.clone(),
            actor: by.actor,
            reason: by.reason.clone(),
            at: by.now,
            lines,
        };
        rows::shipment_insert_in_txn(txn, &order.id, &shipment).await?;
        if sent == left {
            return self.move_in_txn(txn, order, Status::Shipped, by).await;
        }
        order.updated_at = by.now;
        Ok(orders::order_touch_in_txn(txn, order).await?)
    }

    /// Stores a refund, which the saga pays out; once the refunds add up to the
    /// total the order is REFUNDED.
    async fn refund_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        order: &mut Order,
        request: &RefundRequest,
        by: ChangeContext,
    ) -> Result<(), Error> {
        let mut states = rows::line_states(txn, &order.id).await?;
        let before = rows::refund_list(txn, &order.id).await?;
        check_limits_in_txn(txn, &order.id).await?;
        let plan = domain::plan_refund(order, &states, &before, request)?;
        let refund = Refund {
            id: stoa_schema::ids::new_id(),
            amount: plan.amount,
            shipping: plan.shipping,
            done: plan.amount == 0,
            actor: by.actor,
            reason: by.reason.clone(),
            at: by.now,
            lines: plan.lines,
        };
        rows::refund_insert_in_txn(txn, &order.id, &refund).await?;
        if !refund.done {
            let due = payment::payment_fetch(txn, &order.id).await?;
            match due.task {
                // Keeps the age and the last error of an earlier refund that still waits.
                PaymentTask::Refund => {
                    payment::payment_due_now_in_txn(txn, &order.id, by.now).await?;
                }
                _ => {
                    let (state, todo) = (due.state, PaymentTask::Refund);
                    payment::payment_set_in_txn(txn, &order.id, state, todo, by.now).await?;
                }
            }
        }
        for state in &mut states {
            let same = |line: &&domain::RefundLine| line.product_id == state.line.product_id;
            if let Some(line) = refund.lines.iter().find(same) {
                state.refunded += line.quantity;
                state.called_off += line.called_off;
            }
        }
        let refunded: i64 = before.iter().map(|earlier| earlier.amount).sum();
        let nothing_left = states.iter().all(|state| state.refundable() == 0);
        if refunded + refund.amount == order.total.amount_minor
            && (nothing_left || order.total.amount_minor > 0)
        {
            return self.move_in_txn(txn, order, Status::Refunded, by).await;
        }
        let all_sent = states.iter().all(|state| state.left_to_ship() == 0);
        if order.status == Status::Confirmed && all_sent {
            return self.move_in_txn(txn, order, Status::Shipped, by).await;
        }
        order.updated_at = by.now;
        Ok(orders::order_touch_in_txn(txn, order).await?)
    }
}

/// Checks a free text: its length, and that it has no control characters.
fn check_text(field: &str, text: Option<&String>, max: usize) -> Result<(), Problem> {
    let bad = |text: &&String| text.chars().count() > max || text.chars().any(char::is_control);
    match text.filter(bad) {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            &[field],
            ProblemCode::Invalid,
            format!("must have at most {max} characters, none of them control characters"),
        )),
    }
}

/// Stores the refund of all the money that is left of a cancelled order.
pub(super) async fn refund_rest_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &Order,
    captured: i64,
    actor: Actor,
    now: Micros,
) -> Result<(), Error> {
    let before = rows::refund_list(txn, &order.id).await?;
    let refund = domain::refund_rest(order, captured, &before, actor, now);
    Ok(rows::refund_insert_in_txn(txn, &order.id, &refund).await?)
}

async fn check_limits_in_txn<C: ConnectionTrait>(txn: &C, order: &OrderId) -> Result<(), Error> {
    let shipments = rows::shipment_list(txn, order).await?.len();
    let refunds = rows::refund_list(txn, order).await?.len();
    Ok(domain::check_fulfilment_limits(shipments, refunds)?)
}

fn order_not_found() -> Problem {
    Problem::new(
        &["orderId"],
        ProblemCode::NotFound,
        "there is no such order",
    )
}
