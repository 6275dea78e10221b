//! The GraphQL schema. Resolvers call [`App`] and nothing below it.

mod live;
mod notification;

use async_graphql::{Context, MergedObject, Schema};

use crate::app::App;
use live::SubscriptionRoot;

#[derive(MergedObject, Default)]
pub struct Query(live::LiveQuery, notification::NotificationQuery);

#[derive(MergedObject, Default)]
pub struct Mutation(notification::NotificationMutation);

pub type NotificationsSchema = Schema<Query, Mutation, SubscriptionRoot>;

pub fn schema(app: App) -> NotificationsSchema {
    Schema::build(Query::default(), Mutation::default(), SubscriptionRoot)
        .enable_federation()
        .enable_subscription_in_federation()
        .data(app)
        .finish()
}

fn app<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a App> {
    ctx.data::<App>()
}
