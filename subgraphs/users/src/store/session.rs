//! Sessions and their refresh tokens.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use stoa_runtime::clock::Micros;
use stoa_schema::UserId;

use super::entity::{refresh_token, session};
use crate::domain::RefreshToken;

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
