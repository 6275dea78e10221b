//! Reading accounts.

use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, ID, Object, Result};
use stoa_runtime::identity::Caller;
use stoa_schema::UserId;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::graphql::{Connection, to_graphql_error};
use stoa_service::page::PageRequest;

use super::types::User;
use super::{AccountLoader, app, call};

pub struct Query;

#[Object]
impl Query {
    /// The signed-in user; null for an anonymous request.
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match call(ctx)?.caller.user_id() {
            Some(id) => load_user(ctx, id.clone()).await,
            None => Ok(None),
        }
    }

    /// Any user, by id. Requires a signed-in caller.
    async fn user(&self, ctx: &Context<'_>, id: ID) -> Result<Option<User>> {
        if call(ctx)?.caller == Caller::Anonymous {
            return Err(to_graphql_error(CommonError::Unauthenticated));
        }
        match UserId::parse(&id) {
            Some(id) => load_user(ctx, id).await,
            None => Ok(None),
        }
    }

    /// All users, newest first. Administrators only.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
    ) -> Result<Option<Connection<User>>> {
        let app = app(ctx)?;
        let slice = app
            .account_list(&call(ctx)?.caller, &PageRequest { first, after })
            .await
            .map_err(to_graphql_error)?;
        let counter = app.clone();
        let count = move || {
            let app = counter.clone();
            Box::pin(async move { app.account_count().await.map_err(to_graphql_error) }) as _
        };
        Ok(Some(Connection::new(
            slice,
            |account| account.id.to_string(),
            User::new,
            Arc::new(count),
        )))
    }

    #[graphql(entity)]
    async fn find_user_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<User>> {
        match UserId::parse(&id) {
            Some(id) => load_user(ctx, id).await,
            None => Ok(None),
        }
    }
}

async fn load_user(ctx: &Context<'_>, id: UserId) -> Result<Option<User>> {
    let loader = ctx.data::<DataLoader<AccountLoader>>()?;
    let found = loader.load_one(id).await.map_err(to_graphql_error)?;
    Ok(found.map(User::new))
}
