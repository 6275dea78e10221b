//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

mod account;
mod address;
mod cookie;
mod loader;
mod problem;
mod session;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, MergedObject, Schema};

use crate::app::App;
use loader::Loader;

#[derive(MergedObject, Default)]
pub struct Query(account::AccountQuery);

#[derive(MergedObject, Default)]
pub struct Mutation(
    session::SessionMutation,
    account::AccountMutation,
    address::AddressMutation,
);

pub type UsersSchema = Schema<Query, Mutation, EmptySubscription>;

/// Whether cookies are sent over TLS only.
struct SecureCookies(bool);

pub fn schema(app: App, secure_cookies: bool) -> UsersSchema {
    let loader = DataLoader::new(Loader(app.clone()), tokio::spawn);
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .enable_federation()
        .data(app)
        .data(loader)
        .data(SecureCookies(secure_cookies))
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<Loader>> {
    ctx.data::<DataLoader<Loader>>()
}
