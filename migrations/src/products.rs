use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, string_len, string_len_null, text};
use sea_orm_migration::sea_orm::DbBackend;

use crate::table::{self, ID};

/// The catalogue, its search index, and stock.
pub struct Start;

impl MigrationName for Start {
    fn name(&self) -> &str {
        "m0001_products"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Start {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("category")
                    .col(string_len("id", ID).primary_key())
                    .col(string_len("name", 100))
                    .col(string_len_null("parent_id", ID))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .name("category_parent")
                            .from("category", "parent_id")
                            .to("category", "id"),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("product")
                    // The search index refers to rows by this number.
                    .col(big_integer("number").primary_key().auto_increment())
                    .col(string_len("id", ID).unique_key())
                    .col(string_len("sku", 64).unique_key())
                    .col(string_len("name", 200))
                    .col(text("description"))
                    .col(big_integer("price_minor").check(Expr::col("price_minor").gte(0)))
                    .col(string_len("currency", 3))
                    .col(string_len_null("category_id", ID))
                    .col(big_integer("stock").check(Expr::col("stock").gte(0)))
                    .col(boolean("is_active"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .name("product_category")
                            .from("product", "category_id")
                            .to("category", "id"),
                    )
                    .to_owned(),
            )
            .await?;
        for (name, column) in [
            // Lists are ordered by `id` last, so that a page continues exactly after a product.
            ("product_by_category", "category_id"),
            ("product_by_name", "name"),
            ("product_by_price", "price_minor"),
        ] {
            manager
                .create_index(
                    Index::create()
                        .name(name)
                        .table("product")
                        .col(column)
                        .col("id")
                        .to_owned(),
                )
                .await?;
        }
        stock(manager).await?;
        table::idempotency(manager).await?;
        search(manager).await
    }
}

/// Reservations, and adjustments of stock by hand.
async fn stock(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("reservation")
                .col(string_len("order_id", ID).primary_key())
                .col(string_len("state", 16))
                .col(text("snapshot"))
                .col(big_integer("expires_at"))
                .col(big_integer("created_at"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("reservation_expiry")
                .table("reservation")
                .col("state")
                .col("expires_at")
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("reservation_line")
                .col(string_len("order_id", ID))
                .col(string_len("product_id", ID))
                .col(big_integer("quantity").check(Expr::col("quantity").gt(0)))
                .primary_key(Index::create().col("order_id").col("product_id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("stock_adjustment")
                .col(string_len("id", ID).primary_key())
                .col(string_len("product_id", ID))
                .col(big_integer("delta"))
                .col(string_len("reason", 500))
                .col(string_len("actor_id", ID))
                .col(big_integer("created_at"))
                .to_owned(),
        )
        .await
}

/// Every word matches as an unstemmed prefix, on both databases.
async fn search(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let statements: &[&str] = match manager.get_database_backend() {
        DbBackend::Postgres => &[
            "ALTER TABLE product ADD COLUMN search tsvector GENERATED ALWAYS AS (to_tsvector('simple', name || ' ' || description || ' ' || sku)) STORED",
            "CREATE INDEX product_search ON product USING gin (search)",
        ],
        _ => &[
            "CREATE VIRTUAL TABLE product_search USING fts5(name, description, sku, content='product', content_rowid='number', tokenize='unicode61 remove_diacritics 2', prefix='2 3')",
            "CREATE TRIGGER product_search_insert AFTER INSERT ON product BEGIN
                INSERT INTO product_search(rowid, name, description, sku) VALUES (new.number, new.name, new.description, new.sku);
            END",
            "CREATE TRIGGER product_search_delete AFTER DELETE ON product BEGIN
                INSERT INTO product_search(product_search, rowid, name, description, sku) VALUES ('delete', old.number, old.name, old.description, old.sku);
            END",
            "CREATE TRIGGER product_search_update AFTER UPDATE OF name, description, sku ON product BEGIN
                INSERT INTO product_search(product_search, rowid, name, description, sku) VALUES ('delete', old.number, old.name, old.description, old.sku);
                INSERT INTO product_search(rowid, name, description, sku) VALUES (new.number, new.name, new.description, new.sku);
            END",
        ],
    };
    table::run(manager, statements).await
}

/// On PostgreSQL: the words of a search are those of SQLite's tokenizer, and
/// names sort by code point as they do there.
pub struct SameSearch;

impl MigrationName for SameSearch {
    fn name(&self) -> &str {
        "m0002_products_same_search"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SameSearch {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for statement in [
            "DROP INDEX product_search",
            "ALTER TABLE product DROP COLUMN search",
            "ALTER TABLE product ALTER COLUMN name TYPE varchar(200) COLLATE \"C\"",
            // By default the parser reads COF-001 as a word and a negative number,
            // and an address or a path as one word. Marks on Latin letters are
            // ignored, as in SQLite. No character class is used: what one contains
            // depends on the collation.
            r"ALTER TABLE product ADD COLUMN search tsvector GENERATED ALWAYS AS (to_tsvector('simple', regexp_replace(normalize(regexp_replace(normalize(name || ' ' || description || ' ' || sku, NFD), '([A-Za-z])[\u0300-\u036F]+', '\1', 'g'), NFC), '[\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u007F]+', ' ', 'g'))) STORED",
            "CREATE INDEX product_search ON product USING gin (search)",
        ] {
            manager
                .get_connection()
                .execute_unprepared(statement)
                .await?;
        }
        Ok(())
    }
}

/// Returned units, line by line.
pub struct Returns;

impl MigrationName for Returns {
    fn name(&self) -> &str {
        "m0003_products_returns"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Returns {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                // The part of the quantity that was cancelled before it was shipped.
                "ALTER TABLE reservation_line ADD COLUMN returned bigint NOT NULL DEFAULT 0 CHECK (returned >= 0 AND returned <= quantity)",
                "CREATE TABLE stock_return (
                    return_id varchar(128) NOT NULL,
                    product_id varchar(36) NOT NULL,
                    order_id varchar(36) NOT NULL,
                    called_off bigint NOT NULL CHECK (called_off >= 0),
                    restocked bigint NOT NULL CHECK (restocked >= 0),
                    created_at bigint NOT NULL,
                    PRIMARY KEY (return_id, product_id)
                )",
            ],
        )
        .await
    }
}

/// An index that finds what was returned of an order.
pub struct ReturnsByOrder;

impl MigrationName for ReturnsByOrder {
    fn name(&self) -> &str {
        "m0004_products_returns_by_order"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ReturnsByOrder {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statement = "CREATE INDEX stock_return_by_order ON stock_return (order_id, product_id)";
        table::run(manager, &[statement]).await
    }
}
