//! Products: reading, searching and changing them.

use std::sync::Arc;

use async_graphql::{
    Context, Enum, ID, InputObject, Lookahead, MaybeUndefined, Object, Result, SimpleObject,
};
use stoa_schema::{CategoryId, ProductId};
use stoa_service::graphql::{
    BigInt, Connection, DateTime, MoneyInput, MoneyObject, call_context, list_size, page_arguments,
    page_fields, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::loader::{FreshProduct, SkuKey};
use super::problem::CatalogueUserError;
use super::{AppState, app, loader};
use crate::app::product::{Freshness, ProductList};
use crate::domain::{self, NewProduct, ProductChange, ProductFilter};
use crate::error::Error;

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
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
        sort: Option<ProductSort>,
    ) -> Result<Connection<Product>> {
        let list = ProductList {
            query: None,
            filter: ProductFilter::default(),
            category: Some(self.0.id.clone()),
            sort: sort.map(Into::into).unwrap_or_default(),
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
        .product_list(&call_context(ctx)?.caller, list, required_freshness(ctx))
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

/// How products are sorted; ties are broken by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::ProductSort")]
pub enum ProductSort {
    Newest,
    NameAsc,
    NameDesc,
    PriceAsc,
    PriceDesc,
}

#[derive(Default)]
pub struct ProductQuery;

#[Object]
impl ProductQuery {
    async fn product(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Product>> {
        product_by_id(ctx, &id).await
    }

    async fn product_by_sku(&self, ctx: &Context<'_>, sku: String) -> Result<Option<Product>> {
        product_by_sku(ctx, sku).await
    }

    /// The products for sale, newest first unless `sort` is given.
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
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
            sort: sort.map(Into::into).unwrap_or_default(),
            page: PageRequest { first, after },
        };
        product_connection(ctx, list).await
    }

    #[graphql(entity)]
    async fn find_product_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Product>> {
        product_by_id(ctx, &id).await
    }

    #[graphql(entity)]
    async fn find_product_by_sku(&self, ctx: &Context<'_>, sku: String) -> Result<Option<Product>> {
        product_by_sku(ctx, sku).await
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

#[derive(Debug, InputObject)]
pub struct CreateProductInput {
    pub name: String,
    pub sku: String,
    #[graphql(default)]
    pub description: String,
    pub price: MoneyInput,
    pub category_id: Option<ID>,
    /// The initial units in stock.
    #[graphql(default)]
    pub stock: i32,
}

/// Fields that are not given stay unchanged.
#[derive(Debug, InputObject)]
pub struct UpdateProductInput {
    pub id: ID,
    pub name: Option<String>,
    pub sku: Option<String>,
    pub description: Option<String>,
    pub price: Option<MoneyInput>,
    /// Null removes the product from its category.
    pub category_id: MaybeUndefined<ID>,
    /// True restores an archived product.
    pub is_active: Option<bool>,
}

/// The result of a change to a product.
#[derive(SimpleObject)]
pub struct ProductPayload {
    pub product: Option<Product>,
    pub user_errors: Vec<CatalogueUserError>,
}

pub(super) fn product_payload(done: Result<domain::Product, Error>) -> Result<ProductPayload> {
    match done {
        Ok(product) => Ok(ProductPayload {
            product: Some(Product(product)),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(ProductPayload {
            product: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

/// An invalid id becomes one that matches no category.
pub(super) fn category_id(id: ID) -> CategoryId {
    CategoryId::parse(&id).unwrap_or_else(|| CategoryId::trusted(id.0))
}

pub(super) fn maybe_category(id: MaybeUndefined<ID>) -> Option<Option<CategoryId>> {
    match id {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(id) => Some(Some(category_id(id))),
    }
}

#[derive(Default)]
pub struct ProductMutation;

#[Object]
impl ProductMutation {
    async fn create_product(
        &self,
        ctx: &Context<'_>,
        input: CreateProductInput,
    ) -> Result<ProductPayload> {
        let new = NewProduct {
            sku: input.sku,
            name: input.name,
            description: input.description,
            price: input.price.to_money(),
            category_id: input.category_id.map(category_id),
            stock: i64::from(input.stock),
        };
        product_payload(
            app(ctx)?
                .product_create(&call_context(ctx)?.caller, new)
                .await,
        )
    }

    async fn update_product(
        &self,
        ctx: &Context<'_>,
        input: UpdateProductInput,
    ) -> Result<ProductPayload> {
        let change = ProductChange {
            sku: input.sku,
            name: input.name,
            description: input.description,
            price: input.price.map(|price| price.to_money()),
            category_id: maybe_category(input.category_id),
            is_active: input.is_active,
        };
        let done = app(ctx)?
            .product_update(&call_context(ctx)?.caller, &input.id, change)
            .await;
        product_payload(done)
    }

    /// Takes a product off sale. Existing orders still show it.
    async fn archive_product(&self, ctx: &Context<'_>, id: ID) -> Result<ProductPayload> {
        let change = ProductChange {
            is_active: Some(false),
            ..ProductChange::default()
        };
        let done = app(ctx)?
            .product_update(&call_context(ctx)?.caller, &id, change)
            .await;
        product_payload(done)
    }
}
