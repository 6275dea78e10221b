//! Orders, their lines and their history.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Func, LikeExpr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement,
};
use stoa_schema::events::{OrderStatus as Status, OrderStatusChanged};
use stoa_schema::{Money, OrderId, ProductId, UserId};
use stoa_service::outbox::outbox_append_in_txn;
use stoa_service::page::Page;

use super::entity::{order, order_history, order_line, payment, shipment, stock_task};
use super::{to_actor, to_currency, to_i64, to_units};
use crate::domain::{
    Actor, Change, Line, NewPayment, Order, OrderFilter, Parts, PaymentState, PaymentTask,
};
use crate::error::Error;

pub async fn order_fetch_many<C: ConnectionTrait>(
    db: &C,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, Order>, Error> {
    let rows = order::Entity::find()
        .filter(order::Column::Id.is_in(ids.iter().map(OrderId::as_str)))
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| to_order(row).map(|order| (order.id.clone(), order)))
        .collect()
}

/// Reads an order and, on PostgreSQL, locks it for this transaction.
pub async fn order_lock_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &OrderId,
) -> Result<Option<Order>, Error> {
    let row = order::Entity::find_by_id(id.as_str())
        .lock_exclusive()
        .one(txn)
        .await?;
    row.map(to_order).transpose()
}

pub async fn order_list<C: ConnectionTrait>(
    db: &C,
    filter: &OrderFilter,
    page: &Page<String>,
) -> Result<Vec<Order>, Error> {
    let mut select = select_orders(filter);
    if let Some(after) = &page.after {
        select = select.filter(order::Column::Id.lt(after));
    }
    let rows = select
        .order_by_desc(order::Column::Id)
        .limit(page.limit())
        .all(db)
        .await?;
    rows.into_iter().map(to_order).collect()
}

pub async fn order_count<C: ConnectionTrait>(db: &C, filter: &OrderFilter) -> Result<u64, DbErr> {
    select_orders(filter).count(db).await
}

fn select_orders(filter: &OrderFilter) -> Select<order::Entity> {
    let mut select = order::Entity::find();
    if let Some(customer) = &filter.customer {
        select = select.filter(order::Column::CustomerId.eq(customer.as_str()));
    }
    if let Some(status) = filter.status {
        select = select.filter(order::Column::Status.eq(status.into_str()));
    }
    if let Some(from) = filter.placed_from {
        select = select.filter(order::Column::CreatedAt.gte(from));
    }
    if let Some(before) = filter.placed_before {
        select = select.filter(order::Column::CreatedAt.lt(before));
    }
    if let Some(text) = &filter.search {
        select = select.filter(matches_search(text));
    }
    if let Some(since) = filter.stuck_since {
        let mut stuck = payment::Entity::find()
            .select_only()
            .column(payment::Column::OrderId)
            .filter(payment::Column::Task.ne(PaymentTask::None.into_str()))
            .filter(payment::Column::UpdatedAt.lt(since));
        let mut units = stock_task::Entity::find()
            .select_only()
            .column(stock_task::Column::OrderId)
            .filter(stock_task::Column::CreatedAt.lt(since));
        let either = Condition::any()
            .add(order::Column::Id.in_subquery(QuerySelect::query(&mut stuck).take()))
            .add(order::Column::Id.in_subquery(QuerySelect::query(&mut units).take()));
        select = select.filter(either);
    }
    select
}

/// Escapes a text for a LIKE pattern.
fn escaped(text: &str) -> String {
    ["\\", "%", "_"]
        .iter()
        .fold(text.to_owned(), |text, special| {
            text.replace(special, &format!("\\{special}"))
        })
}

/// The condition that an order's number begins with a text, a tracking number or
/// SKU equals it, or a line's name contains it; not case-sensitive.
fn matches_search(text: &str) -> Condition {
    // SQLite lower-cases only ASCII.
    let ascii_within = LikeExpr::new(format!("%{}%", escaped(&text.to_ascii_lowercase())));
    let ascii_within = ascii_within.escape('\\');
    let text = text.to_lowercase();
    let escaped = escaped(&text);
    let begins = LikeExpr::new(format!("{escaped}%")).escape('\\');
    let within = LikeExpr::new(format!("%{escaped}%")).escape('\\');
    let lower = |column: sea_orm::sea_query::SimpleExpr| Expr::expr(Func::lower(column));
    let line = order_line::Entity::find()
        .select_only()
        .column(order_line::Column::OrderId)
        .filter(
            Condition::any()
                .add(lower(order_line::Column::Sku.into_expr()).eq(text.clone()))
                .add(lower(order_line::Column::Name.into_expr()).like(within))
                .add(lower(order_line::Column::Name.into_expr()).like(ascii_within)),
        );
    let with_tracking_number = shipment::Entity::find()
        .select_only()
        .column(shipment::Column::OrderId)
        .filter(lower(shipment::Column::TrackingNumber.into_expr()).eq(text));
    Condition::any()
        .add(lower(order::Column::Number.into_expr()).like(begins))
        .add(order::Column::Id.in_subquery(line.into_query()))
        .add(order::Column::Id.in_subquery(with_tracking_number.into_query()))
}

