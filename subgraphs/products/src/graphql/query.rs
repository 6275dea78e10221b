//! Reading the catalogue.

use async_graphql::{Context, ID, Object, Result};
use stoa_schema::{CategoryId, ProductId};
use stoa_service::graphql::{Connection, to_graphql_error};
use stoa_service::page::PageRequest;

use super::loader::{FreshProduct, SkuKey};
use super::types::{Category, Product, ProductFilterInput, product_connection, required_freshness};
use super::{app, loader};
use crate::app::{Freshness, ProductList};
use crate::store::{ProductFilter, ProductSort};

pub struct Query;

#[Object]
impl Query {
    async fn product(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Product>> {
        product_by_id(ctx, &id).await
    }

    async fn product_by_sku(&self, ctx: &Context<'_>, sku: String) -> Result<Option<Product>> {
        product_by_sku(ctx, sku).await
    }

    /// The products for sale, newest first unless `sort` is given.
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Search words. A word of the name, description or SKU must begin with each."
        )]
        query: Option<String>,
        filter: Option<ProductFilterInput>,
        sort: Option<ProductSort>,
    ) -> Result<Connection<Product>> {
        let filter = filter.unwrap_or_default();
        let list = ProductList {
            query,
            // An invalid category id matches no product.
            category: filter
                .category_id
                .map(|id| CategoryId::parse(&id).unwrap_or_else(|| CategoryId::trusted(""))),
            filter: ProductFilter {
                price_min: filter.price_min.map(|price| price.0),
                price_max: filter.price_max.map(|price| price.0),
                in_stock: filter.in_stock,
                is_active: filter.is_active,
                ..ProductFilter::default()
            },
            sort: sort.unwrap_or_default(),
            page: PageRequest { first, after },
        };
        product_connection(ctx, list).await
    }

    async fn category(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Category>> {
        category_by_id(ctx, &id).await
    }

    /// The top-level categories, sorted by name.
    async fn categories(&self, ctx: &Context<'_>) -> Result<Vec<Category>> {
        let all = app(ctx)?.category_list().await.map_err(to_graphql_error)?;
        Ok(all
            .into_iter()
            .filter(|category| category.parent_id.is_none())
            .map(Category)
            .collect())
    }

    #[graphql(entity)]
    async fn find_product_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Product>> {
        product_by_id(ctx, &id).await
    }

    #[graphql(entity)]
    async fn find_product_by_sku(&self, ctx: &Context<'_>, sku: String) -> Result<Option<Product>> {
        product_by_sku(ctx, sku).await
    }

    #[graphql(entity)]
    async fn find_category_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Category>> {
        category_by_id(ctx, &id).await
    }
}

async fn product_by_id(ctx: &Context<'_>, id: &ID) -> Result<Option<Product>> {
    let Some(id) = ProductId::parse(id) else {
        return Ok(None);
    };
    let found = match required_freshness(ctx) {
        Freshness::Fresh => loader(ctx)?.load_one(FreshProduct(id)).await,
        Freshness::Cached => loader(ctx)?.load_one(id).await,
    };
    Ok(found.map_err(to_graphql_error)?.map(Product))
}

async fn product_by_sku(ctx: &Context<'_>, sku: String) -> Result<Option<Product>> {
    let found = loader(ctx)?
        .load_one(SkuKey(sku))
        .await
        .map_err(to_graphql_error)?;
    Ok(found.map(Product))
}

async fn category_by_id(ctx: &Context<'_>, id: &ID) -> Result<Option<Category>> {
    let Some(id) = CategoryId::parse(id) else {
        return Ok(None);
    };
    let found = loader(ctx)?.load_one(id).await.map_err(to_graphql_error)?;
    Ok(found.map(Category))
}
