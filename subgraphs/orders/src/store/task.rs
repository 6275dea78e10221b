//! What is still to be done for an order outside its own database: stored with
//! the change that calls for it, so that a crash forgets nothing.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    TryInsertResult,
};
use stoa_kit::clock::Micros;
use stoa_schema::money::Currency;
use stoa_schema::{Money, OrderId};

use super::entity::{order, payment, payment_event, payment_movement};
use crate::error::Error;
use crate::payment::{Event, Payment};

macro_rules! stored {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Result<Self, Error> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(Error::Corrupt(format!("{} {other}", stringify!($name)))),
                }
            }
        }
    };
}

stored! {
    /// What the products service still has to be told of an order.
    StockTask { None => "NONE", Release => "RELEASE", Return => "RETURN" }
}

stored! {
    /// The next step of an order's saga, if there is one.
    PaymentTask {
        None => "NONE",
        Authorise => "AUTHORISE",
        Commit => "COMMIT",
        Capture => "CAPTURE",
        Void => "VOID",
        Refund => "REFUND",
    }
}

stored! {
    /// Where the money is.
    PaymentState {
        Pending => "PENDING",
        Authorised => "AUTHORISED",
        Captured => "CAPTURED",
        Declined => "DECLINED",
        Voided => "VOIDED",
        Refunded => "REFUNDED",
    }
}

/// A payment that something is to be done about.
#[derive(Debug, Clone)]
pub struct DuePayment {
    pub payment: Payment,
    pub task: PaymentTask,
    pub state: PaymentState,
    /// Of this step, that came to nothing.
    pub attempts: i64,
    pub captured: i64,
    pub refunded: i64,
    pub last_error: Option<String>,
    /// When this step began.
    pub since: Micros,
}

stored! {
    /// Money that moved.
    Movement { Capture => "CAPTURE", Refund => "REFUND" }
}

/// The payments whose step is due, or lies behind a horizon: no step is put
/// off that far, so the clock was ahead when that was written.
pub async fn payment_due<C: ConnectionTrait>(
    db: &C,
    now: Micros,
    horizon: Micros,
    limit: u64,
) -> Result<Vec<DuePayment>, DbErr> {
    let due = payment::Column::DueAt.lte(now);
    let rows = payment::Entity::find()
        .filter(payment::Column::Task.ne(PaymentTask::None.as_str()))
        .filter(due.or(payment::Column::DueAt.gt(horizon)))
        .order_by_asc(payment::Column::DueAt)
        .limit(limit)
        .all(db)
        .await?;
    // One that cannot be read must not keep the others.
    let read = rows.into_iter().filter_map(|row| {
        let order = row.order_id.clone();
        to_due(row)
            .inspect_err(
                |error| tracing::error!(%error, order_id = order, "a payment cannot be read"),
            )
            .ok()
    });
    Ok(read.collect())
}

/// When the next payment is due, if any is.
pub async fn payment_next_due<C: ConnectionTrait>(db: &C) -> Result<Option<Micros>, DbErr> {
    let row = payment::Entity::find()
        .filter(payment::Column::Task.ne(PaymentTask::None.as_str()))
        .order_by_asc(payment::Column::DueAt)
        .limit(1)
        .one(db)
        .await?;
    Ok(row.and_then(|row| row.due_at))
}

pub async fn payment_fetch<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<DuePayment, Error> {
    let row = payment::Entity::find_by_id(order.as_str())
        .one(db)
        .await?
        .ok_or_else(|| Error::Corrupt(format!("order {order} has no payment")))?;
    to_due(row)
}

/// The payments of orders.
pub async fn payment_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, DuePayment>, Error> {
    let rows = payment::Entity::find()
        .filter(payment::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| Ok((OrderId::trusted(row.order_id.clone()), to_due(row)?)))
        .collect()
}

fn to_due(row: payment::Model) -> Result<DuePayment, Error> {
    let currency = Currency::parse(&row.currency)
        .ok_or_else(|| Error::Corrupt(format!("currency {}", row.currency)))?;
    Ok(DuePayment {
        task: match row.task.as_str() {
            // Of a replica that is older than the saga.
            "SETTLE" => PaymentTask::Authorise,
            other => PaymentTask::parse(other)?,
        },
        state: PaymentState::parse(&row.state)?,
        attempts: row.attempts,
        captured: row.captured_minor,
        refunded: row.refunded_minor,
        last_error: row.last_error,
        since: row.updated_at,
        payment: Payment {
            provider: row.provider,
            order_id: OrderId::trusted(row.order_id),
            method: row.method,
            amount: Money::new(row.amount_minor, currency),
            reference: row.reference,
            started_at: row.created_at,
        },
    })
}

