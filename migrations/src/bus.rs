use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len, text};

/// The log, its identity and its consumers' positions.
pub struct Start;

impl MigrationName for Start {
    fn name(&self) -> &str {
        "m0001_bus"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Start {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("bus_message")
                    .col(big_integer("sequence").primary_key().auto_increment())
                    .col(string_len("subject", 255))
                    .col(string_len("message_id", 64).unique_key())
                    .col(text("payload"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("bus_message_by_subject")
                    .table("bus_message")
                    .col("subject")
                    .col("sequence")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("bus_stream")
                    .col(big_integer("id").primary_key())
                    .col(string_len("identity", 64))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("bus_consumer")
                    .col(string_len("name", 64).primary_key())
                    .col(big_integer("acknowledged"))
                    .to_owned(),
            )
            .await
    }
}

/// Message ages, shared consumers and dead letters.
pub struct Delivery;

impl MigrationName for Delivery {
    fn name(&self) -> &str {
        "m0002_bus_delivery"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Delivery {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for statement in [
            "ALTER TABLE bus_message ADD COLUMN created_at bigint NOT NULL DEFAULT 0",
            // The age of existing messages is unknown: they are kept as if they were new.
            "UPDATE bus_message SET created_at = CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
            "CREATE INDEX bus_message_by_age ON bus_message (created_at)",
            "ALTER TABLE bus_consumer ADD COLUMN attempts bigint NOT NULL DEFAULT 0",
            "ALTER TABLE bus_consumer ADD COLUMN holder varchar(64) NOT NULL DEFAULT ''",
            "ALTER TABLE bus_consumer ADD COLUMN held_until bigint NOT NULL DEFAULT 0",
        ] {
            db.execute_unprepared(statement).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("bus_dead_letter")
                    .col(big_integer("id").primary_key().auto_increment())
                    .col(string_len("consumer", 64))
                    .col(big_integer("sequence"))
                    .col(text("letter"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("bus_dead_letter_once")
                    .table("bus_dead_letter")
                    .col("consumer")
                    .col("sequence")
                    .unique()
                    .to_owned(),
            )
            .await
    }
}
