//! Operations on the catalogue. Permissions are checked here.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::SqlErr;
use serde::Serialize;
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::Caller;
use stoa_schema::{CategoryId, ProductId};
use stoa_service::cache::{Cache, Region};
use stoa_service::database::Database;
use stoa_service::error::CommonError;
use stoa_service::idempotency::{ClaimOutcome, IdempotencyKey};
use stoa_service::page::{PageError, PageRequest, Slice};

use crate::domain::{
    self, Category, MAX_CATEGORY_NAME, MAX_DEPTH, MAX_REASON, MAX_STOCK, NewProduct, Problem,
    ProblemCode, Product, ProductChange,
};
use crate::error::Error;
use crate::store::{self, ProductFilter, ProductKey, ProductSort};

const PRODUCTS_TTL: Duration = Duration::from_secs(5 * 60);
const CATEGORIES_TTL: Duration = Duration::from_secs(10 * 60);
const SEARCHES_TTL: Duration = Duration::from_secs(2 * 60);

/// The products service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    products: Region,
    categories: Region,
    searches: Region,
}

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

/// A manual change of stock.
#[derive(Debug, Clone, Serialize)]
pub struct Adjustment {
    pub product_id: String,
    pub delta: i64,
    pub reason: String,
}

impl App {
    pub fn new(database: Database, cache: &Cache, clock: Clock) -> Self {
        Self {
            database,
            clock,
            products: cache.region("product", PRODUCTS_TTL),
            categories: cache.region("category", CATEGORIES_TTL),
            searches: cache.region("search", SEARCHES_TTL),
        }
    }

