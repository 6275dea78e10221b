//! Categories.

use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use stoa_runtime::clock::Micros;
use stoa_schema::CategoryId;

use super::entity::{category, product};
use crate::domain::Category;

/// Lets one transaction at a time change the category tree: a rule about the
/// whole tree cannot be enforced by locking rows. SQLite has one writer anyway.
pub async fn category_tree_lock_in_txn<C: ConnectionTrait>(txn: &C) -> Result<(), DbErr> {
    if txn.get_database_backend() == DbBackend::Postgres {
        txn.execute_unprepared("LOCK TABLE category IN SHARE ROW EXCLUSIVE MODE")
            .await?;
    }
    Ok(())
}

pub async fn category_list<C: ConnectionTrait>(db: &C) -> Result<Vec<Category>, DbErr> {
    let rows = category::Entity::find()
        .order_by_asc(category::Column::Name)
        .order_by_asc(category::Column::Id)
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Category {
            id: CategoryId::trusted(row.id),
            name: row.name,
            parent_id: row.parent_id.map(CategoryId::trusted),
        })
        .collect())
}

pub async fn category_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    new: &Category,
    now: Micros,
) -> Result<(), DbErr> {
    category::Entity::insert(category::ActiveModel {
        id: Set(new.id.to_string()),
        name: Set(new.name.clone()),
        parent_id: Set(new.parent_id.as_ref().map(ToString::to_string)),
        created_at: Set(now),
        updated_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

pub async fn category_update_in_txn<C: ConnectionTrait>(
    txn: &C,
    changed: &Category,
    now: Micros,
) -> Result<(), DbErr> {
    category::ActiveModel {
        id: Unchanged(changed.id.to_string()),
        name: Set(changed.name.clone()),
        parent_id: Set(changed.parent_id.as_ref().map(ToString::to_string)),
        updated_at: Set(now),
        ..Default::default()
    }
    .update_without_returning(txn)
    .await?;
    Ok(())
}

pub async fn category_delete_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &CategoryId,
) -> Result<(), DbErr> {
    category::Entity::delete_by_id(id.as_str())
        .exec(txn)
        .await?;
    Ok(())
}

/// Whether a category directly contains any product.
pub async fn category_has_products<C: ConnectionTrait>(
    db: &C,
    id: &CategoryId,
) -> Result<bool, DbErr> {
    let found = product::Entity::find()
        .filter(product::Column::CategoryId.eq(id.as_str()))
        .limit(1)
        .all(db)
        .await?;
    Ok(!found.is_empty())
}
