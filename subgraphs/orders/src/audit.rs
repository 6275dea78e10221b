//! Consistency rules for orders that must always hold, checked on the database.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbErr, Statement};
use stoa_schema::events::OrderStatus as Status;
use stoa_service::audit::{self, Rule, Violation};
use stoa_service::database::Database;

use crate::domain::next_statuses;
use crate::store::order::order_existing;

const RULES: &[Rule] = &[
    Rule {
        name: "an order's total is the sum of its parts",
        sql: "SELECT id AS subject, 'total ' || total_minor AS detail FROM orders WHERE total_minor <> subtotal_minor - discount_minor + shipping_minor + tax_minor",
    },
    Rule {
        name: "an order's parts are the sums of its lines",
        sql: "SELECT o.id AS subject, 'subtotal ' || o.subtotal_minor || ', lines ' || COALESCE(SUM(l.subtotal_minor), 0) AS detail FROM orders o LEFT JOIN order_line l ON l.order_id = o.id GROUP BY o.id, o.subtotal_minor, o.discount_minor, o.tax_minor, o.shipping_tax_minor HAVING o.subtotal_minor <> COALESCE(SUM(l.subtotal_minor), 0) OR o.discount_minor <> COALESCE(SUM(l.discount_minor), 0) OR o.tax_minor <> COALESCE(SUM(l.tax_minor), 0) + o.shipping_tax_minor",
    },
    Rule {
        name: "a subtotal is price times quantity",
        sql: "SELECT order_id AS subject, 'line ' || position AS detail FROM order_line WHERE subtotal_minor <> unit_price_minor * quantity",
    },
    Rule {
        name: "every change of state has its history, once",
        sql: "SELECT o.id AS subject, 'version ' || o.version || ', entries ' || COALESCE(h.entries, 0) AS detail FROM orders o LEFT JOIN (SELECT order_id, COUNT(*) AS entries, MIN(version) AS first, MAX(version) AS last FROM order_history GROUP BY order_id) h ON h.order_id = o.id WHERE h.entries IS NULL OR h.entries <> o.version OR h.first <> 1 OR h.last <> o.version",
    },
    Rule {
        name: "an order is where its history ends",
        sql: "SELECT o.id AS subject, o.status || ', history ' || h.status AS detail FROM orders o JOIN order_history h ON h.order_id = o.id AND h.version = o.version WHERE h.status <> o.status",
    },
    Rule {
        name: "history is a chain",
        sql: "SELECT h.order_id AS subject, 'version ' || h.version AS detail FROM order_history h JOIN order_history p ON p.order_id = h.order_id AND p.version = h.version - 1 WHERE h.previous_status IS NULL OR h.previous_status <> p.status",
    },
    Rule {
        name: "every change of state has its event",
        sql: "SELECT h.order_id AS subject, 'version ' || h.version AS detail FROM order_history h LEFT JOIN outbox e ON e.aggregate_id = h.order_id AND e.aggregate_version = h.version WHERE e.message_id IS NULL",
    },
    Rule {
        name: "every event has its change of state",
        sql: "SELECT e.aggregate_id AS subject, 'version ' || e.aggregate_version AS detail FROM outbox e LEFT JOIN order_history h ON h.order_id = e.aggregate_id AND h.version = e.aggregate_version WHERE h.order_id IS NULL",
    },
    Rule {
        name: "every order has a payment of its total",
        sql: "SELECT o.id AS subject, 'total ' || o.total_minor || ', payment ' || COALESCE(p.amount_minor, -1) AS detail FROM orders o LEFT JOIN payment p ON p.order_id = o.id WHERE p.order_id IS NULL OR p.amount_minor <> o.total_minor OR p.currency <> o.currency",
    },
    Rule {
        name: "no payment without an order",
        sql: "SELECT p.order_id AS subject, p.state AS detail FROM payment p LEFT JOIN orders o ON o.id = p.order_id WHERE o.id IS NULL",
    },
    Rule {
        name: "an order that was confirmed has one capture, of its total",
        sql: "SELECT o.id AS subject, COALESCE(c.number, 0) || ' captures of ' || COALESCE(c.amount, 0) || ', total ' || o.total_minor AS detail FROM orders o JOIN order_history h ON h.order_id = o.id AND h.status = 'CONFIRMED' LEFT JOIN (SELECT order_id, COUNT(*) AS number, SUM(amount_minor) AS amount FROM payment_movement WHERE kind = 'CAPTURE' GROUP BY order_id) c ON c.order_id = o.id WHERE c.number IS NULL OR c.number <> 1 OR c.amount <> o.total_minor",
    },
    Rule {
        name: "captured and refunded are the sums of what moved",
        sql: "SELECT p.order_id AS subject, 'captured ' || p.captured_minor || ', refunded ' || p.refunded_minor AS detail FROM payment p WHERE p.captured_minor <> COALESCE((SELECT SUM(m.amount_minor) FROM payment_movement m WHERE m.order_id = p.order_id AND m.kind = 'CAPTURE'), 0) OR p.refunded_minor <> COALESCE((SELECT SUM(m.amount_minor) FROM payment_movement m WHERE m.order_id = p.order_id AND m.kind = 'REFUND'), 0)",
    },
    Rule {
        name: "what was asked back is what went back",
        sql: "SELECT p.order_id AS subject, 'refunded ' || p.refunded_minor || ', asked ' || COALESCE(r.asked, 0) || ', done ' || COALESCE(r.done, 0) AS detail FROM payment p LEFT JOIN (SELECT order_id, SUM(amount_minor) AS asked, SUM(CASE WHEN state = 'DONE' THEN amount_minor ELSE 0 END) AS done FROM refund GROUP BY order_id) r ON r.order_id = p.order_id WHERE p.refunded_minor <> COALESCE(r.done, 0) OR COALESCE(r.asked, 0) > p.captured_minor OR (COALESCE(r.asked, 0) <> COALESCE(r.done, 0) AND p.task <> 'REFUND')",
    },
    Rule {
        name: "a refund is the sum of its parts",
        sql: "SELECT r.id AS subject, 'amount ' || r.amount_minor AS detail FROM refund r JOIN refund_line l ON l.refund_id = r.id GROUP BY r.id, r.amount_minor, r.shipping_minor HAVING r.amount_minor <> r.shipping_minor + SUM(l.amount_minor)",
    },
    Rule {
        name: "no line sends or refunds more units than it has",
        sql: "SELECT l.order_id AS subject, 'line ' || l.position || ' of ' || l.quantity || ', shipped ' || COALESCE(s.units, 0) || ', refunded ' || COALESCE(r.units, 0) AS detail FROM order_line l LEFT JOIN (SELECT h.order_id, sl.product_id, SUM(sl.quantity) AS units FROM shipment h JOIN shipment_line sl ON sl.shipment_id = h.id GROUP BY h.order_id, sl.product_id) s ON s.order_id = l.order_id AND s.product_id = l.product_id LEFT JOIN (SELECT f.order_id, fl.product_id, SUM(fl.quantity) AS units, SUM(fl.called_off) AS called_off FROM refund f JOIN refund_line fl ON fl.refund_id = f.id GROUP BY f.order_id, fl.product_id) r ON r.order_id = l.order_id AND r.product_id = l.product_id WHERE COALESCE(s.units, 0) + COALESCE(r.called_off, 0) > l.quantity OR COALESCE(r.units, 0) > l.quantity",
    },
    Rule {
        name: "what is shipped has left whole",
        sql: "SELECT o.id AS subject, 'product ' || l.product_id AS detail FROM orders o JOIN order_line l ON l.order_id = o.id WHERE o.status IN ('SHIPPED', 'DELIVERED') AND l.quantity <> COALESCE((SELECT SUM(sl.quantity) FROM shipment h JOIN shipment_line sl ON sl.shipment_id = h.id WHERE h.order_id = o.id AND sl.product_id = l.product_id), 0) + COALESCE((SELECT SUM(fl.called_off) FROM refund f JOIN refund_line fl ON fl.refund_id = f.id WHERE f.order_id = o.id AND fl.product_id = l.product_id), 0)",
    },
    Rule {
        name: "a discount code is used as often as its orders say, and may",
        sql: "SELECT d.code AS subject, 'used ' || d.used || ', by orders ' || COALESCE(u.uses, 0) AS detail FROM discount d LEFT JOIN (SELECT code, COUNT(*) AS uses FROM discount_use GROUP BY code) u ON u.code = d.code WHERE d.used <> COALESCE(u.uses, 0) OR d.used > d.total_limit",
    },
    Rule {
        name: "no customer uses a discount code more often than they may",
        sql: "SELECT d.code AS subject, u.customer_id || ' ' || COUNT(*) AS detail FROM discount d JOIN discount_use u ON u.code = d.code WHERE d.customer_limit IS NOT NULL GROUP BY d.code, d.customer_limit, u.customer_id HAVING COUNT(*) > d.customer_limit",
    },
    Rule {
        name: "an order has its discount's use until it is cancelled",
        sql: "SELECT o.id AS subject, o.status || ', code ' || COALESCE(o.discount_code, 'none') AS detail FROM orders o LEFT JOIN discount_use u ON u.order_id = o.id WHERE (o.discount_code IS NOT NULL AND o.status <> 'CANCELLED' AND (u.code IS NULL OR u.code <> o.discount_code)) OR ((o.discount_code IS NULL OR o.status = 'CANCELLED') AND u.code IS NOT NULL)",
    },
    Rule {
        name: "no more is refunded than was captured",
        sql: "SELECT order_id AS subject, 'captured ' || captured_minor || ', refunded ' || refunded_minor AS detail FROM payment WHERE refunded_minor < 0 OR refunded_minor > captured_minor",
    },
    Rule {
        name: "REFUNDED is exactly when all that was captured went back",
        sql: "SELECT o.id AS subject, o.status || ', captured ' || p.captured_minor || ', refunded ' || p.refunded_minor AS detail FROM orders o JOIN payment p ON p.order_id = o.id WHERE p.task = 'NONE' AND ((o.status = 'REFUNDED' AND ((p.captured_minor = 0 AND p.amount_minor > 0) OR p.refunded_minor <> p.captured_minor)) OR (o.status IN ('CONFIRMED', 'SHIPPED', 'DELIVERED') AND p.refunded_minor = p.captured_minor AND p.amount_minor > 0))",
    },
    Rule {
        name: "nothing is kept for a cancelled order",
        sql: "SELECT o.id AS subject, p.state || ', captured ' || p.captured_minor || ', refunded ' || p.refunded_minor AS detail FROM orders o JOIN payment p ON p.order_id = o.id WHERE o.status = 'CANCELLED' AND p.task = 'NONE' AND (p.captured_minor <> p.refunded_minor OR p.state NOT IN ('DECLINED', 'VOIDED', 'REFUNDED'))",
    },
    Rule {
        name: "every order that is not decided has its next step",
        sql: "SELECT o.id AS subject, o.status || ', payment ' || p.state || ', step ' || p.task AS detail FROM orders o JOIN payment p ON p.order_id = o.id WHERE (o.status = 'PENDING' AND p.task NOT IN ('AUTHORISE', 'COMMIT', 'CAPTURE')) OR (o.status <> 'PENDING' AND p.task IN ('AUTHORISE', 'COMMIT', 'CAPTURE')) OR (p.task <> 'NONE' AND p.due_at IS NULL) OR (o.status IN ('CONFIRMED', 'SHIPPED', 'DELIVERED') AND (p.state <> 'CAPTURED' OR p.task NOT IN ('NONE', 'REFUND')))",
    },
    Rule {
        name: "the sandbox's books agree",
        sql: "SELECT p.order_id AS subject, 'captured ' || p.captured_minor || ', there ' || COALESCE(s.captured_minor, 0) || '; refunded ' || p.refunded_minor || ', there ' || COALESCE(s.refunded_minor, 0) || '; ' || COALESCE(s.state, 'unknown') AS detail FROM payment p LEFT JOIN sandbox_payment s ON s.reference = 'sandbox_' || p.order_id WHERE p.provider = 'sandbox' AND p.task = 'NONE' AND (COALESCE(s.captured_minor, 0) <> p.captured_minor OR COALESCE(s.refunded_minor, 0) <> p.refunded_minor OR s.state = 'AUTHORISED')",
    },
];

