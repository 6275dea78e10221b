//! Changing the catalogue: for administrators.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use stoa_schema::CategoryId;
use stoa_service::graphql::{MoneyInput, to_graphql_error};

use super::types::{CatalogueUserError, Category, Product};
use super::{app, call};
use crate::app::Adjustment;
use crate::domain::{self, NewProduct, ProductChange};
use crate::error::Error;

pub struct Mutation;

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

#[derive(Debug, InputObject)]
pub struct AdjustStockInput {
    pub product_id: ID,
    /// Units to add; negative to remove.
    pub delta: i32,
    pub reason: String,
}

#[derive(Debug, InputObject)]
pub struct CreateCategoryInput {
    pub name: String,
    pub parent_id: Option<ID>,
}

/// Fields that are not given stay unchanged.
#[derive(Debug, InputObject)]
pub struct UpdateCategoryInput {
    pub id: ID,
    pub name: Option<String>,
    /// Null moves the category to the top of the tree.
    pub parent_id: MaybeUndefined<ID>,
}

/// The result of a change to a product.
#[derive(SimpleObject)]
pub struct ProductPayload {
    pub product: Option<Product>,
    pub user_errors: Vec<CatalogueUserError>,
}

/// The result of a change to a category.
#[derive(SimpleObject)]
pub struct CategoryPayload {
    pub category: Option<Category>,
    pub user_errors: Vec<CatalogueUserError>,
}

fn product_payload(done: Result<domain::Product, Error>) -> Result<ProductPayload> {
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

fn category_payload(done: Result<domain::Category, Error>) -> Result<CategoryPayload> {
    match done {
        Ok(category) => Ok(CategoryPayload {
            category: Some(Category(category)),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(CategoryPayload {
            category: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

/// An invalid id becomes one that matches no category.
fn category_id(id: ID) -> CategoryId {
    CategoryId::parse(&id).unwrap_or_else(|| CategoryId::trusted(id.0))
}

fn maybe_category(id: MaybeUndefined<ID>) -> Option<Option<CategoryId>> {
    match id {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(id) => Some(Some(category_id(id))),
    }
}

#[Object]
impl Mutation {
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
        product_payload(app(ctx)?.product_create(&call(ctx)?.caller, new).await)
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
            .product_update(&call(ctx)?.caller, &input.id, change)
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
            .product_update(&call(ctx)?.caller, &id, change)
            .await;
        product_payload(done)
    }

    /// Adds or removes units, once per idempotency key, and records the reason.
    async fn adjust_stock(
        &self,
        ctx: &Context<'_>,
        input: AdjustStockInput,
        idempotency_key: ID,
    ) -> Result<ProductPayload> {
        let adjustment = Adjustment {
            product_id: input.product_id.0,
            delta: i64::from(input.delta),
            reason: input.reason,
        };
        let done = app(ctx)?
            .stock_adjust(&call(ctx)?.caller, adjustment, &idempotency_key)
            .await;
        product_payload(done)
    }

    async fn create_category(
        &self,
        ctx: &Context<'_>,
        input: CreateCategoryInput,
    ) -> Result<CategoryPayload> {
        let parent = input.parent_id.map(category_id);
        let done = app(ctx)?
            .category_create(&call(ctx)?.caller, &input.name, parent)
            .await;
        category_payload(done)
    }

    async fn update_category(
        &self,
        ctx: &Context<'_>,
        input: UpdateCategoryInput,
    ) -> Result<CategoryPayload> {
        let parent = maybe_category(input.parent_id);
        let done = app(ctx)?
            .category_update(&call(ctx)?.caller, &input.id, input.name, parent)
            .await;
        category_payload(done)
    }

    /// Deletes an empty category.
    async fn delete_category(&self, ctx: &Context<'_>, id: ID) -> Result<CategoryPayload> {
        category_payload(app(ctx)?.category_delete(&call(ctx)?.caller, &id).await)
    }
}
