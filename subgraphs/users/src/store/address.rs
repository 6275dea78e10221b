//! The rows of address books.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use stoa_runtime::clock::Micros;
use stoa_schema::UserId;

use super::entity::saved_address::{ActiveModel, Column, Entity};
use crate::domain::SavedAddress;
use crate::error::Error;

/// The addresses of accounts, oldest first.
pub async fn address_fetch_many<C: ConnectionTrait>(
    db: &C,
    accounts: &[UserId],
) -> Result<HashMap<UserId, Vec<SavedAddress>>, Error> {
    let rows = Entity::find()
        .filter(Column::AccountId.is_in(accounts.iter().map(UserId::as_str)))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id)
        .all(db)
        .await?;
    let mut found: HashMap<UserId, Vec<SavedAddress>> = HashMap::new();
    for row in rows {
        let address = serde_json::from_str(&row.address)
            .map_err(|error| Error::corrupt(error.to_string()))?;
        let account = UserId::trusted(row.account_id);
        found.entry(account).or_default().push(SavedAddress {
            id: row.id,
            address,
            is_default: row.is_default != 0,
        });
    }
    Ok(found)
}

pub async fn address_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
    saved: &SavedAddress,
    now: Micros,
) -> Result<(), Error> {
    Entity::insert(ActiveModel {
        id: Set(saved.id.clone()),
        account_id: Set(account.to_string()),
        address: Set(address_json(saved)?),
        is_default: Set(i64::from(saved.is_default)),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

pub async fn address_update_in_txn<C: ConnectionTrait>(
    txn: &C,
    saved: &SavedAddress,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Address, Expr::value(address_json(saved)?))
        .col_expr(Column::IsDefault, Expr::value(i64::from(saved.is_default)))
        .filter(Column::Id.eq(&saved.id))
        .exec(txn)
        .await?;
    Ok(())
}

/// Clears the default flag of all addresses of an account.
pub async fn address_clear_default_in_txn<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::IsDefault, Expr::value(0_i64))
        .filter(Column::AccountId.eq(account.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Deletes one address, or all addresses of an account.
pub async fn address_delete_in_txn<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
    id: Option<&str>,
) -> Result<(), DbErr> {
    let mut delete = Entity::delete_many().filter(Column::AccountId.eq(account.as_str()));
    if let Some(id) = id {
        delete = delete.filter(Column::Id.eq(id));
    }
    delete.exec(txn).await?;
    Ok(())
}

fn address_json(saved: &SavedAddress) -> Result<String, Error> {
    serde_json::to_string(&saved.address).map_err(|error| Error::corrupt(error.to_string()))
}
