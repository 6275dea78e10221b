//! The schema. Resolvers call [`App`] and nothing below it.

mod cart;
mod cart_mutation;
mod discount;
mod fulfilment;
mod loader;
mod order;
mod order_mutation;
mod order_query;
mod problem;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, MergedObject, Schema};

use crate::app::App;
use loader::Loader;

#[derive(MergedObject, Default)]
pub struct Query(
    order_query::OrderQuery,
    cart::CartQuery,
    discount::DiscountQuery,
);

#[derive(MergedObject, Default)]
pub struct Mutation(
    order_mutation::OrderMutation,
    cart_mutation::CartMutation,
    discount::DiscountMutation,
);

pub type OrdersSchema = Schema<Query, Mutation, EmptySubscription>;

pub fn schema(app: App) -> OrdersSchema {
    let loader = DataLoader::new(Loader(app.clone()), tokio::spawn);
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .enable_federation()
        .data(app)
        .data(loader)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}

fn loader<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a DataLoader<Loader>> {
    ctx.data::<DataLoader<Loader>>()
}
