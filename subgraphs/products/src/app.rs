//! The catalogue's verbs. Who may do what is decided here.

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
use stoa_service::idempotency::{Claim, Use};
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

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// From the database, stock and all.
    Fresh,
    /// A few minutes old, and without stock.
    Cached,
}

/// A list of products as somebody asks for it.
#[derive(Debug, Clone, Default)]
pub struct ProductList {
    pub query: Option<String>,
    pub filter: ProductFilter,
    /// With all below it.
    pub category: Option<CategoryId>,
    pub sort: ProductSort,
    pub page: PageRequest,
}

/// A change of stock by hand.
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
        // PostgreSQL takes no such text; no product has such a SKU.
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

    /// A page of products. What is not active is for administrators.
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
        if page.after.as_ref().is_some_and(|key| !sort.owns(key)) {
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
        // Administrators see what they have just done, and stock is never old.
        let may_be_old =
            freshness == Freshness::Cached && filter.in_stock.is_none() && !caller.is_admin();
        let rows = if may_be_old {
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
        admin(caller)?;
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
            .map_err(sku_taken)?;
        if new.stock > 0 {
            // Every unit that is ever there has a row that says why.
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
        self.catalogue_changed().await;
        Ok(product)
    }

    /// What was cached of products is old.
    async fn catalogue_changed(&self) {
        Region::invalidate_all(&[&self.products, &self.searches]).await;
    }

    async fn categories_changed(&self) {
        Region::invalidate_all(&[&self.categories, &self.searches]).await;
    }

    pub async fn product_update(
        &self,
        caller: &Caller,
        id: &str,
        change: ProductChange,
    ) -> Result<Product, Error> {
        admin(caller)?;
        let problems = change.problems();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        if let Some(category) = &change.category_id {
            self.category_must_exist(category.as_ref()).await?;
        }
        let id = ProductId::parse(id).ok_or_else(|| no_product("id"))?;
        let txn = self.database.begin().await?;
        let mut product = store::product_lock_in_txn(&txn, &id)
            .await?
            .ok_or_else(|| no_product("id"))?;
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
            .map_err(sku_taken)?;
        txn.commit().await?;
        self.catalogue_changed().await;
        Ok(product)
    }

    /// Adds or removes units, once for each key, with a row that says why.
    pub async fn stock_adjust(
        &self,
        caller: &Caller,
        adjustment: Adjustment,
        key: &str,
    ) -> Result<Product, Error> {
        let actor = admin(caller)?;
        let mut problems = Vec::new();
        if adjustment.delta == 0 || adjustment.delta.abs() > MAX_STOCK {
            problems.push(Problem::new(
                &["input", "delta"],
                ProblemCode::Invalid,
                format!("must not be 0, nor beyond {MAX_STOCK} either way"),
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
        let once =
            Use::new(actor, key, "adjustStock", &adjustment).ok_or_else(Problem::invalid_key)?;
        let id = ProductId::parse(&adjustment.product_id).ok_or_else(|| no_product("productId"))?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        match once.claim_in_txn(&txn, id.as_str(), now).await? {
            Claim::Go { .. } => {
                let delta = adjustment.delta;
                if delta > 0 {
                    store::stock::stock_return_in_txn(&txn, &id, delta, now).await?;
                } else if !store::stock::stock_take_in_txn(&txn, &id, -delta, now).await? {
                    let known = store::product_fetch_many(&txn, std::slice::from_ref(&id)).await?;
                    return Err(match known.get(&id) {
                        None => no_product("productId").into(),
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
                once.finish_in_txn(&txn, &"done").await?;
            }
            Claim::Done { .. } => {}
            conflict @ (Claim::InProgress | Claim::Reused) => {
                return Err(Problem::key_conflict(&conflict).into());
            }
        }
        let product = store::product_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .ok_or_else(|| no_product("productId"))?;
        txn.commit().await?;
        Ok(product)
    }

    /// The whole tree, by name.
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
        admin(caller)?;
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
        self.categories_changed().await;
        Ok(category)
    }

    pub async fn category_update(
        &self,
        caller: &Caller,
        id: &str,
        name: Option<String>,
        parent_id: Option<Option<CategoryId>>,
    ) -> Result<Category, Error> {
        admin(caller)?;
        let txn = self.database.begin().await?;
        store::category_tree_lock_in_txn(&txn).await?;
        let mut all = store::category_list(&txn).await?;
        let category = all
            .iter_mut()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(no_category)?;
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
        self.categories_changed().await;
        Ok(changed)
    }

    /// Deletes an empty category; answers what it was.
    pub async fn category_delete(&self, caller: &Caller, id: &str) -> Result<Category, Error> {
        admin(caller)?;
        let txn = self.database.begin().await?;
        store::category_tree_lock_in_txn(&txn).await?;
        let all = store::category_list(&txn).await?;
        let category = all
            .iter()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(no_category)?;
        let has_children = all
            .iter()
            .any(|c| c.parent_id.as_ref() == Some(&category.id));
        if has_children || store::category_has_products(&txn, &category.id).await? {
            return Err(category_in_use().into());
        }
        store::category_delete_in_txn(&txn, &category.id)
            .await
            .map_err(|error| match error.sql_err() {
                // A product came in since we looked.
                Some(SqlErr::ForeignKeyConstraintViolation(_)) => category_in_use().into(),
                _ => Error::from(error),
            })?;
        txn.commit().await?;
        self.categories_changed().await;
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
            format!("a category cannot stand below itself, nor more than {MAX_DEPTH} levels deep"),
        )
        .into());
    }
    Ok(())
}

/// Lets administrators pass; answers who it is.
fn admin(caller: &Caller) -> Result<&str, Error> {
    match caller {
        Caller::User { id, .. } if caller.is_admin() => Ok(id.as_str()),
        // The demo data is made by the service itself.
        Caller::Service { name } => Ok(name),
        Caller::User { .. } => Err(CommonError::NotAdmin.into()),
        Caller::Anonymous => Err(CommonError::Unauthenticated.into()),
    }
}

fn no_product(field: &str) -> Problem {
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
        "still holds products or categories",
    )
}

fn no_category() -> Problem {
    Problem::new(&["id"], ProblemCode::NotFound, "there is no such category")
}

fn sku_taken(error: sea_orm::DbErr) -> Error {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => Problem::new(
            &["input", "sku"],
            ProblemCode::SkuTaken,
            "another product has this SKU",
        )
        .into(),
        // The category went since we looked.
        Some(SqlErr::ForeignKeyConstraintViolation(_)) => Problem::new(
            &["input", "categoryId"],
            ProblemCode::NotFound,
            "there is no such category",
        )
        .into(),
        _ => error.into(),
    }
}
