//! Migrations from an empty database and from each earlier version, on SQLite and
//! PostgreSQL: the resulting tables are the same, and earlier rows are kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, JsonValue, Statement};
use stoa_migrations::{
    BusMigrator, MigratorTrait, NotificationsMigrator, OrdersMigrator, ProductsMigrator,
    UsersMigrator,
};
use stoa_service::database::{Database, PoolOptions};
use stoa_tests::{Servers, servers};

/// Rows that an earlier version may have stored, and a query whose result must be the
/// same after every later migration.
struct Sample {
    /// The statements for a schema version.
    statements: fn(usize) -> &'static [&'static str],
    question: &'static str,
    answer: &'static str,
}

const USERS: Sample = Sample {
    statements: |_| {
        &[
            "INSERT INTO account (id, email, password_hash, first_name, last_name, role, is_active, created_at, updated_at) VALUES ('a', 'a@b.test', 'h', 'A', 'B', 'CUSTOMER', true, 1, 1)",
        ]
    },
    question: "SELECT email AS answer FROM account",
    answer: "a@b.test",
};
const PRODUCTS: Sample = Sample {
    statements: |_| {
        &[
            "INSERT INTO product (id, sku, name, description, price_minor, currency, stock, is_active, created_at, updated_at) VALUES ('p', 'COF-001', 'Coffee', '', 100, 'EUR', 3, true, 1, 1)",
        ]
    },
    question: "SELECT sku AS answer FROM product",
    answer: "COF-001",
};
const ORDERS: Sample = Sample {
    statements: |version| match version {
        // Before stock tasks had their own table.
        5 | 6 => &[
            "INSERT INTO orders (id, number, customer_id, status, currency, total_minor, shipping_address, version, stock_task, correlation_id, created_at, updated_at) VALUES ('o', 'S-1', 'c', 'CANCELLED', 'EUR', 100, '{}', 1, 'RELEASE', 'x', 1, 1)",
            "INSERT INTO refund VALUES ('r', 'o', 50, 0, 'DONE', 'RETURN', 'ADMIN', NULL, 1), ('s', 'o', 50, 0, 'DONE', 'NONE', 'ADMIN', NULL, 1)",
        ],
        ..=4 => &[
            "INSERT INTO orders (id, number, customer_id, status, currency, total_minor, shipping_address, version, stock_task, correlation_id, created_at, updated_at) VALUES ('o', 'S-1', 'c', 'CANCELLED', 'EUR', 100, '{}', 1, 'RELEASE', 'x', 1, 1)",
        ],
        _ => &[
            "INSERT INTO orders (id, number, customer_id, status, currency, total_minor, shipping_address, version, correlation_id, created_at, updated_at) VALUES ('o', 'S-1', 'c', 'CANCELLED', 'EUR', 100, '{}', 1, 'x', 1, 1)",
            "INSERT INTO stock_task VALUES ('o', 'o', 'RELEASE', 1, 0, NULL, 1)",
        ],
    },
    question: "SELECT o.number || ' ' || t.task AS answer FROM orders o JOIN stock_task t ON t.id = o.id",
    answer: "S-1 RELEASE",
};
const NOTIFICATIONS: Sample = Sample {
    statements: |_| {
        &[
            "INSERT INTO known_order (order_id, customer_id, version) VALUES ('o1', 'c', 3), ('o2', 'c', 1)",
        ]
    },
    // The version that adds the inbox marks all event versions that were handled before
    // as handled.
    question: "SELECT order_id AS answer FROM known_order WHERE version = 3",
    answer: "o1",
};
const BUS: Sample = Sample {
    statements: |_| {
        &[
            "INSERT INTO bus_message (subject, message_id, payload) VALUES ('s', 'm', 'hello')",
            "INSERT INTO bus_consumer (name, acknowledged) VALUES ('c', 1)",
        ]
    },
    question: "SELECT payload AS answer FROM bus_message",
    answer: "hello",
};

enum TestDatabases {
    Sqlite(PathBuf),
    Postgres(Box<Servers>),
}

impl TestDatabases {
    fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("stoa-migrate-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        Self::Sqlite(folder)
    }

    fn postgres() -> Option<Self> {
        if !servers::available() {
            return None;
        }
        let folder = std::env::temp_dir().join(format!("stoa-migrate-{}", uuid::Uuid::now_v7()));
        let servers = Servers::start_some(&folder, &["postgres"]);
        Some(Self::Postgres(Box::new(servers)))
    }

    async fn database(&self, name: &str) -> Database {
        let url = match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.join(name).display()),
            Self::Postgres(servers) => servers.create_database(name),
        };
        Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap()
    }
}

