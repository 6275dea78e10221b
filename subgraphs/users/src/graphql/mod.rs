//! The schema. Resolvers call [`App`] and nothing below it.

mod mutation;
mod query;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Context, EmptySubscription, Schema};
use stoa_kit::service::CallContext;
use stoa_schema::UserId;

use crate::app::App;
use crate::domain::Account;
use crate::error::Error;

pub type UsersSchema = Schema<query::Query, mutation::Mutation, EmptySubscription>;

/// Whether cookies are sent over TLS only.
struct SecureCookies(bool);

pub fn schema(app: App, secure_cookies: bool) -> UsersSchema {
    let loader = DataLoader::new(Accounts(app.clone()), tokio::spawn);
    Schema::build(query::Query, mutation::Mutation, EmptySubscription)
        .enable_federation()
        .data(app)
        .data(loader)
        .data(SecureCookies(secure_cookies))
        .finish()
}

/// One query for all the accounts that are asked for at once.
struct Accounts(App);

impl Loader<UserId> for Accounts {
    type Value = Account;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[UserId]) -> Result<HashMap<UserId, Account>, Arc<Error>> {
        self.0.account_fetch_many(ids).await.map_err(Arc::new)
    }
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}

fn call<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a CallContext> {
    ctx.data::<CallContext>()
}
