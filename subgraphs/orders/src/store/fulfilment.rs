//! Shipments and refunds.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use stoa_schema::peer::{ReturnLine, ReturnStock};
use stoa_schema::{OrderId, ProductId};

use super::entity::{refund, refund_line, shipment, shipment_line};
use super::order::line_fetch_many;
use super::payment::stock_task_insert_in_txn;
use super::{to_actor, to_units};
use crate::domain::{LineState, Refund, RefundLine, Shipment, StockTask};
use crate::error::Error;

const PENDING: &str = "PENDING";
const DONE: &str = "DONE";

/// The lines of an order, with their shipped, refunded and cancelled units.
pub async fn line_states<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<Vec<LineState>, Error> {
    let lines = line_fetch_many(db, std::slice::from_ref(order)).await?;
    let mut states: Vec<_> = lines.into_values().flatten().map(LineState::new).collect();
    for shipment in shipment_list(db, order).await? {
        for (product, units) in &shipment.lines {
            for state in &mut states {
                if state.line.product_id == *product {
                    state.shipped += units;
                }
            }
        }
    }
    for refund in refund_list(db, order).await? {
        for line in &refund.lines {
            for state in &mut states {
                if state.line.product_id == line.product_id {
                    state.refunded += line.quantity;
                    state.called_off += line.called_off;
                }
            }
        }
    }
    Ok(states)
}

