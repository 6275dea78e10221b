//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

mod loader;
mod mutation;
mod query;
mod types;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, Schema};
use stoa_service::context::CallContext;

use crate::app::App;
use loader::Loader;

pub type ProductsSchema = Schema<query::Query, mutation::Mutation, EmptySubscription>;

/// State that every resolver can use.
struct AppState {
    app: App,
    image_base: String,
}

pub fn schema(app: App, image_base: String) -> ProductsSchema {
    let loader = DataLoader::new(Loader(app.clone()), tokio::spawn);
    Schema::build(query::Query, mutation::Mutation, EmptySubscription)
        .enable_federation()
        .data(AppState { app, image_base })
        .data(loader)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    Ok(&ctx.data::<AppState>()?.app)
}

fn call<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a CallContext> {
    ctx.data::<CallContext>()
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<Loader>> {
    ctx.data::<DataLoader<Loader>>()
}
