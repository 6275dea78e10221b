use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, string_len, text};

use crate::table::{self, ID};

/// Accounts, sessions and refresh tokens.
pub struct Start;

impl MigrationName for Start {
    fn name(&self) -> &str {
        "m0001_users"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Start {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("account")
                    .col(string_len("id", ID).primary_key())
                    // The longest address that SMTP can carry (RFC 5321).
                    .col(string_len("email", 254).unique_key())
                    .col(text("password_hash"))
                    .col(string_len("first_name", 100))
                    .col(string_len("last_name", 100))
                    .col(string_len("role", 16))
                    .col(boolean("is_active"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("session")
                    .col(string_len("id", ID).primary_key())
                    .col(string_len("account_id", ID))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("revoked_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .name("session_account")
                            .from("session", "account_id")
                            .to("account", "id"),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    // All sessions of an account are revoked at once.
                    .name("session_by_account")
                    .table("session")
                    .col("account_id")
                    .to_owned(),
            )
            .await?;
        // Every token ever issued is kept until it expires: a second use of one
        // indicates theft.
        manager
            .create_table(
                Table::create()
                    .table("refresh_token")
                    .col(string_len("hash", 64).primary_key())
                    .col(string_len("session_id", ID))
                    .col(big_integer("expires_at"))
                    .col(big_integer_null("used_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .name("refresh_token_session")
                            .from("refresh_token", "session_id")
                            .to("session", "id"),
                    )
                    .to_owned(),
            )
            .await
    }
}

/// The address book of each account.
pub struct Addresses;

impl MigrationName for Addresses {
    fn name(&self) -> &str {
        "m0002_users_addresses"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Addresses {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                "CREATE TABLE saved_address (
                    id varchar(36) PRIMARY KEY,
                    account_id varchar(36) NOT NULL REFERENCES account (id),
                    address text NOT NULL,
                    is_default bigint NOT NULL,
                    created_at bigint NOT NULL
                )",
                "CREATE INDEX saved_address_by_account ON saved_address (account_id)",
                "CREATE UNIQUE INDEX saved_address_default ON saved_address (account_id) WHERE is_default = 1",
            ],
        )
        .await
    }
}
