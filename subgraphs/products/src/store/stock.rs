//! Stock: conditional updates, reservations and adjustments.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use stoa_runtime::clock::Micros;
use stoa_schema::peer::{ReturnLine, ReturnStock, StockLine};
use stoa_schema::{OrderId, ProductId};

use super::entity::{product, reservation, reservation_line, stock_adjustment, stock_return};
use crate::domain::{Reservation, ReservationState};
use crate::error::Error;

/// Takes units if there are enough; false if not. One statement, so that the
/// check and the change are atomic.
pub async fn stock_take_in_txn<C: ConnectionTrait>(
    txn: &C,
    product: &ProductId,
    quantity: i64,
    now: Micros,
) -> Result<bool, DbErr> {
    let done = product::Entity::update_many()
        .col_expr(
            product::Column::Stock,
            Expr::col(product::Column::Stock).sub(quantity),
        )
        .col_expr(product::Column::UpdatedAt, Expr::value(now))
        .filter(product::Column::Id.eq(product.as_str()))
        .filter(product::Column::Stock.gte(quantity))
        .exec(txn)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Returns units to stock.
pub async fn stock_add_in_txn<C: ConnectionTrait>(
    txn: &C,
    product: &ProductId,
    quantity: i64,
    now: Micros,
) -> Result<(), DbErr> {
    product::Entity::update_many()
        .col_expr(
            product::Column::Stock,
            Expr::col(product::Column::Stock).add(quantity),
        )
        .col_expr(product::Column::UpdatedAt, Expr::value(now))
        .filter(product::Column::Id.eq(product.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

pub async fn adjustment_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    product: &ProductId,
    delta: i64,
    reason: &str,
    actor: &str,
    now: Micros,
) -> Result<(), DbErr> {
    stock_adjustment::Entity::insert(stock_adjustment::ActiveModel {
        id: Set(stoa_schema::ids::new_id()),
        product_id: Set(product.to_string()),
        delta: Set(delta),
        reason: Set(reason.to_owned()),
        actor_id: Set(actor.to_owned()),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

/// Reads a reservation and, on PostgreSQL, locks it for this transaction.
pub async fn reservation_fetch_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
) -> Result<Option<Reservation>, Error> {
    let Some(row) = reservation::Entity::find_by_id(order.as_str())
        .lock_exclusive()
        .one(txn)
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(Reservation {
        state: row
            .state
            .parse()
            .map_err(|_| Error::corrupt(format!("reservation state {}", row.state)))?,
        products: serde_json::from_str(&row.snapshot)
            .map_err(|error| Error::corrupt(error.to_string()))?,
        expires_at: row.expires_at,
    }))
}

pub async fn reservation_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    reservation: &Reservation,
    lines: &[StockLine],
    now: Micros,
) -> Result<(), Error> {
    let snapshot = serde_json::to_string(&reservation.products)
        .map_err(|error| Error::corrupt(error.to_string()))?;
    reservation::Entity::insert(reservation::ActiveModel {
        order_id: Set(order.to_string()),
        state: Set(reservation.state.into_str().to_owned()),
        snapshot: Set(snapshot),
        expires_at: Set(reservation.expires_at),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    let rows = lines.iter().map(|line| reservation_line::ActiveModel {
        order_id: Set(order.to_string()),
        product_id: Set(line.product_id.to_string()),
        quantity: Set(i64::from(line.quantity)),
        returned: Set(0),
    });
    if !lines.is_empty() {
        reservation_line::Entity::insert_many(rows)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

pub async fn reservation_set_state_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    state: ReservationState,
) -> Result<(), DbErr> {
    reservation::Entity::update_many()
        .col_expr(reservation::Column::State, Expr::value(state.into_str()))
        .filter(reservation::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

pub async fn reservation_renew_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    expires_at: Micros,
) -> Result<(), DbErr> {
    reservation::Entity::update_many()
        .col_expr(reservation::Column::ExpiresAt, Expr::value(expires_at))
        .filter(reservation::Column::OrderId.eq(order.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Whether this return is already recorded.
pub async fn return_exists_in_txn<C: ConnectionTrait>(txn: &C, id: &str) -> Result<bool, DbErr> {
    let found = stock_return::Entity::find()
        .filter(stock_return::Column::ReturnId.eq(id))
        .count(txn)
        .await?;
    Ok(found > 0)
}

pub async fn return_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    request: &ReturnStock,
    line: &ReturnLine,
    now: Micros,
) -> Result<(), DbErr> {
    stock_return::Entity::insert(stock_return::ActiveModel {
        return_id: Set(request.return_id.clone()),
        product_id: Set(line.product_id.to_string()),
        order_id: Set(request.order_id.to_string()),
        called_off: Set(i64::from(line.called_off)),
        restocked: Set(i64::from(line.restocked)),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

/// Removes units from a reservation.
pub async fn reservation_shrink_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    product: &ProductId,
    units: u32,
) -> Result<(), DbErr> {
    reservation_line::Entity::update_many()
        .col_expr(
            reservation_line::Column::Returned,
            Expr::col(reservation_line::Column::Returned).add(i64::from(units)),
        )
        .filter(reservation_line::Column::OrderId.eq(order.as_str()))
        .filter(reservation_line::Column::ProductId.eq(product.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// The units that a reservation still holds, sorted by product id as products are
/// locked.
pub async fn reservation_lines_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
) -> Result<Vec<(ProductId, i64)>, DbErr> {
    let rows = reservation_line::Entity::find()
        .filter(reservation_line::Column::OrderId.eq(order.as_str()))
        .order_by_asc(reservation_line::Column::ProductId)
        .all(txn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let held = row.quantity - row.returned;
            (ProductId::trusted(row.product_id), held)
        })
        .collect())
}

/// The orders whose reservation has expired, oldest first.
pub async fn reservation_expired<C: ConnectionTrait>(
    db: &C,
    now: Micros,
    limit: u64,
) -> Result<Vec<OrderId>, DbErr> {
    let rows = reservation::Entity::find()
        .filter(reservation::Column::State.eq(ReservationState::Reserved.into_str()))
        .filter(reservation::Column::ExpiresAt.lte(now))
        .order_by_asc(reservation::Column::ExpiresAt)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| OrderId::trusted(row.order_id))
        .collect())
}
