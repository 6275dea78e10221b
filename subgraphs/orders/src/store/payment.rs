//! Tasks for an order outside its own database: stored together with the change
//! that requires them, so that a crash loses nothing.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, TryInsertResult,
};
use stoa_runtime::clock::Micros;
use stoa_schema::{Money, OrderId};

use super::entity::{payment, payment_event, payment_movement, stock_task};
use super::to_currency;
use crate::domain::{
    DuePayment, DueStock, DueWindow, Movement, Payment, PaymentEvent, PaymentState, PaymentTask,
    StockTask,
};
use crate::error::Error;

/// The orders whose payment has a step that is due.
pub async fn payment_due<C: ConnectionTrait>(
    db: &C,
    when: DueWindow,
    limit: u64,
) -> Result<Vec<OrderId>, DbErr> {
    let due = payment::Column::DueAt.lte(when.now);
    let rows: Vec<String> = payment::Entity::find()
        .select_only()
        .column(payment::Column::OrderId)
        .filter(payment::Column::Task.ne(PaymentTask::None.into_str()))
        .filter(due.or(payment::Column::DueAt.gt(when.horizon)))
        .order_by_asc(payment::Column::DueAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(OrderId::trusted).collect())
}

/// When the next step becomes due that is not due yet, if there is one.
pub async fn next_due<C: ConnectionTrait>(db: &C, now: Micros) -> Result<Option<Micros>, DbErr> {
    let payment: Option<Option<Micros>> = payment::Entity::find()
        .select_only()
        .column(payment::Column::DueAt)
        .filter(payment::Column::Task.ne(PaymentTask::None.into_str()))
        .filter(payment::Column::DueAt.gt(now))
        .order_by_asc(payment::Column::DueAt)
        .into_tuple()
        .one(db)
        .await?;
    let units: Option<Micros> = stock_task::Entity::find()
        .select_only()
        .column(stock_task::Column::DueAt)
        .filter(stock_task::Column::DueAt.gt(now))
        .order_by_asc(stock_task::Column::DueAt)
        .into_tuple()
        .one(db)
        .await?;
    Ok(payment.flatten().into_iter().chain(units).min())
}

pub async fn payment_fetch<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<DuePayment, Error> {
    let row = payment::Entity::find_by_id(order.as_str())
        .one(db)
        .await?
        .ok_or_else(|| Error::corrupt(format!("order {order} has no payment")))?;
    to_due(row)
}

