//! Reading and changing products.

use std::collections::HashMap;

use sea_orm::SqlErr;
use stoa_runtime::identity::Caller;
use stoa_schema::{CategoryId, ProductId};
use stoa_service::page::{PageError, PageRequest, Slice};

use super::{App, require_admin};
use crate::domain::{
    self, NewProduct, Problem, ProblemCode, Product, ProductChange, ProductFilter, ProductKey,
    ProductSort,
};
use crate::error::Error;
use crate::store::product as rows;
use crate::store::stock::adjustment_insert_in_txn;

/// How old the returned data may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// From the database, including stock.
    Fresh,
    /// A few minutes old, and without stock.
    Cached,
}

/// A request for a list of products.
#[derive(Debug, Clone, Default)]
pub struct ProductList {
    pub query: Option<String>,
    pub filter: ProductFilter,
    /// Includes its descendants.
    pub category: Option<CategoryId>,
    pub sort: ProductSort,
    pub page: PageRequest,
}

impl App {
    pub async fn product_fetch_many(
        &self,
        ids: &[ProductId],
        freshness: Freshness,
    ) -> Result<HashMap<ProductId, Product>, Error> {
        let load = async |ids: &[ProductId]| -> Result<_, Error> {
            rows::product_fetch_many(self.database.read(), ids).await
        };
        match freshness {
            Freshness::Fresh => load(ids).await,
            Freshness::Cached => self.products.fetch_many(ids, load).await,
        }
    }

    pub async fn product_fetch_by_sku(
        &self,
        skus: &[String],
    ) -> Result<HashMap<String, Product>, Error> {
        // PostgreSQL rejects text with a NUL; no SKU contains one.
        if skus.iter().any(|sku| sku.contains('\0')) {
            let sane: Vec<_> = skus
                .iter()
                .filter(|sku| !sku.contains('\0'))
                .cloned()
                .collect();
            return rows::product_fetch_by_sku(self.database.read(), &sane).await;
        }
        rows::product_fetch_by_sku(self.database.read(), skus).await
    }

    /// A page of products. Only administrators see inactive ones.
    pub async fn product_list(
        &self,
        caller: &Caller,
        list: ProductList,
        freshness: Freshness,
    ) -> Result<(Slice<Product>, ProductFilter), Error> {
        let ProductList {
            query,
            mut filter,
            category,
            sort,
            page: request,
        } = list;
        let page = request.check::<ProductKey>()?;
        if page
            .after
            .as_ref()
            .is_some_and(|key| !sort.accepts_cursor(key))
        {
            return Err(PageError::Cursor.into());
        }
        if !caller.is_admin() {
            filter.is_active = Some(true);
        }
        if let Some(category) = &category {
            let all = self.category_list().await?;
            filter.categories = Some(domain::descendants(&all, category));
        }
        filter.words = domain::search_words(&query.unwrap_or_default())
            .map_err(|max| Error::TooManyWords { max })?;
        let load = async || -> Result<_, Error> {
            rows::product_list(self.database.read(), &filter, sort, &page).await
        };
        // Administrators must see their own changes, and stock is never cached.
        let may_use_cache =
            freshness == Freshness::Cached && filter.in_stock.is_none() && !caller.is_admin();
        let rows = if may_use_cache {
            let key = serde_json::to_string(&(&filter, sort, &request))
                .map_err(|error| Error::corrupt(error.to_string()))?;
            self.searches.fetch(&key, load).await?
        } else {
            load().await?
        };
        Ok((page.slice(rows), filter))
    }

    pub async fn product_count(&self, filter: &ProductFilter) -> Result<u64, Error> {
        rows::product_count(self.database.read(), filter).await
    }

    pub async fn product_create(&self, caller: &Caller, new: NewProduct) -> Result<Product, Error> {
        require_admin(caller)?;
        let problems = new.problems();
        let Some(price) = new.price.filter(|_| problems.is_empty()) else {
            return Err(Error::Invalid(problems));
        };
        self.category_must_exist(new.category_id.as_ref()).await?;
        let now = self.clock.now();
        let product = Product {
            id: ProductId::new(),
            sku: new.sku,
            name: new.name.trim().to_owned(),
            description: new.description.trim().to_owned(),
            price,
            category_id: new.category_id,
            stock: Some(new.stock),
            is_active: true,
            created_at: now,
            updated_at: now,
        };
        let txn = self.database.begin().await?;
        rows::product_insert_in_txn(&txn, &product)
            .await
            .map_err(product_write_error)?;
        if new.stock > 0 {
            // Every unit ever received has an adjustment row with the reason.
            let actor = caller.subject().map(ToOwned::to_owned);
            adjustment_insert_in_txn(
                &txn,
                &product.id,
                new.stock,
                "first stock",
                actor.as_deref().unwrap_or("seed"),
                now,
            )
            .await?;
        }
        txn.commit().await?;
        self.invalidate_products().await;
        Ok(product)
    }

    pub async fn product_update(
        &self,
        caller: &Caller,
        id: &str,
        change: ProductChange,
    ) -> Result<Product, Error> {
        require_admin(caller)?;
        let problems = change.problems();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        if let Some(category) = &change.category_id {
            self.category_must_exist(category.as_ref()).await?;
        }
        let id = ProductId::parse(id).ok_or_else(|| product_not_found("id"))?;
        let txn = self.database.begin().await?;
        let mut product = rows::product_lock_in_txn(&txn, &id)
            .await?
            .ok_or_else(|| product_not_found("id"))?;
        if let Some(sku) = change.sku {
            product.sku = sku;
        }
        if let Some(name) = change.name {
            product.name = name.trim().to_owned();
        }
        if let Some(description) = change.description {
            product.description = description.trim().to_owned();
        }
        if let Some(Some(price)) = change.price {
            product.price = price;
        }
        if let Some(category) = change.category_id {
            product.category_id = category;
        }
        if let Some(active) = change.is_active {
            product.is_active = active;
        }
        product.updated_at = self.clock.now();
        rows::product_update_in_txn(&txn, &product)
            .await
            .map_err(product_write_error)?;
        txn.commit().await?;
        self.invalidate_products().await;
        Ok(product)
    }
}

pub(super) fn product_not_found(field: &str) -> Problem {
    Problem::new(
        &["input", field],
        ProblemCode::NotFound,
        "there is no such product",
    )
}

fn product_write_error(error: sea_orm::DbErr) -> Error {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => Problem::new(
            &["input", "sku"],
            ProblemCode::SkuTaken,
            "another product has this SKU",
        )
        .into(),
        // The category was deleted since the check.
        Some(SqlErr::ForeignKeyConstraintViolation(_)) => Problem::new(
            &["input", "categoryId"],
            ProblemCode::NotFound,
            "there is no such category",
        )
        .into(),
        _ => error.into(),
    }
}
