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
