use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null, text};

use crate::table::{self, ID};

/// Orders, their lines, history and payments.
pub struct Start;

impl MigrationName for Start {
    fn name(&self) -> &str {
        "m0001_orders"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Start {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("orders")
                    .col(string_len("id", ID).primary_key())
                    .col(string_len("number", 32).unique_key())
                    .col(string_len("customer_id", ID))
                    .col(string_len("status", 16))
                    .col(string_len("currency", 3))
                    .col(big_integer("total_minor").check(Expr::col("total_minor").gte(0)))
                    .col(text("shipping_address"))
                    // Incremented with each change of status.
                    .col(big_integer("version"))
                    // The request that the products service must still receive.
                    .col(string_len("stock_task", 16))
                    .col(string_len("correlation_id", 64))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        for (name, columns) in [
            ("orders_by_customer", &["customer_id", "id"][..]),
            ("orders_by_status", &["status", "id"]),
        ] {
            let mut index = Index::create().name(name).table("orders").to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("orders_stock_task")
                    .table("orders")
                    .col("id")
                    .and_where(Expr::col("stock_task").ne("NONE"))
                    .to_owned(),
            )
            .await?;
        lines_and_history(manager).await?;
        payments(manager).await?;
        manager
            .create_table(
                Table::create()
                    .table("counter")
                    .col(string_len("name", 32).primary_key())
                    .col(big_integer("value"))
                    .to_owned(),
            )
            .await?;
        manager
            .get_connection()
            .execute_unprepared("INSERT INTO counter (name, value) VALUES ('order', 100000)")
            .await?;
        table::idempotency(manager).await?;
        table::outbox(manager).await
    }
}

/// The lines of orders, and their state changes.
async fn lines_and_history(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("order_line")
                .col(string_len("order_id", ID))
                .col(big_integer("position"))
                .col(string_len("product_id", ID))
                .col(string_len("sku", 64))
                .col(string_len("name", 200))
                .col(big_integer("unit_price_minor"))
                .col(big_integer("quantity").check(Expr::col("quantity").gt(0)))
                .col(big_integer("subtotal_minor"))
                .primary_key(Index::create().col("order_id").col("position"))
                .foreign_key(
                    ForeignKey::create()
                        .name("order_line_order")
                        .from("order_line", "order_id")
                        .to("orders", "id"),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("order_history")
                .col(string_len("order_id", ID))
                .col(big_integer("version"))
                .col(string_len("status", 16))
                .col(string_len_null("previous_status", 16))
                .col(string_len("actor", 64))
                .col(string_len_null("reason", 500))
                .col(big_integer("created_at"))
                .primary_key(Index::create().col("order_id").col("version"))
                .foreign_key(
                    ForeignKey::create()
                        .name("order_history_order")
                        .from("order_history", "order_id")
                        .to("orders", "id"),
                )
                .to_owned(),
        )
        .await
}

/// Payments, with the next step of each.
async fn payments(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("payment")
                .col(string_len("order_id", ID).primary_key())
                .col(string_len("provider", 32))
                .col(string_len("method", 64))
                .col(string_len("currency", 3))
                .col(big_integer("amount_minor").check(Expr::col("amount_minor").gte(0)))
                .col(string_len("state", 16))
                // The next step to take with the payment provider.
                .col(string_len("task", 16))
                .col(big_integer_null("due_at"))
                .col(big_integer("attempts"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .foreign_key(
                    ForeignKey::create()
                        .name("payment_order")
                        .from("payment", "order_id")
                        .to("orders", "id"),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("payment_task")
                .table("payment")
                .col("due_at")
                .and_where(Expr::col("task").ne("NONE"))
                .to_owned(),
        )
        .await
}

/// The trace that an order was placed in, so that later work belongs to it.
pub struct Trace;

impl MigrationName for Trace {
    fn name(&self) -> &str {
        "m0002_orders_trace"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Trace {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table("orders")
                    .add_column(string_len_null("traceparent", 64))
                    .to_owned(),
            )
            .await
    }
}

/// What a payment's saga needs: the provider's reference, each movement of money,
/// and the last error. Also the sandbox's own records.
pub struct Saga;

impl MigrationName for Saga {
    fn name(&self) -> &str {
        "m0003_orders_saga"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Saga {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements = [
            "ALTER TABLE payment ADD COLUMN reference varchar(255)",
            "ALTER TABLE payment ADD COLUMN last_error varchar(500)",
            "ALTER TABLE payment ADD COLUMN captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor >= 0)",
            "ALTER TABLE payment ADD COLUMN refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0 AND refunded_minor <= captured_minor)",
            "UPDATE payment SET task = 'AUTHORISE' WHERE task = 'SETTLE'",
            "UPDATE payment SET reference = 'sandbox_' || order_id",
            "UPDATE payment SET captured_minor = amount_minor WHERE state IN ('CAPTURED', 'REFUNDED')",
            "UPDATE payment SET refunded_minor = amount_minor WHERE state = 'REFUNDED'",
            "CREATE TABLE payment_movement (
                order_id varchar(36) NOT NULL REFERENCES payment (order_id),
                key varchar(128) NOT NULL,
                kind varchar(16) NOT NULL,
                amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
                created_at bigint NOT NULL,
                PRIMARY KEY (order_id, key)
            )",
            "INSERT INTO payment_movement SELECT order_id, order_id || ':capture', 'CAPTURE', captured_minor, created_at FROM payment WHERE state IN ('CAPTURED', 'REFUNDED')",
            "INSERT INTO payment_movement SELECT order_id, order_id || ':refund', 'REFUND', refunded_minor, updated_at FROM payment WHERE state = 'REFUNDED'",
            "CREATE TABLE sandbox_payment (
                reference varchar(255) PRIMARY KEY,
                state varchar(16) NOT NULL,
                amount_minor bigint NOT NULL,
                captured_minor bigint NOT NULL,
                refunded_minor bigint NOT NULL,
                -- How often the money was asked for.
                asked bigint NOT NULL,
                created_at bigint NOT NULL
            )",
            "CREATE TABLE sandbox_refund (key varchar(128) PRIMARY KEY)",
            "INSERT INTO sandbox_payment SELECT reference, CASE state WHEN 'REFUNDED' THEN 'CAPTURED' ELSE state END, amount_minor, captured_minor, refunded_minor, 1, created_at FROM payment WHERE state <> 'PENDING'",
        ];
        table::run(manager, &statements).await
    }
}

/// Webhook events of payment providers, each stored once; and the sandbox's pending
/// webhooks.
pub struct Webhooks;

impl MigrationName for Webhooks {
    fn name(&self) -> &str {
        "m0004_orders_webhooks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Webhooks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                "CREATE TABLE payment_event (
                    provider varchar(32) NOT NULL,
                    event_id varchar(255) NOT NULL,
                    kind varchar(64) NOT NULL,
                    order_id varchar(36),
                    payload text NOT NULL,
                    received_at bigint NOT NULL,
                    PRIMARY KEY (provider, event_id)
                )",
                "CREATE TABLE sandbox_webhook (
                    event_id varchar(255) NOT NULL,
                    -- The same event may arrive several times.
                    copy bigint NOT NULL,
                    kind varchar(64) NOT NULL,
                    reference varchar(255) NOT NULL,
                    method varchar(64) NOT NULL,
                    due_at bigint NOT NULL,
                    attempts bigint NOT NULL,
                    PRIMARY KEY (event_id, copy)
                )",
                "CREATE INDEX sandbox_webhook_due ON sandbox_webhook (due_at)",
            ],
        )
        .await
    }
}

