//! The invariants of stock, checked in the database.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, DbErr, Statement};
use stoa_service::audit::{self, Rule, Violation};
use stoa_service::database::Database;

const RULES: &[Rule] = &[
    Rule {
        name: "stock is never below zero",
        sql: "SELECT id AS subject, 'stock ' || stock AS detail FROM product WHERE stock < 0",
    },
    Rule {
        name: "stock + reserved + sold = received",
        sql: "SELECT p.id AS subject, 'stock ' || p.stock || ', held ' || COALESCE(h.units, 0) || ', received ' || COALESCE(a.units, 0) AS detail FROM product p LEFT JOIN (SELECT l.product_id, SUM(l.quantity - l.returned) AS units FROM reservation_line l JOIN reservation r ON r.order_id = l.order_id WHERE r.state IN ('RESERVED', 'COMMITTED') GROUP BY l.product_id) h ON h.product_id = p.id LEFT JOIN (SELECT product_id, SUM(delta) AS units FROM stock_adjustment GROUP BY product_id) a ON a.product_id = p.id WHERE p.stock + COALESCE(h.units, 0) <> COALESCE(a.units, 0)",
    },
    Rule {
        name: "what was called off is what was returned",
        sql: "SELECT l.order_id AS subject, 'returned ' || l.returned || ', called off ' || COALESCE(b.units, 0) AS detail FROM reservation_line l JOIN reservation r ON r.order_id = l.order_id LEFT JOIN (SELECT order_id, product_id, SUM(called_off) AS units FROM stock_return GROUP BY order_id, product_id) b ON b.order_id = l.order_id AND b.product_id = l.product_id WHERE r.state = 'COMMITTED' AND l.returned <> COALESCE(b.units, 0)",
    },
    Rule {
        name: "what came back was received",
        sql: "SELECT b.product_id AS subject, 'restocked ' || b.units || ', received ' || COALESCE(a.units, 0) AS detail FROM (SELECT product_id, SUM(restocked) AS units FROM stock_return GROUP BY product_id) b LEFT JOIN (SELECT product_id, SUM(delta) AS units FROM stock_adjustment WHERE actor_id = 'orders' GROUP BY product_id) a ON a.product_id = b.product_id WHERE b.units <> COALESCE(a.units, 0)",
    },
    Rule {
        name: "a reservation holds something",
        sql: "SELECT r.order_id AS subject, r.state AS detail FROM reservation r LEFT JOIN reservation_line l ON l.order_id = r.order_id WHERE r.state <> 'RELEASED' AND l.order_id IS NULL",
    },
];

/// The violations of the rules that concern stock alone.
///
/// # Errors
/// If the database fails.
pub async fn violations(database: &Database) -> Result<Vec<Violation>, DbErr> {
    audit::check(database.read(), RULES).await
}

/// How many products there are.
///
/// # Errors
/// If the database fails.
pub async fn product_count(database: &Database) -> Result<u64, DbErr> {
    audit::count(database.read(), "SELECT COUNT(*) FROM product").await
}

/// The reservation of an order: `RESERVED`, `COMMITTED` or `RELEASED`, and the
/// units held by product.
#[derive(Debug, Clone, Default)]
pub struct Reservation {
    pub state: String,
    pub lines: BTreeMap<String, i64>,
    /// Units by product that were shipped and are in stock again.
    pub restocked: BTreeMap<String, i64>,
}

/// The reservations of orders between two identifiers, both included.
///
/// # Errors
/// If the database fails.
pub async fn reservations(
    database: &Database,
    first: &str,
    last: &str,
) -> Result<HashMap<String, Reservation>, DbErr> {
    let db = database.read();
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        "SELECT r.order_id, r.state, l.product_id, l.quantity - l.returned AS quantity, CAST(COALESCE((SELECT SUM(b.restocked) FROM stock_return b WHERE b.order_id = l.order_id AND b.product_id = l.product_id), 0) AS bigint) AS restocked FROM reservation r LEFT JOIN reservation_line l ON l.order_id = r.order_id WHERE r.order_id >= $1 AND r.order_id <= $2",
        [first.into(), last.into()],
    );
    let mut found: HashMap<String, Reservation> = HashMap::new();
    for row in db.query_all_raw(statement).await? {
        let known = found.entry(row.try_get("", "order_id")?).or_default();
        known.state = row.try_get("", "state")?;
        if let Some(product) = row.try_get::<Option<String>>("", "product_id")? {
            let held: i64 = row.try_get("", "quantity")?;
            let restocked: i64 = row.try_get("", "restocked")?;
            if restocked > 0 {
                known.restocked.insert(product.clone(), restocked);
            }
            if held > 0 {
                *known.lines.entry(product).or_default() += held;
            }
        }
    }
    Ok(found)
}

/// A page of the orders after `after` that hold units, with each reservation's
/// state.
///
/// # Errors
/// If the database fails.
pub async fn orders_holding_units(
    database: &Database,
    after: &str,
    limit: u64,
) -> Result<Vec<(String, String)>, DbErr> {
    let db = database.read();
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        format!(
            "SELECT order_id, state FROM reservation WHERE state <> 'RELEASED' AND order_id > $1 ORDER BY order_id LIMIT {limit}"
        ),
        [after.into()],
    );
    let rows = db.query_all_raw(statement).await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("", "order_id")?, row.try_get("", "state")?)))
        .collect()
}