/// Sets where the money is and what is to be done next, at once.
pub async fn payment_set_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    state: PaymentState,
    task: PaymentTask,
    now: Micros,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::State, Expr::value(state.as_str()))
        .col_expr(payment::Column::Task, Expr::value(task.as_str()))
        .col_expr(payment::Column::DueAt, Expr::value(now))
        .col_expr(payment::Column::Attempts, Expr::value(0_i64))
        .col_expr(payment::Column::LastError, Expr::value(None::<String>))
        .col_expr(payment::Column::UpdatedAt, Expr::value(now))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Keeps the provider's name for a payment.
pub async fn payment_set_reference_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    reference: &str,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::Reference, Expr::value(reference))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Books money that moved, once for each key; false if it was booked before.
pub async fn movement_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    kind: Movement,
    key: &str,
    amount_minor: i64,
    now: Micros,
) -> Result<bool, DbErr> {
    let inserted = payment_movement::Entity::insert(payment_movement::ActiveModel {
        order_id: Set(order.to_string()),
        key: Set(key.to_owned()),
        kind: Set(kind.as_str().to_owned()),
        amount_minor: Set(amount_minor),
        created_at: Set(now),
    })
    .on_conflict_do_nothing()
    .exec_without_returning(txn)
    .await?;
    if !matches!(inserted, TryInsertResult::Inserted(1)) {
        return Ok(false);
    }
    let column = match kind {
        Movement::Capture => payment::Column::CapturedMinor,
        Movement::Refund => payment::Column::RefundedMinor,
    };
    payment::Entity::update_many()
        .col_expr(column, Expr::col(column).add(amount_minor))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(true)
}

/// Puts a task off, unless it has changed meanwhile; an error counts as an
/// attempt that came to nothing.
pub async fn payment_postpone_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    task: PaymentTask,
    due_at: Micros,
    error: Option<&str>,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::DueAt, Expr::value(due_at))
        .col_expr(
            payment::Column::Attempts,
            Expr::col(payment::Column::Attempts).add(i64::from(error.is_some())),
        )
        .col_expr(payment::Column::LastError, Expr::value(error))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .filter(payment::Column::Task.eq(task.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Keeps a provider's event; false if it is known.
pub async fn event_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    provider: &str,
    event: &Event,
    body: &[u8],
    now: Micros,
) -> Result<bool, DbErr> {
    let inserted = payment_event::Entity::insert(payment_event::ActiveModel {
        provider: Set(provider.to_owned()),
        event_id: Set(event.id.clone()),
        kind: Set(event.kind.clone()),
        order_id: Set(event.order_id.as_ref().map(ToString::to_string)),
        // PostgreSQL takes no NUL.
        payload: Set(String::from_utf8_lossy(body).replace('\0', "")),
        received_at: Set(now),
    })
    .on_conflict_do_nothing()
    .exec_without_returning(txn)
    .await?;
    Ok(matches!(inserted, TryInsertResult::Inserted(1)))
}

/// Makes a payment's step due, if there is one: there is news of it.
pub async fn payment_due_now_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    now: Micros,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::DueAt, Expr::value(now))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .filter(payment::Column::Task.ne(PaymentTask::None.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

pub async fn stock_task_set_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    task: StockTask,
) -> Result<(), DbErr> {
    order::Entity::update_many()
        .col_expr(order::Column::StockTask, Expr::value(task.as_str()))
        .filter(order::Column::Id.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// The orders whose stock is to be released.
pub async fn stock_release_due<C: ConnectionTrait>(
    db: &C,
    limit: u64,
) -> Result<Vec<OrderId>, DbErr> {
    let rows: Vec<String> = order::Entity::find()
        .select_only()
        .column(order::Column::Id)
        .filter(order::Column::StockTask.eq(StockTask::Release.as_str()))
        .order_by_asc(order::Column::Id)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(OrderId::trusted).collect())
}