/// The parts of a total; shipments and refunds, line by line.
pub struct Fulfilment;

impl MigrationName for Fulfilment {
    fn name(&self) -> &str {
        "m0005_orders_fulfilment"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Fulfilment {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                "ALTER TABLE orders ADD COLUMN subtotal_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE orders ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE orders ADD COLUMN shipping_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE orders ADD COLUMN tax_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE orders ADD COLUMN shipping_tax_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE orders ADD COLUMN discount_code varchar(64)",
                // So far no discount, shipping or tax existed: the parts add up to the total.
                "UPDATE orders SET subtotal_minor = total_minor",
                "ALTER TABLE order_line ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0",
                "ALTER TABLE order_line ADD COLUMN tax_minor bigint NOT NULL DEFAULT 0",
                "CREATE TABLE shipment (
                    id varchar(36) PRIMARY KEY,
                    order_id varchar(36) NOT NULL REFERENCES orders (id),
                    carrier varchar(100),
                    tracking_number varchar(100),
                    actor varchar(64) NOT NULL,
                    reason varchar(500),
                    created_at bigint NOT NULL
                )",
                "CREATE INDEX shipment_by_order ON shipment (order_id)",
                "CREATE TABLE shipment_line (
                    shipment_id varchar(36) NOT NULL REFERENCES shipment (id),
                    product_id varchar(36) NOT NULL,
                    quantity bigint NOT NULL CHECK (quantity > 0),
                    PRIMARY KEY (shipment_id, product_id)
                )",
                "CREATE TABLE refund (
                    -- The key under which the provider is asked, too.
                    id varchar(128) PRIMARY KEY,
                    order_id varchar(36) NOT NULL REFERENCES orders (id),
                    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
                    shipping_minor bigint NOT NULL CHECK (shipping_minor >= 0),
                    state varchar(16) NOT NULL,
                    stock_task varchar(16) NOT NULL,
                    actor varchar(64) NOT NULL,
                    reason varchar(500),
                    created_at bigint NOT NULL
                )",
                "CREATE INDEX refund_by_order ON refund (order_id)",
                "CREATE INDEX refund_stock_task ON refund (id) WHERE stock_task <> 'NONE'",
                "CREATE TABLE refund_line (
                    refund_id varchar(128) NOT NULL REFERENCES refund (id),
                    product_id varchar(36) NOT NULL,
                    quantity bigint NOT NULL CHECK (quantity > 0),
                    -- Of these, never shipped.
                    called_off bigint NOT NULL CHECK (called_off >= 0 AND called_off <= quantity),
                    -- Of these, shipped and come back.
                    restocked bigint NOT NULL CHECK (restocked >= 0 AND restocked + called_off <= quantity),
                    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
                    PRIMARY KEY (refund_id, product_id)
                )",
                "INSERT INTO refund SELECT key, order_id, amount_minor, 0, 'DONE', 'NONE', 'SYSTEM', NULL, created_at FROM payment_movement WHERE kind = 'REFUND'",
                // The provider may know this key already: under another it would refund twice.
                "INSERT INTO refund SELECT order_id || ':refund:' || refunded_minor, order_id, captured_minor - refunded_minor, 0, 'PENDING', 'NONE', 'SYSTEM', NULL, updated_at FROM payment WHERE task = 'REFUND'",
                // So far orders were shipped whole: one shipment, with the id of its order.
                "INSERT INTO shipment SELECT order_id, order_id, NULL, NULL, actor, reason, created_at FROM order_history WHERE status = 'SHIPPED'",
                "INSERT INTO shipment_line SELECT s.id, l.product_id, SUM(l.quantity) FROM shipment s JOIN order_line l ON l.order_id = s.order_id GROUP BY s.id, l.product_id",
            ],
        )
        .await
    }
}

