//! One migrator per service, for SQLite and PostgreSQL, and one for the
//! embedded bus. A migration that has been released is never edited.
//!
//! Conventions: identifiers are UUIDs as text, instants are microseconds since
//! the Unix epoch, money is a `bigint` in minor units.

mod bus;
mod notifications;
mod orders;
mod products;
mod table;
mod users;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

macro_rules! migrator {
    ($(#[$doc:meta] $name:ident => $($migration:path),+;)+) => {$(
        #[$doc]
        pub struct $name;

        #[async_trait::async_trait]
        impl MigratorTrait for $name {
            fn migrations() -> Vec<Box<dyn MigrationTrait>> {
                vec![$(Box::new($migration)),+]
            }
        }
    )+};
}

migrator! {
    /// The users service's database.
    UsersMigrator => users::Start, users::Addresses;
    /// The products service's database.
    ProductsMigrator => products::Start, products::SameSearch, products::Returns,
        products::ReturnsByOrder;
    /// The orders service's database.
    OrdersMigrator => orders::Start, orders::Trace, orders::Saga, orders::Webhooks,
        orders::Fulfilment, orders::Checkout, orders::StockTasks,
        orders::EventAge;
    /// The notifications service's database.
    NotificationsMigrator => notifications::Start, notifications::Inbox;
    /// The embedded bus's database, SQLite only.
    BusMigrator => bus::Start, bus::Delivery;
}
