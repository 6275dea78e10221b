//! Accounts.

use std::collections::HashMap;

use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use stoa_schema::UserId;
use stoa_service::page::Page;

use super::entity::account;
use crate::domain::Account;
use crate::error::Error;

pub async fn account_fetch_many<C: ConnectionTrait>(
    db: &C,
    ids: &[UserId],
) -> Result<HashMap<UserId, Account>, Error> {
    let rows = account::Entity::find()
        .filter(account::Column::Id.is_in(ids.iter().map(UserId::as_str)))
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| to_account(row).map(|account| (account.id.clone(), account)))
        .collect()
}

/// Reads an account and, on PostgreSQL, locks it for this transaction.
pub async fn account_lock_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &UserId,
) -> Result<Option<Account>, Error> {
    let row = account::Entity::find_by_id(id.as_str())
        .lock_exclusive()
        .one(txn)
        .await?;
    row.map(to_account).transpose()
}

pub async fn account_fetch_by_email<C: ConnectionTrait>(
    db: &C,
    email: &str,
) -> Result<Option<Account>, Error> {
    let row = account::Entity::find()
        .filter(account::Column::Email.eq(email))
        .one(db)
        .await?;
    row.map(to_account).transpose()
}

pub async fn account_list<C: ConnectionTrait>(
    db: &C,
    page: &Page<String>,
) -> Result<Vec<Account>, Error> {
    let mut select = account::Entity::find();
    if let Some(after) = &page.after {
        select = select.filter(account::Column::Id.lt(after));
    }
    let rows = select
        .order_by_desc(account::Column::Id)
        .limit(page.limit())
        .all(db)
        .await?;
    rows.into_iter().map(to_account).collect()
}

pub async fn account_count<C: ConnectionTrait>(db: &C) -> Result<u64, DbErr> {
    account::Entity::find().count(db).await
}

pub async fn account_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    account: &Account,
) -> Result<(), DbErr> {
    let row = from_account(account).into_active_model().reset_all();
    account::Entity::insert(row)
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

pub async fn account_update_in_txn<C: ConnectionTrait>(
    txn: &C,
    changed: &Account,
) -> Result<(), DbErr> {
    let row = from_account(changed);
    account::ActiveModel {
        id: Unchanged(row.id),
        email: Set(row.email),
        password_hash: Set(row.password_hash),
        first_name: Set(row.first_name),
        last_name: Set(row.last_name),
        role: Set(row.role),
        is_active: Set(row.is_active),
        created_at: Set(row.created_at),
        updated_at: Set(row.updated_at),
    }
    .update_without_returning(txn)
    .await?;
    Ok(())
}

fn to_account(row: account::Model) -> Result<Account, Error> {
    Ok(Account {
        role: row
            .role
            .parse()
            .map_err(|_| Error::corrupt(format!("role {}", row.role)))?,
        id: UserId::trusted(row.id),
        email: row.email,
        password_hash: row.password_hash,
        first_name: row.first_name,
        last_name: row.last_name,
        is_active: row.is_active,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn from_account(account: &Account) -> account::Model {
    account::Model {
        id: account.id.to_string(),
        email: account.email.clone(),
        password_hash: account.password_hash.clone(),
        first_name: account.first_name.clone(),
        last_name: account.last_name.clone(),
        role: account.role.into_str().to_owned(),
        is_active: account.is_active,
        created_at: account.created_at,
        updated_at: account.updated_at,
    }
}