/// The next order number.
pub async fn number_next_in_txn<C: ConnectionTrait>(txn: &C) -> Result<String, Error> {
    let row = txn
        .query_one_raw(Statement::from_string(
            txn.get_database_backend(),
            "UPDATE counter SET value = value + 1 WHERE name = 'order' RETURNING value",
        ))
        .await?
        .ok_or_else(|| Error::corrupt("the order counter is missing".to_owned()))?;
    let value: i64 = row.try_get("", "value")?;
    Ok(format!("S-{value}"))
}

/// Stores a new order: its row, lines, history, payment and event.
pub async fn order_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &Order,
    lines: &[Line],
    payment: &NewPayment,
) -> Result<(), Error> {
    order::Entity::insert(from_order(order)?.into_active_model().reset_all())
        .exec_without_returning(txn)
        .await?;
    let rows = (0_i64..)
        .zip(lines)
        .map(|(position, line)| order_line::ActiveModel {
            order_id: Set(order.id.to_string()),
            position: Set(position),
            product_id: Set(line.product_id.to_string()),
            sku: Set(line.sku.clone()),
            name: Set(line.name.clone()),
            unit_price_minor: Set(line.unit_price.amount_minor),
            quantity: Set(i64::from(line.quantity)),
            subtotal_minor: Set(line.subtotal.amount_minor),
            discount_minor: Set(line.discount),
            tax_minor: Set(line.tax),
        });
    order_line::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await?;
    let payment = payment::ActiveModel {
        order_id: Set(order.id.to_string()),
        provider: Set(payment.provider.clone()),
        method: Set(payment.method.clone()),
        currency: Set(order.total.currency.code().to_owned()),
        amount_minor: Set(order.total.amount_minor),
        state: Set(PaymentState::Pending.into_str().to_owned()),
        task: Set(PaymentTask::Authorise.into_str().to_owned()),
        due_at: Set(Some(payment.due_at)),
        attempts: Set(0),
        reference: Set(None),
        last_error: Set(None),
        captured_minor: Set(0),
        refunded_minor: Set(0),
        created_at: Set(order.created_at),
        updated_at: Set(order.created_at),
    };
    payment::Entity::insert(payment)
        .exec_without_returning(txn)
        .await?;
    let placed = Change {
        version: order.version,
        status: order.status,
        previous: None,
        actor: Actor::Customer,
        reason: None,
        at: order.created_at,
    };
    change_append_in_txn(txn, order, &placed).await
}

/// Stores a state change: the order's state, its history and its event.
pub async fn order_move_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &Order,
    change: &Change,
) -> Result<(), Error> {
    order::Entity::update_many()
        .col_expr(order::Column::Status, Expr::value(order.status.into_str()))
        .col_expr(order::Column::Version, Expr::value(to_i64(order.version)))
        .col_expr(order::Column::UpdatedAt, Expr::value(order.updated_at))
        .filter(order::Column::Id.eq(order.id.as_str()))
        .exec(txn)
        .await?;
    change_append_in_txn(txn, order, change).await
}

