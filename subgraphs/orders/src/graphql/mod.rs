//! The schema. Resolvers call [`App`] and nothing below it.

mod lines;
mod loader;
mod mutation;
mod query;
mod types;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, Schema};
use stoa_kit::service::CallContext;

use crate::app::App;
use loader::Loader;

pub type OrdersSchema = Schema<query::Query, mutation::Mutation, EmptySubscription>;

pub fn schema(app: App) -> OrdersSchema {
    let loader = DataLoader::new(Loader(app.clone()), tokio::spawn);
    Schema::build(query::Query, mutation::Mutation, EmptySubscription)
        .enable_federation()
        .data(app)
        .data(loader)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}

fn call<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a CallContext> {
    ctx.data::<CallContext>()
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<Loader>> {
    ctx.data::<DataLoader<Loader>>()
}
