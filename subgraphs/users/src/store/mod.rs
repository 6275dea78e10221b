//! Rows and queries of accounts and sessions. Functions named `_in_txn` must run
//! within a transaction.

pub mod address;
mod entity;

use std::collections::HashMap;

use entity::{account, refresh_token, session};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use stoa_runtime::clock::Micros;
use stoa_runtime::identity::Role;
use stoa_schema::UserId;
use stoa_service::page::Page;

use crate::domain::Account;
use crate::error::Error;

/// A refresh token with the session that it belongs to.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    pub session_id: String,
    pub account_id: UserId,
    pub expires_at: Micros,
    pub used_at: Option<Micros>,
    pub session_revoked: bool,
}

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
        id: sea_orm::ActiveValue::Unchanged(row.id),
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

pub async fn session_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    account: &UserId,
    now: Micros,
) -> Result<(), DbErr> {
    session::Entity::insert(session::ActiveModel {
        id: Set(id.to_owned()),
        account_id: Set(account.to_string()),
        created_at: Set(now),
        revoked_at: Set(None),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

pub async fn session_revoke_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    now: Micros,
) -> Result<(), DbErr> {
    session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(now))
        .filter(session::Column::Id.eq(id))
        .filter(session::Column::RevokedAt.is_null())
        .exec(txn)
        .await?;
    Ok(())
}

pub async fn session_revoke_all_in_txn<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
    now: Micros,
) -> Result<(), DbErr> {
    session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(now))
        .filter(session::Column::AccountId.eq(account.as_str()))
        .filter(session::Column::RevokedAt.is_null())
        .exec(txn)
        .await?;
    Ok(())
}

pub async fn refresh_token_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    hash: &str,
    session_id: &str,
    expires_at: Micros,
) -> Result<(), DbErr> {
    refresh_token::Entity::insert(refresh_token::ActiveModel {
        hash: Set(hash.to_owned()),
        session_id: Set(session_id.to_owned()),
        expires_at: Set(expires_at),
        used_at: Set(None),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

pub async fn refresh_token_fetch<C: ConnectionTrait>(
    db: &C,
    hash: &str,
) -> Result<Option<RefreshToken>, DbErr> {
    let Some(token) = refresh_token::Entity::find_by_id(hash).one(db).await? else {
        return Ok(None);
    };
    let Some(session) = session::Entity::find_by_id(token.session_id.as_str())
        .one(db)
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(RefreshToken {
        session_id: token.session_id,
        account_id: UserId::trusted(session.account_id),
        expires_at: token.expires_at,
        used_at: token.used_at,
        session_revoked: session.revoked_at.is_some(),
    }))
}

/// Marks a token as used; false if another request used it first.
pub async fn refresh_token_use_in_txn<C: ConnectionTrait>(
    txn: &C,
    hash: &str,
    now: Micros,
) -> Result<bool, DbErr> {
    let done = refresh_token::Entity::update_many()
        .col_expr(refresh_token::Column::UsedAt, Expr::value(now))
        .filter(refresh_token::Column::Hash.eq(hash))
        .filter(refresh_token::Column::UsedAt.is_null())
        .exec(txn)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Deletes expired tokens.
pub async fn refresh_token_delete_expired_in_txn<C: ConnectionTrait>(
    txn: &C,
    now: Micros,
) -> Result<u64, DbErr> {
    let done = refresh_token::Entity::delete_many()
        .filter(refresh_token::Column::ExpiresAt.lt(now))
        .exec(txn)
        .await?;
    Ok(done.rows_affected)
}

fn to_account(row: account::Model) -> Result<Account, Error> {
    Ok(Account {
        role: Role::parse(&row.role).ok_or_else(|| Error::corrupt(format!("role {}", row.role)))?,
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
        role: account.role.as_str().to_owned(),
        is_active: account.is_active,
        created_at: account.created_at,
        updated_at: account.updated_at,
    }
}
