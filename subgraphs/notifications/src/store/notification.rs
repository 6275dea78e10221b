//! Inboxes, and the orders whose events have arrived.

use std::collections::HashMap;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
};
use stoa_runtime::clock::Micros;
use stoa_schema::events::{Event, OrderStatusChanged};
use stoa_schema::{NotificationId, OrderId, UserId};
use stoa_service::page::Page;

use super::entity::{known_order, notification};
use crate::domain::Notification;

/// Records that an event is handled; false if it, or its version of the order,
/// was handled before. Events may arrive late, after newer ones.
pub async fn event_record_in_txn<C: ConnectionTrait>(
    txn: &C,
    event: &Event<OrderStatusChanged>,
) -> Result<bool, DbErr> {
    let version = i64::try_from(event.aggregateversion).unwrap_or(i64::MAX);
    let order = &event.data;
    let noted = txn
        .execute_raw(Statement::from_sql_and_values(
            txn.get_database_backend(),
            "INSERT INTO inbox (event_id, aggregate_id, aggregate_version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            [
                event.id.as_str().into(),
                order.order_id.as_str().into(),
                version.into(),
            ],
        ))
        .await?;
    if noted.rows_affected() == 0 {
        return Ok(false);
    }
    txn.execute_raw(Statement::from_sql_and_values(
        txn.get_database_backend(),
        "INSERT INTO known_order (order_id, customer_id, version) VALUES ($1, $2, $3) ON CONFLICT (order_id) DO UPDATE SET version = excluded.version WHERE known_order.version < excluded.version",
        [
            order.order_id.as_str().into(),
            order.customer_id.as_str().into(),
            version.into(),
        ],
    ))
    .await?;
    Ok(true)
}

/// The owner of an order, if any of its events has arrived.
pub async fn order_owner<C: ConnectionTrait>(
    db: &C,
    order: &OrderId,
) -> Result<Option<UserId>, DbErr> {
    let row = known_order::Entity::find_by_id(order.as_str())
        .one(db)
        .await?;
    Ok(row.map(|row| UserId::trusted(row.customer_id)))
}

pub async fn notification_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    new: &Notification,
) -> Result<(), DbErr> {
    let row = notification::Model {
        id: new.id.to_string(),
        user_id: new.user_id.to_string(),
        kind: new.kind.clone(),
        title: new.title.clone(),
        body: new.body.clone(),
        order_id: new.order_id.as_ref().map(ToString::to_string),
        created_at: new.created_at,
        read_at: new.read_at,
    };
    notification::Entity::insert(row.into_active_model().reset_all())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

pub async fn notification_fetch_many<C: ConnectionTrait>(
    db: &C,
    ids: &[NotificationId],
) -> Result<HashMap<NotificationId, Notification>, DbErr> {
    let rows = notification::Entity::find()
        .filter(notification::Column::Id.is_in(ids.iter().map(NotificationId::as_str)))
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let notification = to_notification(row);
            (notification.id.clone(), notification)
        })
        .collect())
}

pub async fn notification_list<C: ConnectionTrait>(
    db: &C,
    user: &UserId,
    page: &Page<String>,
) -> Result<Vec<Notification>, DbErr> {
    let mut select =
        notification::Entity::find().filter(notification::Column::UserId.eq(user.as_str()));
    if let Some(after) = &page.after {
        select = select.filter(notification::Column::Id.lt(after));
    }
    let rows = select
        .order_by_desc(notification::Column::Id)
        .limit(page.limit())
        .all(db)
        .await?;
    Ok(rows.into_iter().map(to_notification).collect())
}

pub async fn notification_count<C: ConnectionTrait>(db: &C, user: &UserId) -> Result<u64, DbErr> {
    notification::Entity::find()
        .filter(notification::Column::UserId.eq(user.as_str()))
        .count(db)
        .await
}

/// Marks a notification as read; a repeat keeps the first time.
pub async fn notification_mark_read_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &NotificationId,
    now: Micros,
) -> Result<(), DbErr> {
    notification::Entity::update_many()
        .col_expr(notification::Column::ReadAt, Expr::value(now))
        .filter(notification::Column::Id.eq(id.as_str()))
        .filter(notification::Column::ReadAt.is_null())
        .exec(txn)
        .await?;
    Ok(())
}

fn to_notification(row: notification::Model) -> Notification {
    Notification {
        id: NotificationId::trusted(row.id),
        user_id: UserId::trusted(row.user_id),
        kind: row.kind,
        title: row.title,
        body: row.body,
        order_id: row.order_id.map(OrderId::trusted),
        created_at: row.created_at,
        read_at: row.read_at,
    }
}