/// Discount codes and their uses; carts.
pub struct Checkout;

impl MigrationName for Checkout {
    fn name(&self) -> &str {
        "m0006_orders_checkout"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Checkout {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                "CREATE TABLE discount (
                    code varchar(64) PRIMARY KEY,
                    kind varchar(16) NOT NULL,
                    -- Hundredths of a percent, or minor units.
                    value bigint NOT NULL CHECK (value > 0),
                    currency varchar(3),
                    minimum_minor bigint,
                    starts_at bigint,
                    ends_at bigint,
                    total_limit bigint,
                    customer_limit bigint,
                    is_active bigint NOT NULL,
                    used bigint NOT NULL CHECK (used >= 0 AND (total_limit IS NULL OR used <= total_limit)),
                    created_at bigint NOT NULL
                )",
                "CREATE TABLE discount_use (
                    order_id varchar(36) PRIMARY KEY REFERENCES orders (id),
                    code varchar(64) NOT NULL REFERENCES discount (code),
                    customer_id varchar(36) NOT NULL,
                    created_at bigint NOT NULL
                )",
                "CREATE INDEX discount_use_by_customer ON discount_use (code, customer_id)",
                "CREATE TABLE cart (
                    id varchar(36) PRIMARY KEY,
                    -- Whose it is; a guest's is opened by its token.
                    customer_id varchar(36),
                    token_hash varchar(64),
                    state varchar(16) NOT NULL,
                    version bigint NOT NULL,
                    order_id varchar(36),
                    created_at bigint NOT NULL,
                    updated_at bigint NOT NULL
                )",
                "CREATE UNIQUE INDEX cart_open ON cart (customer_id) WHERE state = 'OPEN' AND customer_id IS NOT NULL",
                "CREATE INDEX cart_guests ON cart (updated_at) WHERE customer_id IS NULL",
                "CREATE TABLE cart_line (
                    cart_id varchar(36) NOT NULL REFERENCES cart (id),
                    product_id varchar(36) NOT NULL,
                    position bigint NOT NULL,
                    quantity bigint NOT NULL CHECK (quantity > 0),
                    -- As it was when it was put in.
                    price_minor bigint NOT NULL,
                    currency varchar(3) NOT NULL,
                    PRIMARY KEY (cart_id, product_id)
                )",
            ],
        )
        .await
    }
}

