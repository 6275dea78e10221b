//! `stoa doctor`: checks the invariants of stock, payments and orders in the
//! databases themselves. Tests and operators use the same checks.

use std::collections::HashSet;
use std::io::Write;

use stoa_orders::audit::{self as orders, ExpectedStock};
use stoa_products::audit::{self as products, Reservation};
use stoa_service::audit::Violation;
use stoa_service::database::{Database, DbErr};

use crate::Error;
use crate::service_name::ServiceName;
use crate::services::{self};
use crate::settings::Settings;

const PAGE: u64 = 1_000;
const STOCK_AGREES: &str = "an order's stock is where its state says";

/// The result of an examination.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    /// Sagas and reservations that have not ended yet.
    pub unfinished: u64,
    pub orders: u64,
    pub products: u64,
}

/// Examines the databases and prints the violations, then a summary; returns whether
/// there are none.
///
/// # Errors
/// If a database cannot be read.
pub async fn run(settings: &Settings) -> Result<bool, Error> {
    let products = services::existing_database(settings, ServiceName::Products).await?;
    let orders = services::existing_database(settings, ServiceName::Orders).await?;
    let report = examine(&products, &orders).await.map_err(|error| {
        let what = "cannot examine the databases; `stoa migrate` brings them up to date";
        Error::failed(what, error)
    })?;
    let mut out = std::io::stdout().lock();
    for Violation {
        rule,
        subject,
        detail,
    } in &report.violations
    {
        let _ = writeln!(out, "VIOLATION  {rule}: {subject} ({detail})");
    }
    let _ = writeln!(
        out,
        "doctor: {} violations, {} unfinished, {} orders, {} products",
        report.violations.len(),
        report.unfinished,
        report.orders,
        report.products
    );
    Ok(report.violations.is_empty())
}

/// Examines the two databases. Concurrent changes may show as unfinished, or as a
/// violation that is gone the next time.
///
/// # Errors
/// If a database cannot be read.
pub async fn examine(products: &Database, orders: &Database) -> Result<Report, DbErr> {
    let mut report = Report {
        violations: products::violations(products).await?,
        unfinished: orders::unfinished(orders).await?,
        orders: 0,
        products: products::product_count(products).await?,
    };
    report.violations.extend(orders::violations(orders).await?);
    let mut after = String::new();
    loop {
        let page = orders::expected_stock_page(orders, &after, PAGE).await?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            break;
        };
        let found = products::reservations(products, &first.order_id, &last.order_id).await?;
        for order in &page {
            report.orders += 1;
            if let Some(detail) = disagreement(order, found.get(&order.order_id)) {
                report.violations.push(Violation {
                    rule: STOCK_AGREES,
                    subject: order.order_id.clone(),
                    detail,
                });
            }
        }
        after = last.order_id.clone();
    }
    let mut after = String::new();
    loop {
        let page = products::orders_holding_units(products, &after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = last.clone();
        let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
        let known = orders::existing_orders(orders, &ids).await?;
        let known: HashSet<String> = known.into_iter().collect();
        for (id, state) in page.iter().filter(|(id, _)| !known.contains(id)) {
            // A checkout that never became an order: its reservation will expire.
            if state == "RESERVED" {
                report.unfinished += 1;
                continue;
            }
            report.violations.push(Violation {
                rule: STOCK_AGREES,
                subject: id.clone(),
                detail: format!("{state} for an order that does not exist"),
            });
        }
    }
    Ok(report)
}

/// How an order's reservation differs from what its status requires.
fn disagreement(order: &ExpectedStock, reservation: Option<&Reservation>) -> Option<String> {
    if order.under_way {
        return None;
    }
    let state = reservation.map_or("nothing", |found| found.state.as_str());
    let wanted: &[&str] = match order.status.as_str() {
        "CANCELLED" => &["RELEASED", "nothing"],
        "REFUNDED" if !order.was_shipped => &["COMMITTED", "RELEASED"],
        _ => &["COMMITTED"],
    };
    if !wanted.contains(&state) {
        return Some(format!("{}, but {state}", order.status));
    }
    let holds = reservation.filter(|found| found.state == "COMMITTED")?;
    if holds.lines != order.lines {
        return Some("the units differ from the order's lines".to_owned());
    }
    (holds.restocked != order.restocked).then(|| "the restocked units do not match".to_owned())
}
