//! Carts and their lines.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use stoa_runtime::clock::Micros;
use stoa_schema::{Money, OrderId, ProductId, UserId};

use super::entity::{cart, cart_line};
use crate::domain::{Cart, CartLine};
use crate::error::Error;

const OPEN: &str = "OPEN";
const ORDERED: &str = "ORDERED";
const MERGED: &str = "MERGED";

/// The owner of a cart.
#[derive(Debug, Clone)]
pub enum CartOwner {
    Customer(UserId),
    /// The hash of a guest's token.
    Guest(String),
}

/// Stores a new, empty cart.
pub async fn cart_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    owner: &CartOwner,
    now: Micros,
) -> Result<Cart, DbErr> {
    let (customer_id, token_hash) = match owner {
        CartOwner::Customer(customer) => (Some(customer.clone()), None),
        CartOwner::Guest(hash) => (None, Some(hash.clone())),
    };
    cart::Entity::insert(cart::ActiveModel {
        id: Set(id.to_owned()),
        customer_id: Set(customer_id.as_ref().map(ToString::to_string)),
        token_hash: Set(token_hash),
        state: Set(OPEN.to_owned()),
        version: Set(1),
        order_id: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(Cart {
        id: id.to_owned(),
        customer_id,
        version: 1,
        lines: Vec::new(),
        updated_at: now,
    })
}

/// An open cart by ID, with the hash of its token if it is a guest's. Within a
/// transaction, on PostgreSQL, it is locked.
pub async fn cart_fetch<C: ConnectionTrait>(
    db: &C,
    id: &str,
) -> Result<Option<(Cart, Option<String>)>, Error> {
    let found = cart::Entity::find_by_id(id)
        .filter(cart::Column::State.eq(OPEN))
        .lock_exclusive()
        .one(db)
        .await?;
    match found {
        None => Ok(None),
        Some(row) => {
            let hash = row.token_hash.clone();
            Ok(Some((load_lines(db, row).await?, hash)))
        }
    }
}

/// A customer's open cart.
pub async fn cart_of_customer<C: ConnectionTrait>(
    db: &C,
    customer: &UserId,
) -> Result<Option<Cart>, Error> {
    let found = cart::Entity::find()
        .filter(cart::Column::CustomerId.eq(customer.as_str()))
        .filter(cart::Column::State.eq(OPEN))
        .lock_exclusive()
        .one(db)
        .await?;
    match found {
        None => Ok(None),
        Some(row) => Ok(Some(load_lines(db, row).await?)),
    }
}

async fn load_lines<C: ConnectionTrait>(db: &C, row: cart::Model) -> Result<Cart, Error> {
    let lines = cart_line::Entity::find()
        .filter(cart_line::Column::CartId.eq(&row.id))
        .order_by_asc(cart_line::Column::Position)
        .all(db)
        .await?;
    let lines = lines.into_iter().map(|line| {
        let currency = super::to_currency(&line.currency)?;
        Ok(CartLine {
            product_id: ProductId::trusted(line.product_id),
            quantity: u32::try_from(line.quantity).unwrap_or(u32::MAX),
            price: Money::new(line.price_minor, currency),
        })
    });
    Ok(Cart {
        id: row.id,
        customer_id: row.customer_id.map(UserId::trusted),
        version: row.version,
        lines: lines.collect::<Result<_, Error>>()?,
        updated_at: row.updated_at,
    })
}

/// Stores a changed cart, and increments its version.
pub async fn cart_store_in_txn<C: ConnectionTrait>(
    txn: &C,
    cart: &mut Cart,
    now: Micros,
) -> Result<(), DbErr> {
    cart.version += 1;
    cart.updated_at = now;
    cart::Entity::update_many()
        .col_expr(cart::Column::Version, Expr::value(cart.version))
        .col_expr(cart::Column::UpdatedAt, Expr::value(now))
        .filter(cart::Column::Id.eq(&cart.id))
        .exec(txn)
        .await?;
    cart_line::Entity::delete_many()
        .filter(cart_line::Column::CartId.eq(&cart.id))
        .exec(txn)
        .await?;
    if cart.lines.is_empty() {
        return Ok(());
    }
    let rows = (0_i64..)
        .zip(&cart.lines)
        .map(|(position, line)| cart_line::ActiveModel {
            cart_id: Set(cart.id.clone()),
            product_id: Set(line.product_id.to_string()),
            position: Set(position),
            quantity: Set(i64::from(line.quantity)),
            price_minor: Set(line.price.amount_minor),
            currency: Set(line.price.currency.code().to_owned()),
        });
    cart_line::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Closes a cart that became an order; returns false if it has changed since it
/// was read.
pub async fn cart_ordered_in_txn<C: ConnectionTrait>(
    txn: &C,
    cart: &Cart,
    order: &OrderId,
    now: Micros,
) -> Result<bool, DbErr> {
    let closed = cart::Entity::update_many()
        .col_expr(cart::Column::State, Expr::value(ORDERED))
        .col_expr(cart::Column::OrderId, Expr::value(order.as_str()))
        .col_expr(cart::Column::UpdatedAt, Expr::value(now))
        .filter(cart::Column::Id.eq(&cart.id))
        .filter(cart::Column::State.eq(OPEN))
        .filter(cart::Column::Version.eq(cart.version))
        .exec(txn)
        .await?;
    Ok(closed.rows_affected == 1)
}

/// Closes a guest's cart that was merged into a customer's.
pub async fn cart_merged_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &str,
    now: Micros,
) -> Result<(), DbErr> {
    cart::Entity::update_many()
        .col_expr(cart::Column::State, Expr::value(MERGED))
        .col_expr(cart::Column::UpdatedAt, Expr::value(now))
        .filter(cart::Column::Id.eq(id))
        .exec(txn)
        .await?;
    Ok(())
}

/// Deletes a batch of guest carts that were not changed since `before`; returns
/// how many.
pub async fn cart_purge_expired_in_txn<C: ConnectionTrait>(
    txn: &C,
    before: Micros,
    limit: u64,
) -> Result<u64, DbErr> {
    let old: Vec<String> = cart::Entity::find()
        .select_only()
        .column(cart::Column::Id)
        .filter(cart::Column::CustomerId.is_null())
        .filter(cart::Column::UpdatedAt.lt(before))
        .order_by_asc(cart::Column::UpdatedAt)
        .limit(limit)
        // Another replica may be deleting it, or its guest may be changing it.
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(txn)
        .await?;
    cart_line::Entity::delete_many()
        .filter(cart_line::Column::CartId.is_in(&old))
        .exec(txn)
        .await?;
    let deleted = cart::Entity::delete_many()
        .filter(cart::Column::Id.is_in(&old))
        .exec(txn)
        .await?;
    Ok(deleted.rows_affected)
}