/// The payments of orders; those that cannot be read are logged and left out.
pub async fn payment_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<Vec<DuePayment>, DbErr> {
    let rows = payment::Entity::find()
        .filter(payment::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .all(db)
        .await?;
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

fn to_due(row: payment::Model) -> Result<DuePayment, Error> {
    let currency = to_currency(&row.currency)?;
    Ok(DuePayment {
        task: row
            .task
            .parse()
            .map_err(|_| Error::corrupt(format!("payment task {}", row.task)))?,
        state: row
            .state
            .parse()
            .map_err(|_| Error::corrupt(format!("payment state {}", row.state)))?,
        attempts: row.attempts,
        captured: row.captured_minor,
        last_error: row.last_error,
        since: row.updated_at,
        due_at: row.due_at,
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

/// Sets the state of a payment and its next step, which is due at once.
pub async fn payment_set_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    state: PaymentState,
    task: PaymentTask,
    now: Micros,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::State, Expr::value(state.into_str()))
        .col_expr(payment::Column::Task, Expr::value(task.into_str()))
        .col_expr(payment::Column::DueAt, Expr::value(now))
        .col_expr(payment::Column::Attempts, Expr::value(0_i64))
        .col_expr(payment::Column::LastError, Expr::value(None::<String>))
        .col_expr(payment::Column::UpdatedAt, Expr::value(now))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Stores the provider's ID of a payment.
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

/// Records a movement of money once for each key; returns false if it is known.
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
        kind: Set(kind.into_str().to_owned()),
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

/// Postpones a step, unless it has changed or was made due by a webhook meanwhile.
/// If it failed, that counts as an attempt; `reason` says why it is not done.
pub async fn payment_postpone_in_txn<C: ConnectionTrait>(
    txn: &C,
    due: &DuePayment,
    due_at: Micros,
    failed: bool,
    reason: &str,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::DueAt, Expr::value(due_at))
        .col_expr(
            payment::Column::Attempts,
            Expr::col(payment::Column::Attempts).add(i64::from(failed)),
        )
        .col_expr(payment::Column::LastError, Expr::value(reason))
        .filter(payment::Column::OrderId.eq(due.payment.order_id.as_str()))
        .filter(payment::Column::Task.eq(due.task.into_str()))
        .filter(payment::Column::DueAt.eq(due.due_at))
        .exec(txn)
        .await?;
    Ok(())
}

/// Stores a provider's event; returns false if it is known.
pub async fn event_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    provider: &str,
    event: &PaymentEvent,
    body: &[u8],
    now: Micros,
) -> Result<bool, DbErr> {
    let inserted = payment_event::Entity::insert(payment_event::ActiveModel {
        provider: Set(provider.to_owned()),
        event_id: Set(event.id.clone()),
        kind: Set(event.kind.clone()),
        order_id: Set(event.order_id.as_ref().map(ToString::to_string)),
        // PostgreSQL refuses NUL in text.
        payload: Set(String::from_utf8_lossy(body).replace('\0', "")),
        received_at: Set(now),
    })
    .on_conflict_do_nothing()
    .exec_without_returning(txn)
    .await?;
    Ok(matches!(inserted, TryInsertResult::Inserted(1)))
}

/// Deletes a batch of events received before a time; returns how many.
pub async fn event_purge_expired_in_txn<C: ConnectionTrait>(
    txn: &C,
    before: Micros,
    limit: u64,
) -> Result<u64, DbErr> {
    let sql = format!(
        "DELETE FROM payment_event WHERE (provider, event_id) IN (SELECT provider, event_id FROM payment_event WHERE received_at < $1 ORDER BY received_at LIMIT {limit})"
    );
    let statement =
        Statement::from_sql_and_values(txn.get_database_backend(), sql, [before.into()]);
    Ok(txn.execute_raw(statement).await?.rows_affected())
}

/// Makes a payment's step due now, if it has one.
pub async fn payment_due_now_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    now: Micros,
) -> Result<(), DbErr> {
    payment::Entity::update_many()
        .col_expr(payment::Column::DueAt, Expr::value(now))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .filter(payment::Column::Task.ne(PaymentTask::None.into_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Postpones a payment's step whatever it is, even if the payment cannot be read.
pub async fn payment_postpone_any_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    due_at: Micros,
    reason: &str,
) -> Result<(), DbErr> {
    let attempts = Expr::col(payment::Column::Attempts).add(1);
    payment::Entity::update_many()
        .col_expr(payment::Column::DueAt, Expr::value(due_at))
        .col_expr(payment::Column::Attempts, attempts)
        .col_expr(payment::Column::LastError, Expr::value(reason))
        .filter(payment::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Stores a stock task, once for each ID.
pub async fn stock_task_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    order: &OrderId,
    task: StockTask,
    now: Micros,
) -> Result<(), DbErr> {
    stock_task::Entity::insert(stock_task::ActiveModel {
        id: Set(id.to_owned()),
        order_id: Set(order.to_string()),
        task: Set(task.into_str().to_owned()),
        due_at: Set(now),
        attempts: Set(0),
        last_error: Set(None),
        created_at: Set(now),
    })
    .on_conflict_do_nothing()
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

/// The IDs of the stock tasks that are due.
pub async fn stock_due<C: ConnectionTrait>(
    db: &C,
    when: DueWindow,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    let due = stock_task::Column::DueAt.lte(when.now);
    stock_task::Entity::find()
        .select_only()
        .column(stock_task::Column::Id)
        .filter(due.or(stock_task::Column::DueAt.gt(when.horizon)))
        .order_by_asc(stock_task::Column::DueAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// A stock task, unless it is done.
pub async fn stock_task_fetch<C: ConnectionTrait>(
    db: &C,
    id: &str,
) -> Result<Option<DueStock>, Error> {
    let row = stock_task::Entity::find_by_id(id).one(db).await?;
    row.map(to_due_stock).transpose()
}

/// The stock tasks of orders, oldest first.
pub async fn stock_task_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<Vec<DueStock>, Error> {
    let rows = stock_task::Entity::find()
        .filter(stock_task::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .order_by_asc(stock_task::Column::CreatedAt)
        .all(db)
        .await?;
    rows.into_iter().map(to_due_stock).collect()
}

fn to_due_stock(row: stock_task::Model) -> Result<DueStock, Error> {
    Ok(DueStock {
        task: row
            .task
            .parse()
            .map_err(|_| Error::corrupt(format!("stock task {}", row.task)))?,
        id: row.id,
        order_id: OrderId::trusted(row.order_id),
        attempts: row.attempts,
        last_error: row.last_error,
        since: row.created_at,
        due_at: row.due_at,
    })
}

/// Deletes a finished stock task.
pub async fn stock_task_done_in_txn<C: ConnectionTrait>(txn: &C, id: &str) -> Result<(), DbErr> {
    stock_task::Entity::delete_by_id(id).exec(txn).await?;
    Ok(())
}

/// Postpones a failed stock task.
pub async fn stock_task_postpone_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    due_at: Micros,
    error: &str,
) -> Result<(), DbErr> {
    let attempts = Expr::col(stock_task::Column::Attempts).add(1);
    stock_task::Entity::update_many()
        .col_expr(stock_task::Column::DueAt, Expr::value(due_at))
        .col_expr(stock_task::Column::Attempts, attempts)
        .col_expr(stock_task::Column::LastError, Expr::value(error))
        .filter(stock_task::Column::Id.eq(id))
        .exec(txn)
        .await?;
    Ok(())
}