pub async fn shipment_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    shipment: &Shipment,
) -> Result<(), DbErr> {
    shipment::Entity::insert(shipment::ActiveModel {
        id: Set(shipment.id.clone()),
        order_id: Set(order.to_string()),
        carrier: Set(shipment.carrier.clone()),
        tracking_number: Set(shipment.tracking_number.clone()),
        actor: Set(shipment.actor.into_str().to_owned()),
        reason: Set(shipment.reason.clone()),
        created_at: Set(shipment.at),
    })
    .exec_without_returning(txn)
    .await?;
    let rows = (shipment.lines.iter()).map(|(product, units)| shipment_line::ActiveModel {
        shipment_id: Set(shipment.id.clone()),
        product_id: Set(product.to_string()),
        quantity: Set(i64::from(*units)),
    });
    shipment_line::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// The shipments of an order, oldest first.
pub async fn shipment_list<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<Vec<Shipment>, Error> {
    let found = shipment_fetch_many(db, std::slice::from_ref(order)).await?;
    Ok(found.into_values().flatten().collect())
}

/// Shipments by order, oldest first.
pub async fn shipment_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, Vec<Shipment>>, Error> {
    let rows = shipment::Entity::find()
        .filter(shipment::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .order_by_asc(shipment::Column::CreatedAt)
        .order_by_asc(shipment::Column::Id)
        .all(db)
        .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
    let mut lines: HashMap<String, Vec<(ProductId, u32)>> = HashMap::new();
    if !ids.is_empty() {
        let found = shipment_line::Entity::find()
            .filter(shipment_line::Column::ShipmentId.is_in(ids))
            .order_by_asc(shipment_line::Column::ProductId)
            .all(db)
            .await?;
        for row in found {
            let units = (ProductId::trusted(row.product_id), to_units(row.quantity));
            lines.entry(row.shipment_id).or_default().push(units);
        }
    }
    let mut found: HashMap<OrderId, Vec<Shipment>> = HashMap::new();
    for row in rows {
        let shipment = Shipment {
            lines: lines.remove(&row.id).unwrap_or_default(),
            id: row.id,
            carrier: row.carrier,
            tracking_number: row.tracking_number,
            actor: to_actor(&row.actor)?,
            reason: row.reason,
            at: row.created_at,
        };
        let order = OrderId::trusted(row.order_id);
        found.entry(order).or_default().push(shipment);
    }
    Ok(found)
}

/// Stores a refund, its lines, and the stock task for units that go back to stock.
pub async fn refund_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &OrderId,
    refund: &Refund,
) -> Result<(), DbErr> {
    let returns_units = |line: &RefundLine| line.called_off + line.restocked > 0;
    let state = if refund.done { DONE } else { PENDING };
    refund::Entity::insert(refund::ActiveModel {
        id: Set(refund.id.clone()),
        order_id: Set(order.to_string()),
        amount_minor: Set(refund.amount),
        shipping_minor: Set(refund.shipping),
        state: Set(state.to_owned()),
        actor: Set(refund.actor.into_str().to_owned()),
        reason: Set(refund.reason.clone()),
        created_at: Set(refund.at),
    })
    .exec_without_returning(txn)
    .await?;
    if refund.lines.is_empty() {
        return Ok(());
    }
    let rows = refund.lines.iter().map(|line| refund_line::ActiveModel {
        refund_id: Set(refund.id.clone()),
        product_id: Set(line.product_id.to_string()),
        quantity: Set(i64::from(line.quantity)),
        called_off: Set(i64::from(line.called_off)),
        restocked: Set(i64::from(line.restocked)),
        amount_minor: Set(line.amount),
    });
    refund_line::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await?;
    if refund.lines.iter().any(returns_units) {
        let (id, at) = (&refund.id, refund.at);
        stock_task_insert_in_txn(txn, id, order, StockTask::Return, at).await?;
    }
    Ok(())
}

/// The refunds of an order, oldest first.
pub async fn refund_list<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<Vec<Refund>, Error> {
    let mut found = refund_fetch_many(db, std::slice::from_ref(order)).await?;
    Ok(found.remove(order).unwrap_or_default())
}

/// Refunds by order, oldest first.
pub async fn refund_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, Vec<Refund>>, Error> {
    let rows = refund::Entity::find()
        .filter(refund::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .order_by_asc(refund::Column::CreatedAt)
        .order_by_asc(refund::Column::Id)
        .all(db)
        .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
    let mut lines = refund_lines(db, ids).await?;
    let mut found: HashMap<OrderId, Vec<Refund>> = HashMap::new();
    for row in rows {
        let refund = Refund {
            lines: lines.remove(&row.id).unwrap_or_default(),
            id: row.id,
            amount: row.amount_minor,
            shipping: row.shipping_minor,
            done: row.state == DONE,
            actor: to_actor(&row.actor)?,
            reason: row.reason,
            at: row.created_at,
        };
        let order = OrderId::trusted(row.order_id);
        found.entry(order).or_default().push(refund);
    }
    Ok(found)
}

async fn refund_lines<C: ConnectionTrait>(
    db: &C,
    ids: Vec<String>,
) -> Result<HashMap<String, Vec<RefundLine>>, DbErr> {
    let mut lines: HashMap<String, Vec<RefundLine>> = HashMap::new();
    if ids.is_empty() {
        return Ok(lines);
    }
    let rows = refund_line::Entity::find()
        .filter(refund_line::Column::RefundId.is_in(ids))
        .order_by_asc(refund_line::Column::ProductId)
        .all(db)
        .await?;
    for row in rows {
        let line = RefundLine {
            product_id: ProductId::trusted(row.product_id),
            quantity: to_units(row.quantity),
            called_off: to_units(row.called_off),
            restocked: to_units(row.restocked),
            amount: row.amount_minor,
        };
        lines.entry(row.refund_id).or_default().push(line);
    }
    Ok(lines)
}

/// Marks a refund as paid out by the provider.
pub async fn refund_done_in_txn<C: ConnectionTrait>(txn: &C, id: &str) -> Result<(), DbErr> {
    refund::Entity::update_many()
        .col_expr(refund::Column::State, Expr::value(DONE))
        .filter(refund::Column::Id.eq(id))
        .exec(txn)
        .await?;
    Ok(())
}

/// The units of a refund that go back to stock.
pub async fn return_fetch<C: ConnectionTrait>(
    db: &C,
    refund: &str,
    order: &OrderId,
) -> Result<ReturnStock, DbErr> {
    let mut lines = refund_lines(db, vec![refund.to_owned()]).await?;
    let lines = lines.remove(refund).unwrap_or_default().into_iter();
    Ok(ReturnStock {
        return_id: refund.to_owned(),
        order_id: order.clone(),
        lines: lines
            .filter(|line| line.called_off + line.restocked > 0)
            .map(|line| ReturnLine {
                product_id: line.product_id,
                called_off: line.called_off,
                restocked: line.restocked,
            })
            .collect(),
    })
}
