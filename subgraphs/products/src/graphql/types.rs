//! Products and categories as clients see them.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Lookahead, Object, Result, SimpleObject};
use stoa_service::graphql::{BigInt, Connection, DateTime, MoneyObject, to_graphql_error};
use stoa_service::page::PageRequest;

use super::loader::FreshProduct;
use super::{AppState, app, call, loader};
use crate::app::{Freshness, ProductList};
use crate::domain::{self, ProblemCode};
use crate::store::{ProductFilter, ProductSort};

/// [`Freshness::Fresh`] if a selection of products, or of a list of them, includes
/// stock: that takes a database query anyway, which then reads the rest as well.
pub fn required_freshness(ctx: &Context<'_>) -> Freshness {
    let ahead = ctx.look_ahead();
    let wants = |product: &Lookahead<'_>| {
        product.field("stock").exists() || product.field("availability").exists()
    };
    let products = [
        ahead.field("nodes"),
        ahead.field("edges").field("node"),
        ahead,
    ];
    if products.iter().any(wants) {
        Freshness::Fresh
    } else {
        Freshness::Cached
    }
}

/// A product of the shop.
pub struct Product(pub domain::Product);

#[Object]
impl Product {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// The stock keeping unit: unique, and also used outside the shop.
    async fn sku(&self) -> &str {
        &self.0.sku
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    async fn price(&self) -> MoneyObject {
        self.0.price.into()
    }

    async fn category(&self, ctx: &Context<'_>) -> Result<Option<Category>> {
        let Some(id) = &self.0.category_id else {
            return Ok(None);
        };
        let found = loader(ctx)?
            .load_one(id.clone())
            .await
            .map_err(to_graphql_error)?;
        Ok(found.map(Category))
    }

    /// Units for sale now, without those reserved for orders that await payment.
    async fn stock(&self, ctx: &Context<'_>) -> Result<i32> {
        available_units(ctx, &self.0).await
    }

    /// Whether it can be bought now.
    async fn availability(&self, ctx: &Context<'_>) -> Result<ProductAvailability> {
        let quantity_available = match self.0.is_active {
            true => available_units(ctx, &self.0).await?,
            false => 0,
        };
        Ok(ProductAvailability {
            in_stock: quantity_available > 0,
            quantity_available,
        })
    }

    /// False once it is archived: it is no longer listed and cannot be ordered.
    async fn is_active(&self) -> bool {
        self.0.is_active
    }

    async fn image_url(&self, ctx: &Context<'_>) -> Result<String> {
        let base = &ctx.data::<AppState>()?.image_base;
        Ok(format!("{base}{}", crate::image::path(&self.0.sku)))
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
}

/// The units for sale; for a product from the cache they are read from the database.
async fn available_units(ctx: &Context<'_>, product: &domain::Product) -> Result<i32> {
    let units = match product.stock {
        Some(units) => units,
        None => loader(ctx)?
            .load_one(FreshProduct(product.id.clone()))
            .await
            .map_err(to_graphql_error)?
            .and_then(|product| product.stock)
            .unwrap_or_default(),
    };
    Ok(i32::try_from(units).unwrap_or(i32::MAX))
}

/// How much of a product can be bought now, without the units reserved for
/// orders that await payment.
#[derive(SimpleObject)]
pub struct ProductAvailability {
    /// Whether there is at least one unit, and the product is for sale.
    in_stock: bool,
    quantity_available: i32,
}

/// A category of the catalogue. Categories form a tree.
pub struct Category(pub domain::Category);

#[Object]
impl Category {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Category>> {
        let Some(id) = &self.0.parent_id else {
            return Ok(None);
        };
        let found = loader(ctx)?
            .load_one(id.clone())
            .await
            .map_err(to_graphql_error)?;
        Ok(found.map(Category))
    }

    /// The direct subcategories, sorted by name.
    async fn children(&self, ctx: &Context<'_>) -> Result<Vec<Category>> {
        let all = app(ctx)?.category_list().await.map_err(to_graphql_error)?;
        Ok(all
            .into_iter()
            .filter(|category| category.parent_id.as_ref() == Some(&self.0.id))
            .map(Category)
            .collect())
    }

    /// The products of this category and of all its descendants.
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
        sort: Option<ProductSort>,
    ) -> Result<Connection<Product>> {
        let list = ProductList {
            query: None,
            filter: ProductFilter::default(),
            category: Some(self.0.id.clone()),
            sort: sort.unwrap_or_default(),
            page: PageRequest { first, after },
        };
        product_connection(ctx, list).await
    }
}

/// Filters for a list of products; all that are given must match.
#[derive(Debug, Default, InputObject)]
pub struct ProductFilterInput {
    /// In this category or any of its descendants.
    pub category_id: Option<ID>,
    /// The lowest price, in minor units.
    pub price_min: Option<BigInt>,
    /// The highest price, in minor units.
    pub price_max: Option<BigInt>,
    pub in_stock: Option<bool>,
    /// For administrators; others see only active products.
    pub is_active: Option<bool>,
}

/// Loads a list of products.
pub async fn product_connection(
    ctx: &Context<'_>,
    list: ProductList,
) -> Result<Connection<Product>> {
    let app = app(ctx)?;
    let sort = list.sort;
    let (slice, filter) = app
        .product_list(&call(ctx)?.caller, list, required_freshness(ctx))
        .await
        .map_err(to_graphql_error)?;
    let counter = app.clone();
    let filter = Arc::new(filter);
    let count = move || {
        let (app, filter) = (counter.clone(), filter.clone());
        Box::pin(async move { app.product_count(&filter).await.map_err(to_graphql_error) }) as _
    };
    Ok(Connection::new(
        slice,
        |product| sort.key(product),
        Product,
        Arc::new(count),
    ))
}

/// Why the catalogue refused a change.
#[derive(Debug, Clone, SimpleObject)]
pub struct CatalogueUserError {
    /// The path of the argument that is wrong.
    pub field: Option<Vec<String>>,
    pub code: ProblemCode,
    /// For developers, in English.
    pub message: String,
}

impl From<domain::Problem> for CatalogueUserError {
    fn from(problem: domain::Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code,
            message: problem.message,
        }
    }
}