/// Stores the time of a change to an order that leaves its state as it is.
pub async fn order_touch_in_txn<C: ConnectionTrait>(txn: &C, order: &Order) -> Result<(), DbErr> {
    order::Entity::update_many()
        .col_expr(order::Column::UpdatedAt, Expr::value(order.updated_at))
        .filter(order::Column::Id.eq(order.id.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

async fn change_append_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &Order,
    change: &Change,
) -> Result<(), Error> {
    order_history::Entity::insert(order_history::ActiveModel {
        order_id: Set(order.id.to_string()),
        version: Set(to_i64(change.version)),
        status: Set(change.status.into_str().to_owned()),
        previous_status: Set(change.previous.map(|status| status.into_str().to_owned())),
        actor: Set(change.actor.into_str().to_owned()),
        reason: Set(change.reason.clone()),
        created_at: Set(change.at),
    })
    .exec_without_returning(txn)
    .await?;
    let event = OrderStatusChanged {
        order_id: order.id.clone(),
        number: order.number.clone(),
        customer_id: order.customer_id.clone(),
        status: change.status,
        previous_status: change.previous,
    };
    outbox_append_in_txn(
        txn,
        event,
        change.version,
        change.at,
        Some(&order.correlation_id),
    )
    .await?;
    Ok(())
}

pub async fn line_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, Vec<Line>>, Error> {
    let ids = orders.iter().map(OrderId::as_str);
    let currencies: HashMap<String, String> = order::Entity::find()
        .select_only()
        .column(order::Column::Id)
        .column(order::Column::Currency)
        .filter(order::Column::Id.is_in(ids.clone()))
        .into_tuple()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let rows = order_line::Entity::find()
        .filter(order_line::Column::OrderId.is_in(ids))
        .order_by_asc(order_line::Column::OrderId)
        .order_by_asc(order_line::Column::Position)
        .all(db)
        .await?;
    let mut found: HashMap<OrderId, Vec<Line>> = HashMap::new();
    for row in rows {
        let currency = to_currency(currencies.get(&row.order_id).map_or("", String::as_str))?;
        found
            .entry(OrderId::trusted(row.order_id))
            .or_default()
            .push(Line {
                product_id: ProductId::trusted(row.product_id),
                sku: row.sku,
                name: row.name,
                unit_price: Money::new(row.unit_price_minor, currency),
                quantity: to_units(row.quantity),
                subtotal: Money::new(row.subtotal_minor, currency),
                discount: row.discount_minor,
                tax: row.tax_minor,
            });
    }
    Ok(found)
}

pub async fn history_fetch_many<C: ConnectionTrait>(
    db: &C,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, Vec<Change>>, Error> {
    let rows = order_history::Entity::find()
        .filter(order_history::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
        .order_by_asc(order_history::Column::OrderId)
        .order_by_asc(order_history::Column::Version)
        .all(db)
        .await?;
    let mut found: HashMap<OrderId, Vec<Change>> = HashMap::new();
    for row in rows {
        found
            .entry(OrderId::trusted(row.order_id))
            .or_default()
            .push(Change {
                version: row.version.unsigned_abs(),
                status: to_status(&row.status)?,
                previous: row.previous_status.as_deref().map(to_status).transpose()?,
                actor: to_actor(&row.actor)?,
                reason: row.reason,
                at: row.created_at,
            });
    }
    Ok(found)
}

fn to_status(text: &str) -> Result<Status, Error> {
    text.parse()
        .map_err(|_| Error::corrupt(format!("order status {text}")))
}

fn to_order(row: order::Model) -> Result<Order, Error> {
    Ok(Order {
        status: to_status(&row.status)?,
        total: Money::new(row.total_minor, to_currency(&row.currency)?),
        parts: Parts {
            subtotal: row.subtotal_minor,
            discount: row.discount_minor,
            shipping: row.shipping_minor,
            tax: row.tax_minor,
            shipping_tax: row.shipping_tax_minor,
        },
        discount_code: row.discount_code,
        shipping_address: serde_json::from_str(&row.shipping_address)
            .map_err(|error| Error::corrupt(error.to_string()))?,
        version: row.version.unsigned_abs(),
        id: OrderId::trusted(row.id),
        number: row.number,
        customer_id: UserId::trusted(row.customer_id),
        correlation_id: row.correlation_id,
        traceparent: row.traceparent,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn from_order(order: &Order) -> Result<order::Model, Error> {
    Ok(order::Model {
        id: order.id.to_string(),
        number: order.number.clone(),
        customer_id: order.customer_id.to_string(),
        status: order.status.into_str().to_owned(),
        currency: order.total.currency.code().to_owned(),
        total_minor: order.total.amount_minor,
        subtotal_minor: order.parts.subtotal,
        discount_minor: order.parts.discount,
        shipping_minor: order.parts.shipping,
        tax_minor: order.parts.tax,
        shipping_tax_minor: order.parts.shipping_tax,
        discount_code: order.discount_code.clone(),
        shipping_address: serde_json::to_string(&order.shipping_address)
            .map_err(|error| Error::corrupt(error.to_string()))?,
        version: to_i64(order.version),
        correlation_id: order.correlation_id.clone(),
        traceparent: order.traceparent.clone(),
        created_at: order.created_at,
        updated_at: order.updated_at,
    })
}

/// Which of the given orders exist.
pub async fn order_existing<C: ConnectionTrait>(
    db: &C,
    ids: &[String],
) -> Result<Vec<String>, DbErr> {
    order::Entity::find()
        .select_only()
        .column(order::Column::Id)
        .filter(order::Column::Id.is_in(ids))
        .into_tuple()
        .all(db)
        .await
}
