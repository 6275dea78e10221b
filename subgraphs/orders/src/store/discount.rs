//! Discount codes and their uses.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use stoa_runtime::clock::Micros;
use stoa_schema::money::Currency;
use stoa_schema::{Money, OrderId, UserId};
use stoa_service::page::Page;

use super::entity::{discount, discount_use};
use crate::domain::{Discount, DiscountKind, Order};
use crate::error::Error;

const PERCENTAGE: &str = "PERCENTAGE";
const AMOUNT: &str = "AMOUNT";

pub async fn discount_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    new: &Discount,
    now: Micros,
) -> Result<(), DbErr> {
    let (kind, value, currency) = match new.kind {
        DiscountKind::Percentage(rate) => (PERCENTAGE, rate, new.minimum.map(|m| m.currency)),
        DiscountKind::Amount(amount) => (AMOUNT, amount.amount_minor, Some(amount.currency)),
    };
    discount::Entity::insert(discount::ActiveModel {
        code: Set(new.code.clone()),
        kind: Set(kind.to_owned()),
        value: Set(value),
        currency: Set(currency.map(|currency| currency.code().to_owned())),
        minimum_minor: Set(new.minimum.map(|minimum| minimum.amount_minor)),
        starts_at: Set(new.starts_at),
        ends_at: Set(new.ends_at),
        total_limit: Set(new.total_limit),
        customer_limit: Set(new.customer_limit),
        is_active: Set(i64::from(new.is_active)),
        used: Set(new.used),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    Ok(())
}

/// Switches a code on or off; returns false if there is no such code.
pub async fn discount_set_active_in_txn<C: ConnectionTrait>(
    txn: &C,
    code: &str,
    is_active: bool,
) -> Result<bool, DbErr> {
    let done = discount::Entity::update_many()
        .col_expr(
            discount::Column::IsActive,
            Expr::value(i64::from(is_active)),
        )
        .filter(discount::Column::Code.eq(code))
        .exec(txn)
        .await?;
    Ok(done.rows_affected == 1)
}

pub async fn discount_fetch<C: ConnectionTrait>(
    db: &C,
    code: &str,
) -> Result<Option<Discount>, Error> {
    let row = discount::Entity::find_by_id(code).one(db).await?;
    row.map(to_discount).transpose()
}

/// Codes in alphabetical order.
pub async fn discount_list<C: ConnectionTrait>(
    db: &C,
    page: &Page<String>,
) -> Result<Vec<Discount>, Error> {
    let mut select = discount::Entity::find();
    if let Some(after) = &page.after {
        select = select.filter(discount::Column::Code.gt(after));
    }
    let select = select.order_by_asc(discount::Column::Code);
    let rows = select.limit(page.limit()).all(db).await?;
    rows.into_iter().map(to_discount).collect()
}

pub async fn discount_count<C: ConnectionTrait>(db: &C) -> Result<u64, DbErr> {
    discount::Entity::find().count(db).await
}

/// Reads a code and, on PostgreSQL, locks it: concurrent uses wait for this
/// transaction.
pub async fn discount_lock_in_txn<C: ConnectionTrait>(
    txn: &C,
    code: &str,
) -> Result<Option<Discount>, Error> {
    let locked = discount::Entity::find_by_id(code).lock_exclusive();
    locked.one(txn).await?.map(to_discount).transpose()
}

/// How often a customer has used a code.
pub async fn discount_use_count<C: ConnectionTrait>(
    db: &C,
    code: &str,
    customer: &UserId,
) -> Result<i64, DbErr> {
    let uses = discount_use::Entity::find()
        .filter(discount_use::Column::Code.eq(code))
        .filter(discount_use::Column::CustomerId.eq(customer.as_str()))
        .count(db)
        .await?;
    Ok(i64::try_from(uses).unwrap_or(i64::MAX))
}

/// Records that an order uses a code.
pub async fn discount_use_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    code: &str,
    order: &OrderId,
    customer: &UserId,
    now: Micros,
) -> Result<(), DbErr> {
    discount_use::Entity::insert(discount_use::ActiveModel {
        order_id: Set(order.to_string()),
        code: Set(code.to_owned()),
        customer_id: Set(customer.to_string()),
        created_at: Set(now),
    })
    .exec_without_returning(txn)
    .await?;
    count_in_txn(txn, code, 1).await
}

/// Removes a cancelled order's use of its code.
pub async fn discount_release_in_txn<C: ConnectionTrait>(
    txn: &C,
    order: &Order,
) -> Result<(), DbErr> {
    let Some(code) = &order.discount_code else {
        return Ok(());
    };
    let deleted = discount_use::Entity::delete_by_id(order.id.as_str())
        .exec(txn)
        .await?;
    if deleted.rows_affected == 1 {
        count_in_txn(txn, code, -1).await?;
    }
    Ok(())
}

async fn count_in_txn<C: ConnectionTrait>(txn: &C, code: &str, by: i64) -> Result<(), DbErr> {
    let used = discount::Column::Used;
    discount::Entity::update_many()
        .col_expr(used, Expr::col(used).add(by))
        .filter(discount::Column::Code.eq(code))
        .exec(txn)
        .await?;
    Ok(())
}

fn to_discount(row: discount::Model) -> Result<Discount, Error> {
    let currency = row
        .currency
        .as_deref()
        .map(super::to_currency)
        .transpose()?;
    let money = |amount| Money::new(amount, currency.unwrap_or(Currency::EUR));
    let kind = match row.kind.as_str() {
        PERCENTAGE => DiscountKind::Percentage(row.value),
        AMOUNT => DiscountKind::Amount(money(row.value)),
        other => return Err(Error::corrupt(format!("discount kind {other}"))),
    };
    Ok(Discount {
        code: row.code,
        kind,
        minimum: row.minimum_minor.map(money),
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        total_limit: row.total_limit,
        customer_limit: row.customer_limit,
        is_active: row.is_active != 0,
        used: row.used,
    })
}
