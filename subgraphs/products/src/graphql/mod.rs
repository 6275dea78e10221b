//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

mod category;
mod loader;
mod problem;
mod product;
mod stock;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, MergedObject, Schema};

use crate::app::App;
use loader::Loader;

#[derive(MergedObject, Default)]
pub struct Query(product::ProductQuery, category::CategoryQuery);

#[derive(MergedObject, Default)]
pub struct Mutation(
    product::ProductMutation,
    stock::StockMutation,
    category::CategoryMutation,
);

pub type ProductsSchema = Schema<Query, Mutation, EmptySubscription>;

/// State that every resolver can use.
struct AppState {
    app: App,
    image_base: String,
}

pub fn schema(app: App, image_base: String) -> ProductsSchema {
    let loader = DataLoader::new(Loader(app.clone()), tokio::spawn);
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .enable_federation()
        .data(AppState { app, image_base })
        .data(loader)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    Ok(&ctx.data::<AppState>()?.app)
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<Loader>> {
    ctx.data::<DataLoader<Loader>>()
}
