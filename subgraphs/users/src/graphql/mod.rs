//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

mod mutation;
mod query;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Context, EmptySubscription, Schema};
use stoa_schema::UserId;
use stoa_service::context::CallContext;

use crate::app::App;
use crate::domain::{Account, SavedAddress};
use crate::error::Error;

pub type UsersSchema = Schema<query::Query, mutation::Mutation, EmptySubscription>;

/// Whether cookies are sent over TLS only.
struct SecureCookies(bool);

pub fn schema(app: App, secure_cookies: bool) -> UsersSchema {
    let loader = DataLoader::new(AccountLoader(app.clone()), tokio::spawn);
    Schema::build(query::Query, mutation::Mutation, EmptySubscription)
        .enable_federation()
        .data(app)
        .data(loader)
        .data(SecureCookies(secure_cookies))
        .finish()
}

/// Loads all the accounts that are requested at once in one query.
struct AccountLoader(App);

impl Loader<UserId> for AccountLoader {
    type Value = Account;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[UserId]) -> Result<HashMap<UserId, Account>, Arc<Error>> {
        self.0.account_fetch_many(ids).await.map_err(Arc::new)
    }
}

/// The key of an account's address book.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AddressBookKey(UserId);

impl Loader<AddressBookKey> for AccountLoader {
    type Value = Vec<SavedAddress>;
    type Error = Arc<Error>;

    async fn load(
        &self,
        keys: &[AddressBookKey],
    ) -> Result<HashMap<AddressBookKey, Vec<SavedAddress>>, Arc<Error>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.address_fetch_many(&ids).await.map_err(Arc::new)?;
        let found = found.into_iter();
        Ok(found.map(|(id, book)| (AddressBookKey(id), book)).collect())
    }
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<AccountLoader>> {
    ctx.data::<DataLoader<AccountLoader>>()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}

fn call<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a CallContext> {
    ctx.data::<CallContext>()
}
