use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null};

use crate::table::{self, ID};

/// Each user's inbox, and the version last handled of each order.
pub struct Start;

impl MigrationName for Start {
    fn name(&self) -> &str {
        "m0001_notifications"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Start {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("notification")
                    .col(string_len("id", ID).primary_key())
                    .col(string_len("user_id", ID))
                    .col(string_len("kind", 64))
                    .col(string_len("title", 200))
                    .col(string_len("body", 1000))
                    .col(string_len_null("order_id", ID))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("read_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("notification_by_user")
                    .table("notification")
                    .col("user_id")
                    .col("id")
                    .to_owned(),
            )
            .await?;
        // The version last handled of each order: an event at or below it is a
        // duplicate.
        manager
            .create_table(
                Table::create()
                    .table("known_order")
                    .col(string_len("order_id", ID).primary_key())
                    .col(string_len("customer_id", ID))
                    .col(big_integer("version"))
                    .to_owned(),
            )
            .await?;
        table::outbox(manager).await
    }
}

/// Which events have been handled, one row each: a replayed dead letter is handled
/// late, after newer events of its order.
pub struct Inbox;

impl MigrationName for Inbox {
    fn name(&self) -> &str {
        "m0002_notifications_inbox"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Inbox {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("inbox")
                    .col(string_len("event_id", 64).primary_key())
                    .col(string_len("aggregate_id", ID))
                    .col(big_integer("aggregate_version"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("inbox_version")
                    .table("inbox")
                    .col("aggregate_id")
                    .col("aggregate_version")
                    .unique()
                    .to_owned(),
            )
            .await?;
        // Until now every version up to the stored one was handled. Their event
        // ids are unknown; duplicates are recognised by their versions.
        manager
            .get_connection()
            .execute_unprepared(
                "WITH RECURSIVE seen (order_id, version) AS (
                     SELECT order_id, version FROM known_order WHERE version > 0
                     UNION ALL
                     SELECT order_id, version - 1 FROM seen WHERE version > 1
                 )
                 INSERT INTO inbox (event_id, aggregate_id, aggregate_version)
                 SELECT order_id || '-v' || version, order_id, version FROM seen",
            )
            .await?;
        Ok(())
    }
}