const ILLEGAL_MOVES: &str = "a change of state is a legal one";

/// Violations of the rules that concern the orders database alone.
///
/// # Errors
/// If the database fails.
pub async fn violations(database: &Database) -> Result<Vec<Violation>, DbErr> {
    let mut found = audit::check(database.read(), RULES).await?;
    let legal: Vec<String> = Status::ALL
        .into_iter()
        .flat_map(|from| {
            let next = next_statuses(from).iter();
            next.map(move |to| format!("'{}>{}'", from.into_str(), to.into_str()))
        })
        .collect();
    let sql = format!(
        "SELECT order_id AS subject, previous_status || '>' || status AS detail FROM order_history WHERE previous_status IS NOT NULL AND previous_status || '>' || status NOT IN ({})",
        legal.join(", ")
    );
    found.extend(audit::find(database.read(), ILLEGAL_MOVES, &sql).await?);
    Ok(found)
}

/// How many orders have unfinished work: no violation, but a worker must finish it.
///
/// # Errors
/// If the database fails.
pub async fn unfinished(database: &Database) -> Result<u64, DbErr> {
    audit::count(
        database.read(),
        "SELECT COUNT(*) FROM orders o JOIN payment p ON p.order_id = o.id WHERE p.task <> 'NONE' OR EXISTS (SELECT 1 FROM stock_task t WHERE t.order_id = o.id)",
    )
    .await
}