    pub async fn product_fetch_many(
        &self,
        ids: &[ProductId],
        freshness: Freshness,
    ) -> Result<HashMap<ProductId, Product>, Error> {
        let load = async |ids: &[ProductId]| -> Result<_, Error> {
            store::product_fetch_many(self.database.read(), ids).await
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
            return store::product_fetch_by_sku(self.database.read(), &sane).await;
        }
        store::product_fetch_by_sku(self.database.read(), skus).await
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
            store::product_list(self.database.read(), &filter, sort, &page).await
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
        store::product_count(self.database.read(), filter).await
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
        store::product_insert_in_txn(&txn, &product)
            .await
            .map_err(product_write_error)?;
        if new.stock > 0 {
            // Every unit ever received has an adjustment row with the reason.
            let actor = caller.subject().map(ToOwned::to_owned);
            store::stock::adjustment_insert_in_txn(
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

    /// Invalidates cached products and searches.
    async fn invalidate_products(&self) {
        Region::invalidate_all(&[&self.products, &self.searches]).await;
    }

    async fn invalidate_categories(&self) {
        Region::invalidate_all(&[&self.categories, &self.searches]).await;
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
        let mut product = store::product_lock_in_txn(&txn, &id)
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
        store::product_update_in_txn(&txn, &product)
            .await
            .map_err(product_write_error)?;
        txn.commit().await?;
        self.invalidate_products().await;
        Ok(product)
    }

    /// Adds or removes units, once per idempotency key, and records the reason.
    pub async fn stock_adjust(
        &self,
        caller: &Caller,
        adjustment: Adjustment,
        key: &str,
    ) -> Result<Product, Error> {
        let actor = require_admin(caller)?;
        let mut problems = Vec::new();
        if adjustment.delta == 0 || adjustment.delta.abs() > MAX_STOCK {
            problems.push(Problem::new(
                &["input", "delta"],
                ProblemCode::Invalid,
                format!("must not be 0, nor more than {MAX_STOCK} in either direction"),
            ));
        }
        problems.extend(domain::text_problem(
            "reason",
            &adjustment.reason,
            1,
            MAX_REASON,
        ));
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let idempotency_key = IdempotencyKey::new(actor, key, "adjustStock", &adjustment)
            .ok_or_else(Problem::invalid_key)?;
        let id = ProductId::parse(&adjustment.product_id)
            .ok_or_else(|| product_not_found("productId"))?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        // The key is claimed in the transaction of the change: both are stored, or neither.
        match idempotency_key.claim_in_txn(&txn, id.as_str(), now).await? {
            ClaimOutcome::Acquired { .. } => {
                let delta = adjustment.delta;
                if delta > 0 {
                    store::stock::stock_add_in_txn(&txn, &id, delta, now).await?;
                } else if !store::stock::stock_take_in_txn(&txn, &id, -delta, now).await? {
                    // Nothing was taken: there is no such product, or too few units.
                    let known = store::product_fetch_many(&txn, std::slice::from_ref(&id)).await?;
                    return Err(match known.get(&id) {
                        None => product_not_found("productId").into(),
                        Some(product) => Problem::new(
                            &["input", "delta"],
                            ProblemCode::InsufficientStock,
                            format!("there are only {} units", product.stock.unwrap_or_default()),
                        )
                        .into(),
                    });
                }
                store::stock::adjustment_insert_in_txn(
                    &txn,
                    &id,
                    delta,
                    adjustment.reason.trim(),
                    actor,
                    now,
                )
                .await?;
                idempotency_key.finish_in_txn(&txn, &"done").await?;
            }
            // A repeat changes nothing and returns the product as it is now.
            ClaimOutcome::Done { .. } => {}
            conflict @ (ClaimOutcome::InProgress | ClaimOutcome::Reused) => {
                return Err(Problem::key_conflict(&conflict).into());
            }
        }
        let product = store::product_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .ok_or_else(|| product_not_found("productId"))?;
        txn.commit().await?;
        Ok(product)
    }

    /// All categories, sorted by name.
    pub async fn category_list(&self) -> Result<Vec<Category>, Error> {
        self.categories
            .fetch("all", async || {
                Ok(store::category_list(self.database.read()).await?)
            })
            .await
    }

    pub async fn category_create(
        &self,
        caller: &Caller,
        name: &str,
        parent_id: Option<CategoryId>,
    ) -> Result<Category, Error> {
        require_admin(caller)?;
        let category = Category {
            id: CategoryId::new(),
            name: name.trim().to_owned(),
            parent_id,
        };
        let txn = self.database.begin().await?;
        store::category_tree_lock_in_txn(&txn).await?;
        let mut all = store::category_list(&txn).await?;
        all.push(category.clone());
        check_category(&all, &category)?;
        store::category_insert_in_txn(&txn, &category, self.clock.now()).await?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(category)
    }

    pub async fn category_update(
        &self,
        caller: &Caller,
        id: &str,
        name: Option<String>,
        parent_id: Option<Option<CategoryId>>,
    ) -> Result<Category, Error> {
        require_admin(caller)?;
        let txn = self.database.begin().await?;
        store::category_tree_lock_in_txn(&txn).await?;
        let mut all = store::category_list(&txn).await?;
        let category = all
            .iter_mut()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(category_not_found)?;
        if let Some(name) = name {
            category.name = name.trim().to_owned();
        }
        if let Some(parent_id) = parent_id {
            category.parent_id = parent_id;
        }
        let changed = category.clone();
        check_category(&all, &changed)?;
        store::category_update_in_txn(&txn, &changed, self.clock.now()).await?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(changed)
    }

    /// Deletes an empty category and returns it.
    pub async fn category_delete(&self, caller: &Caller, id: &str) -> Result<Category, Error> {
        require_admin(caller)?;
        let txn = self.database.begin().await?;
        store::category_tree_lock_in_txn(&txn).await?;
        let all = store::category_list(&txn).await?;
        let category = all
            .iter()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(category_not_found)?;
        let has_children = all
            .iter()
            .any(|c| c.parent_id.as_ref() == Some(&category.id));
        if has_children || store::category_has_products(&txn, &category.id).await? {
            return Err(category_in_use().into());
        }
        store::category_delete_in_txn(&txn, &category.id)
            .await
            .map_err(|error| match error.sql_err() {
                // A product was added to it since the check.
                Some(SqlErr::ForeignKeyConstraintViolation(_)) => category_in_use().into(),
                _ => Error::from(error),
            })?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(category.clone())
    }

    async fn category_must_exist(&self, id: Option<&CategoryId>) -> Result<(), Error> {
        let Some(id) = id else { return Ok(()) };
        let all = store::category_list(self.database.read()).await?;
        if all.iter().any(|category| category.id == *id) {
            return Ok(());
        }
        Err(Problem::new(
            &["input", "categoryId"],
            ProblemCode::NotFound,
            "there is no such category",
        )
        .into())
    }
}

fn check_category(all: &[Category], category: &Category) -> Result<(), Error> {
    if let Some(problem) = domain::text_problem("name", &category.name, 1, MAX_CATEGORY_NAME) {
        return Err(problem.into());
    }
    let Some(parent) = &category.parent_id else {
        return Ok(());
    };
    if !all.iter().any(|other| other.id == *parent) {
        return Err(Problem::new(
            &["input", "parentId"],
            ProblemCode::NotFound,
            "there is no such category",
        )
        .into());
    }
    let below = domain::descendants(all, &category.id);
    let too_deep = below.iter().any(|id| domain::depth(all, id) > MAX_DEPTH);
    if too_deep || below.contains(parent) {
        return Err(Problem::new(
            &["input", "parentId"],
            ProblemCode::CategoryCycle,
            format!("a category cannot be below itself, nor more than {MAX_DEPTH} levels deep"),
        )
        .into());
    }
    Ok(())
}

/// Requires an administrator; returns who it is.
fn require_admin(caller: &Caller) -> Result<&str, Error> {
    match caller {
        Caller::User { id, .. } if caller.is_admin() => Ok(id.as_str()),
        // The service itself creates the demo data.
        Caller::Service { name } => Ok(name),
        Caller::User { .. } => Err(CommonError::NotAdmin.into()),
        Caller::Anonymous => Err(CommonError::Unauthenticated.into()),
    }
}

fn product_not_found(field: &str) -> Problem {
    Problem::new(
        &["input", field],
        ProblemCode::NotFound,
        "there is no such product",
    )
}

fn category_in_use() -> Problem {
    Problem::new(
        &["id"],
        ProblemCode::CategoryInUse,
        "still contains products or categories",
    )
}

fn category_not_found() -> Problem {
    Problem::new(&["id"], ProblemCode::NotFound, "there is no such category")
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