/// Requests that the products service must still receive, with the number of attempts
/// and the last error.
pub struct StockTasks;

impl MigrationName for StockTasks {
    fn name(&self) -> &str {
        "m0007_orders_stock_tasks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for StockTasks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        table::run(
            manager,
            &[
                "CREATE TABLE stock_task (
                    -- The order's, or the refund's whose units go back.
                    id varchar(128) PRIMARY KEY,
                    order_id varchar(36) NOT NULL REFERENCES orders (id),
                    task varchar(16) NOT NULL,
                    due_at bigint NOT NULL,
                    attempts bigint NOT NULL,
                    last_error varchar(500),
                    created_at bigint NOT NULL
                )",
                "CREATE INDEX stock_task_by_order ON stock_task (order_id)",
                "CREATE INDEX stock_task_due ON stock_task (due_at)",
                "INSERT INTO stock_task SELECT id, id, stock_task, updated_at, 0, NULL, updated_at FROM orders WHERE stock_task <> 'NONE'",
                "INSERT INTO stock_task SELECT id, order_id, stock_task, created_at, 0, NULL, created_at FROM refund WHERE stock_task <> 'NONE'",
                "DROP INDEX orders_stock_task",
                "DROP INDEX refund_stock_task",
                "ALTER TABLE orders DROP COLUMN stock_task",
                "ALTER TABLE refund DROP COLUMN stock_task",
            ],
        )
        .await
    }
}

/// An index that finds old payment events, to delete them.
pub struct EventAge;

impl MigrationName for EventAge {
    fn name(&self) -> &str {
        "m0008_orders_event_age"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for EventAge {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statement = "CREATE INDEX payment_event_by_age ON payment_event (received_at)";
        table::run(manager, &[statement]).await
    }
}
