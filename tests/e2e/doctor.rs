//! `stoa doctor` finds inconsistencies.

use std::path::Path;

use sea_orm::ConnectionTrait;
use stoa_service::database::{Database, PoolOptions};
use stoa_tests::{Mode, Shop};

use crate::support::*;

/// The database, a statement that corrupts it, and the rule that detects that.
const TAMPERED: &[(&str, &str, &str)] = &[
    (
        "orders",
        "UPDATE orders SET total_minor = total_minor + 1 WHERE number = 'S-100001'",
        "an order's total is the sum of its parts",
    ),
    (
        "orders",
        "UPDATE order_line SET unit_price_minor = unit_price_minor + 1",
        "a subtotal is price times quantity",
    ),
    (
        "orders",
        "DELETE FROM order_history WHERE status = 'SHIPPED'",
        "every change of state has its history, once",
    ),
    (
        "orders",
        "UPDATE orders SET status = 'SHIPPED' WHERE status = 'CONFIRMED'",
        "an order is where its history ends",
    ),
    (
        "orders",
        "UPDATE order_history SET previous_status = 'DELIVERED' WHERE status = 'CONFIRMED'",
        "history is a chain",
    ),
    (
        "orders",
        "UPDATE order_history SET previous_status = 'DELIVERED' WHERE status = 'CONFIRMED'",
        "a change of state is a legal one",
    ),
    (
        "orders",
        "DELETE FROM outbox WHERE aggregate_version = 2",
        "every change of state has its event",
    ),
    (
        "orders",
        "UPDATE outbox SET aggregate_id = 'nobody' WHERE aggregate_version = 1 AND position = 1",
        "every event has its change of state",
    ),
    (
        "orders",
        "UPDATE payment SET amount_minor = amount_minor + 1",
        "every order has a payment of its total",
    ),
    (
        "orders",
        "DELETE FROM payment_movement WHERE kind = 'CAPTURE'",
        "an order that was confirmed has one capture, of its total",
    ),
    (
        "orders",
        "INSERT INTO payment_movement SELECT order_id, 'twice', kind, amount_minor, created_at FROM payment_movement WHERE kind = 'CAPTURE'",
        "an order that was confirmed has one capture, of its total",
    ),
    (
        "orders",
        "UPDATE payment SET refunded_minor = 1 WHERE captured_minor > 0",
        "captured and refunded are the sums of what moved",
    ),
    (
        "orders",
        "UPDATE payment SET refunded_minor = captured_minor WHERE state = 'CAPTURED'",
        "REFUNDED is exactly when all that was captured went back",
    ),
    (
        "orders",
        "UPDATE payment SET refunded_minor = 0 WHERE state = 'REFUNDED'",
        "nothing is kept for a cancelled order",
    ),
    (
        "orders",
        "UPDATE orders SET status = 'PENDING' WHERE status = 'CONFIRMED'",
        "every order that is not decided has its next step",
    ),
    (
        "orders",
        "UPDATE payment SET state = 'AUTHORISED' WHERE state = 'DECLINED'",
        "nothing is kept for a cancelled order",
    ),
    (
        "orders",
        "DELETE FROM sandbox_payment",
        "the sandbox's books agree",
    ),
    (
        "orders",
        "UPDATE sandbox_payment SET captured_minor = 0",
        "the sandbox's books agree",
    ),
    (
        "products",
        "UPDATE product SET stock = stock + 1 WHERE number = 1",
        "stock + reserved + sold = received",
    ),
    (
        "products",
        "DELETE FROM reservation_line",
        "a reservation holds something",
    ),
    (
        "products",
        "UPDATE reservation SET state = 'RELEASED'",
        "an order's stock is where its state says",
    ),
    (
        "products",
        "INSERT INTO stock_return SELECT 'forged', l.product_id, l.order_id, 0, 1, 1 FROM reservation_line l JOIN reservation r ON r.order_id = l.order_id WHERE r.state = 'COMMITTED' LIMIT 1",
        "an order's stock is where its state says",
    ),
];

pub fn what_does_not_add_up_is_found() {
    let shop = Shop::start(Mode::One);
    shop.kill("up");
    assert!(
        shop.doctor()
            .starts_with("doctor: 0 violations, 0 unfinished, 8 orders"),
        "the demo data adds up"
    );
    for (database, sql, rule) in TAMPERED {
        let path = shop.folder().join(format!("data/{database}.db"));
        // Merge the killed shop's write-ahead log into the file before copying it.
        run(&path, "PRAGMA user_version");
        let before = std::fs::read(&path).unwrap();
        assert!(run(&path, sql) > 0, "{sql}");
        let (fine, said) = shop.try_command(&["doctor"]);
        assert!(!fine, "{sql}");
        assert!(
            said.contains(&format!("VIOLATION  {rule}: ")),
            "{rule}:\n{said}"
        );
        assert!(
            said.lines().last().unwrap().starts_with("doctor: "),
            "{said}"
        );
        for log in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{log}", path.display()));
        }
        std::fs::write(&path, before).unwrap();
    }
    assert!(shop.doctor().starts_with("doctor: 0 violations"));
    let nowhere = shop.folder().join("nowhere");
    let arguments = ["doctor", "--data-dir", &nowhere.display().to_string()];
    assert!(!shop.try_command(&arguments).0, "a shop that is not there");
    assert!(!nowhere.exists(), "and is not made");
}

/// Runs a statement on a database that no other process uses, and closes it, which
/// merges the write-ahead log into the file; returns the number of changed rows.
fn run(path: &Path, sql: &str) -> u64 {
    block_on(async {
        let url = format!("sqlite://{}", path.display());
        let db = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        let txn = db.begin().await.unwrap();
        let done = txn.execute_unprepared(sql).await.unwrap();
        txn.commit().await.unwrap();
        db.close().await;
        done.rows_affected()
    })
}
