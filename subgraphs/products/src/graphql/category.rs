//! Categories: reading and changing them.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use stoa_schema::CategoryId;
use stoa_service::graphql::{call_context, to_graphql_error};

use super::problem::CatalogueUserError;
use super::product::{Category, category_id, maybe_category};
use super::{app, loader};
use crate::domain::{self};
use crate::error::Error;

#[derive(Default)]
pub struct CategoryQuery;

#[Object]
impl CategoryQuery {
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
    async fn find_category_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Category>> {
        category_by_id(ctx, &id).await
    }
}

async fn category_by_id(ctx: &Context<'_>, id: &ID) -> Result<Option<Category>> {
    let Some(id) = CategoryId::parse(id) else {
        return Ok(None);
    };
    let found = loader(ctx)?.load_one(id).await.map_err(to_graphql_error)?;
    Ok(found.map(Category))
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

/// The result of a change to a category.
#[derive(SimpleObject)]
pub struct CategoryPayload {
    pub category: Option<Category>,
    pub user_errors: Vec<CatalogueUserError>,
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

#[derive(Default)]
pub struct CategoryMutation;

#[Object]
impl CategoryMutation {
    async fn create_category(
        &self,
        ctx: &Context<'_>,
        input: CreateCategoryInput,
    ) -> Result<CategoryPayload> {
        let parent = input.parent_id.map(category_id);
        let done = app(ctx)?
            .category_create(&call_context(ctx)?.caller, &input.name, parent)
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
            .category_update(&call_context(ctx)?.caller, &input.id, input.name, parent)
            .await;
        category_payload(done)
    }

    /// Deletes an empty category.
    async fn delete_category(&self, ctx: &Context<'_>, id: ID) -> Result<CategoryPayload> {
        category_payload(
            app(ctx)?
                .category_delete(&call_context(ctx)?.caller, &id)
                .await,
        )
    }
}
