//! Tables that several services have.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, text};

pub(crate) const ID: u32 = 36;

/// Events that are waiting to be published.
pub(crate) async fn outbox(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("outbox")
                .col(big_integer("position").primary_key().auto_increment())
                .col(string_len("message_id", ID).unique_key())
                .col(string_len("subject", 255))
                .col(string_len("aggregate_id", ID))
                .col(big_integer("aggregate_version"))
                .col(text("payload"))
                .col(big_integer("created_at"))
                .col(big_integer_null("published_at"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("outbox_version")
                .table("outbox")
                .col("aggregate_id")
                .col("aggregate_version")
                .unique()
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("outbox_waiting")
                .table("outbox")
                .col("position")
                .and_where(Expr::col("published_at").is_null())
                .to_owned(),
        )
        .await
}

/// Results of mutations that must happen once, by caller and key.
pub(crate) async fn idempotency(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("idempotency")
                .col(string_len("caller", ID))
                .col(string_len("key", 128))
                .col(string_len("operation", 64))
                .col(string_len("body_hash", 64))
                // What the mutation creates or changes, fixed before its first effect.
                .col(string_len("subject_id", ID))
                .col(text("answer").null())
                // Until when an attempt without a result may be running.
                .col(big_integer("lease_until"))
                .col(big_integer("created_at"))
                .primary_key(Index::create().col("caller").col("key"))
                .to_owned(),
        )
        .await
}

/// Runs statements that both databases understand.
pub(crate) async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
    }
    Ok(())
}