/// What the stock of an order should be, to compare with products.
#[derive(Debug, Clone)]
pub struct ExpectedStock {
    pub order_id: String,
    pub status: String,
    /// Whether a step is still to be done.
    pub under_way: bool,
    pub was_shipped: bool,
    /// Units by product, without the cancelled ones.
    pub lines: BTreeMap<String, i64>,
    /// Units by product that were shipped and returned to stock.
    pub restocked: BTreeMap<String, i64>,
}

/// A page of orders by ID, starting after one.
///
/// # Errors
/// If the database fails.
pub async fn expected_stock_page(
    database: &Database,
    after: &str,
    limit: u64,
) -> Result<Vec<ExpectedStock>, DbErr> {
    let db = database.read();
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        format!(
            "SELECT o.id, o.status, CASE WHEN p.task <> 'NONE' OR EXISTS (SELECT 1 FROM stock_task t WHERE t.order_id = o.id) THEN 1 ELSE 0 END AS under_way, CASE WHEN EXISTS (SELECT 1 FROM order_history h WHERE h.order_id = o.id AND h.status = 'SHIPPED') OR EXISTS (SELECT 1 FROM shipment s WHERE s.order_id = o.id) THEN 1 ELSE 0 END AS was_shipped FROM orders o JOIN payment p ON p.order_id = o.id WHERE o.id > $1 ORDER BY o.id LIMIT {limit}"
        ),
        [after.into()],
    );
    let mut orders: Vec<ExpectedStock> = Vec::new();
    for row in db.query_all_raw(statement).await? {
        orders.push(ExpectedStock {
            order_id: row.try_get("", "id")?,
            status: row.try_get("", "status")?,
            under_way: row.try_get::<i32>("", "under_way")? == 1,
            was_shipped: row.try_get::<i32>("", "was_shipped")? == 1,
            lines: BTreeMap::new(),
            restocked: BTreeMap::new(),
        });
    }
    let (Some(first), Some(last)) = (orders.first(), orders.last()) else {
        return Ok(orders);
    };
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        "SELECT l.order_id, l.product_id, l.quantity, CAST(COALESCE((SELECT SUM(fl.called_off) FROM refund f JOIN refund_line fl ON fl.refund_id = f.id WHERE f.order_id = l.order_id AND fl.product_id = l.product_id), 0) AS bigint) AS called_off, CAST(COALESCE((SELECT SUM(fl.restocked) FROM refund f JOIN refund_line fl ON fl.refund_id = f.id WHERE f.order_id = l.order_id AND fl.product_id = l.product_id), 0) AS bigint) AS restocked FROM order_line l WHERE l.order_id >= $1 AND l.order_id <= $2",
        [first.order_id.clone().into(), last.order_id.clone().into()],
    );
    for row in db.query_all_raw(statement).await? {
        let order: String = row.try_get("", "order_id")?;
        if let Ok(at) = orders.binary_search_by(|held| held.order_id.cmp(&order)) {
            let product: String = row.try_get("", "product_id")?;
            let quantity: i64 = row.try_get("", "quantity")?;
            let called_off: i64 = row.try_get("", "called_off")?;
            let restocked: i64 = row.try_get("", "restocked")?;
            if restocked > 0 {
                orders[at].restocked.insert(product.clone(), restocked);
            }
            if quantity > called_off {
                *orders[at].lines.entry(product).or_default() += quantity - called_off;
            }
        }
    }
    Ok(orders)
}

/// Which of the given orders exist.
///
/// # Errors
/// If the database fails.
pub async fn existing_orders(database: &Database, ids: &[String]) -> Result<Vec<String>, DbErr> {
    order_existing(database.read(), ids).await
}