impl Drop for TestDatabases {
    fn drop(&mut self) {
        if let Self::Sqlite(folder) = self {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

async fn run(database: &Database, statement: &str) {
    let txn = database.begin().await.unwrap();
    txn.execute_unprepared(statement).await.unwrap();
    txn.commit().await.unwrap();
}

async fn rows(database: &Database, statement: &str) -> Vec<JsonValue> {
    let backend = database.read().get_database_backend();
    JsonValue::find_by_statement(Statement::from_string(backend, statement))
        .all(database.read())
        .await
        .unwrap()
}

/// Every column and index, from the database's catalogue.
async fn shape(database: &Database) -> Vec<JsonValue> {
    if database.read().get_database_backend() == DbBackend::Postgres {
        let mut shape = rows(database, "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, column_name").await;
        shape.extend(
            rows(
                database,
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
            )
            .await,
        );
        return shape;
    }
    let mut shape = rows(database, "SELECT m.name AS table_name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.name").await;
    shape.extend(rows(database, "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY name").await);
    shape
}

async fn from_every_version<M: MigratorTrait>(place: &TestDatabases, name: &str, sample: &Sample) {
    let versions = M::migrations().len();
    let empty = place.database(&format!("{name}_empty")).await;
    empty.migrate::<M>().await.unwrap();
    let expected = shape(&empty).await;
    assert!(expected.len() > 5, "{name} has tables");
    empty.migrate::<M>().await.unwrap();
    assert_eq!(shape(&empty).await, expected, "{name}: twice is once");
    for version in 1..=versions {
        let database = place.database(&format!("{name}_{version}")).await;
        let steps = u32::try_from(version).unwrap();
        M::up(database.read(), Some(steps)).await.unwrap();
        for statement in (sample.statements)(version) {
            run(&database, statement).await;
        }
        database.migrate::<M>().await.unwrap();
        assert_eq!(shape(&database).await, expected, "{name} from {version}");
        let kept = rows(&database, sample.question).await;
        assert_eq!(kept.len(), 1, "{name} from {version}");
        assert_eq!(kept[0]["answer"], sample.answer, "{name} from {version}");
        if name == "orders" {
            let returns = "SELECT id FROM stock_task WHERE task = 'RETURN'";
            let kept = rows(&database, returns).await;
            let expected = usize::from(version == 5 || version == 6);
            assert_eq!(kept.len(), expected, "units of a refund still go back");
        }
        if name == "notifications" {
            let handled = rows(&database, "SELECT aggregate_id, aggregate_version FROM inbox ORDER BY aggregate_id, aggregate_version").await;
            let expected = if version == 1 { 4 } else { 0 };
            assert_eq!(handled.len(), expected, "versions handled before count");
        }
        database.close().await;
    }
    empty.close().await;
}

async fn services_from_every_version(place: &TestDatabases) {
    from_every_version::<UsersMigrator>(place, "users", &USERS).await;
    from_every_version::<ProductsMigrator>(place, "products", &PRODUCTS).await;
    from_every_version::<OrdersMigrator>(place, "orders", &ORDERS).await;
    from_every_version::<NotificationsMigrator>(place, "notifications", &NOTIFICATIONS).await;
}

#[tokio::test]
async fn sqlite_from_every_version() {
    let place = TestDatabases::sqlite();
    services_from_every_version(&place).await;
    from_every_version::<BusMigrator>(&place, "bus", &BUS).await;
}

#[tokio::test]
async fn postgresql_from_every_version() {
    if let Some(place) = TestDatabases::postgres() {
        services_from_every_version(&place).await;
    }
}

/// Replicas that start together migrate one after another.
#[tokio::test(flavor = "multi_thread")]
async fn eight_replicas_migrate_at_once() {
    let mut places = vec![TestDatabases::sqlite()];
    places.extend(TestDatabases::postgres());
    for place in places {
        let first = place.database("orders_at_once").await;
        first.close().await;
        let url = match &place {
            TestDatabases::Sqlite(folder) => {
                format!("sqlite://{}", folder.join("orders_at_once").display())
            }
            TestDatabases::Postgres(servers) => servers.database("orders_at_once"),
        };
        let replicas = (0..8).map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let pool = PoolOptions { connections: 2 };
                let database = Database::connect(&url, &pool).await.unwrap();
                database.migrate::<OrdersMigrator>().await.unwrap();
                database.close().await;
            })
        });
        for replica in replicas.collect::<Vec<_>>() {
            replica.await.unwrap();
        }
    }
}
