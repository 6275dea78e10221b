//! Products.

use std::collections::HashMap;

use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait,
    IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use stoa_schema::money::Currency;
use stoa_schema::{CategoryId, Money, ProductId};
use stoa_service::page::Page;

use super::entity::product;
use crate::domain::{Product, ProductFilter, ProductKey, ProductSort};
use crate::error::Error;

/// The column that a sort compares first; the newest are sorted by ID alone.
fn sort_column(sort: ProductSort) -> Option<product::Column> {
    match sort {
        ProductSort::Newest => None,
        ProductSort::NameAsc | ProductSort::NameDesc => Some(product::Column::Name),
        ProductSort::PriceAsc | ProductSort::PriceDesc => Some(product::Column::PriceMinor),
    }
}

/// The condition for the rows after a key.
fn condition_after(sort: ProductSort, key: &ProductKey) -> Condition {
    let id = product::Column::Id;
    let after_id = if sort.is_ascending() {
        id.gt(&key.id)
    } else {
        id.lt(&key.id)
    };
    let value: Option<sea_orm::Value> = match (&key.text, key.number) {
        (Some(text), _) => Some(text.clone().into()),
        (None, Some(number)) => Some(number.into()),
        (None, None) => None,
    };
    let (Some(column), Some(value)) = (sort_column(sort), value) else {
        return Condition::all().add(after_id);
    };
    let beyond = if sort.is_ascending() {
        column.gt(value.clone())
    } else {
        column.lt(value.clone())
    };
    Condition::any()
        .add(beyond)
        .add(Condition::all().add(column.eq(value)).add(after_id))
}

pub async fn product_fetch_many<C: ConnectionTrait>(
    db: &C,
    ids: &[ProductId],
) -> Result<HashMap<ProductId, Product>, Error> {
    let ids = ids.iter().map(ProductId::as_str);
    let rows = product::Entity::find()
        .filter(product::Column::Id.is_in(ids))
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| to_product(row).map(|product| (product.id.clone(), product)))
        .collect()
}

/// Reads a product and, on PostgreSQL, locks it for this transaction.
pub async fn product_lock_in_txn<C: ConnectionTrait>(
    txn: &C,
    id: &ProductId,
) -> Result<Option<Product>, Error> {
    let row = product::Entity::find_by_id(id.as_str())
        .lock_exclusive()
        .one(txn)
        .await?;
    row.map(to_product).transpose()
}

pub async fn product_fetch_by_sku<C: ConnectionTrait>(
    db: &C,
    skus: &[String],
) -> Result<HashMap<String, Product>, Error> {
    let rows = product::Entity::find()
        .filter(product::Column::Sku.is_in(skus))
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| to_product(row).map(|product| (product.sku.clone(), product)))
        .collect()
}

pub async fn product_list<C: ConnectionTrait>(
    db: &C,
    filter: &ProductFilter,
    sort: ProductSort,
    page: &Page<ProductKey>,
) -> Result<Vec<Product>, Error> {
    let mut select = select_filtered(db.get_database_backend(), filter);
    if let Some(key) = &page.after {
        select = select.filter(condition_after(sort, key));
    }
    select = match (sort_column(sort), sort.is_ascending()) {
        (Some(column), true) => select
            .order_by_asc(column)
            .order_by_asc(product::Column::Id),
        (Some(column), false) => select
            .order_by_desc(column)
            .order_by_desc(product::Column::Id),
        (None, _) => select.order_by_desc(product::Column::Id),
    };
    let rows = select.limit(page.limit()).all(db).await?;
    rows.into_iter().map(to_product).collect()
}

pub async fn product_count<C: ConnectionTrait>(
    db: &C,
    filter: &ProductFilter,
) -> Result<u64, Error> {
    Ok(select_filtered(db.get_database_backend(), filter)
        .count(db)
        .await?)
}

fn select_filtered(backend: DbBackend, filter: &ProductFilter) -> Select<product::Entity> {
    let mut select = product::Entity::find();
    if !filter.words.is_empty() {
        select = select.filter(search_condition(backend, &filter.words));
    }
    if let Some(categories) = &filter.categories {
        let ids = categories.iter().map(CategoryId::as_str);
        select = select.filter(product::Column::CategoryId.is_in(ids));
    }
    if let Some(min) = filter.price_min {
        select = select.filter(product::Column::PriceMinor.gte(min));
    }
    if let Some(max) = filter.price_max {
        select = select.filter(product::Column::PriceMinor.lte(max));
    }
    if let Some(in_stock) = filter.in_stock {
        select = select.filter(if in_stock {
            product::Column::Stock.gt(0)
        } else {
            product::Column::Stock.eq(0)
        });
    }
    if let Some(active) = filter.is_active {
        select = select.filter(product::Column::IsActive.eq(active));
    }
    select
}

/// Matches every word as a prefix. Words contain only letters and digits, and
/// are quoted all the same.
fn search_condition(backend: DbBackend, words: &[String]) -> SimpleExpr {
    if backend == DbBackend::Postgres {
        let query: Vec<_> = words.iter().map(|word| format!("'{word}':*")).collect();
        Expr::cust_with_values(
            r"search @@ to_tsquery('simple', normalize(regexp_replace(normalize($1, NFD), '([A-Za-z])[\u0300-\u036F]+', '\1', 'g'), NFC))",
            [query.join(" & ")],
        )
    } else {
        let query: Vec<_> = words.iter().map(|word| format!("\"{word}\"*")).collect();
        Expr::cust_with_values(
            "number IN (SELECT rowid FROM product_search WHERE product_search MATCH ?)",
            [query.join(" AND ")],
        )
    }
}

pub async fn product_insert_in_txn<C: ConnectionTrait>(
    txn: &C,
    product: &Product,
) -> Result<(), DbErr> {
    let row = from_product(product).into_active_model();
    product::Entity::insert(row.reset_all())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Writes everything but the stock, which only conditional updates change.
pub async fn product_update_in_txn<C: ConnectionTrait>(
    txn: &C,
    product: &Product,
) -> Result<(), DbErr> {
    let row = from_product(product);
    product::ActiveModel {
        id: Unchanged(row.id),
        sku: Set(row.sku),
        name: Set(row.name),
        description: Set(row.description),
        price_minor: Set(row.price_minor),
        currency: Set(row.currency),
        category_id: Set(row.category_id),
        is_active: Set(row.is_active),
        updated_at: Set(row.updated_at),
        ..Default::default()
    }
    .update_without_returning(txn)
    .await?;
    Ok(())
}

fn to_product(row: product::Model) -> Result<Product, Error> {
    let currency = Currency::parse(&row.currency)
        .ok_or_else(|| Error::corrupt(format!("currency {}", row.currency)))?;
    Ok(Product {
        id: ProductId::trusted(row.id),
        sku: row.sku,
        name: row.name,
        description: row.description,
        price: Money::new(row.price_minor, currency),
        category_id: row.category_id.map(CategoryId::trusted),
        stock: Some(row.stock),
        is_active: row.is_active,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn from_product(product: &Product) -> product::Model {
    product::Model {
        id: product.id.to_string(),
        sku: product.sku.clone(),
        name: product.name.clone(),
        description: product.description.clone(),
        price_minor: product.price.amount_minor,
        currency: product.price.currency.code().to_owned(),
        category_id: product.category_id.as_ref().map(ToString::to_string),
        stock: product.stock.unwrap_or_default(),
        is_active: product.is_active,
        created_at: product.created_at,
        updated_at: product.updated_at,
    }
}
