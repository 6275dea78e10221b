//! Stock: adjustments by hand, and reservations for orders.

use std::time::Duration;

use serde::Serialize;
use stoa_runtime::clock::Micros;
use stoa_schema::peer::{ProductSnapshot, ReserveOutcome, StockLine};
use strum::{EnumString, IntoStaticStr};

use super::product::MAX_STOCK;
use super::{Problem, ProblemCode, text_problem};

const MAX_REASON: usize = 500;
/// How long units stay reserved for an unpaid order.
pub const RESERVATION_TTL: Duration = Duration::from_secs(15 * 60);

/// A manual change of stock.
#[derive(Debug, Clone, Serialize)]
pub struct Adjustment {
    pub product_id: String,
    pub delta: i64,
    pub reason: String,
}

impl Adjustment {
    /// All validation errors.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.delta == 0 || self.delta.abs() > MAX_STOCK {
            problems.push(Problem::new(
                &["input", "delta"],
                ProblemCode::Invalid,
                format!("must not be 0, nor more than {MAX_STOCK} in either direction"),
            ));
        }
        problems.extend(text_problem("reason", &self.reason, 1, MAX_REASON));
        problems
    }
}

/// The state of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum ReservationState {
    Reserved,
    Committed,
    Released,
}

#[derive(Debug, Clone)]
pub struct Reservation {
    pub state: ReservationState,
    pub products: Vec<ProductSnapshot>,
    pub expires_at: Micros,
}

impl Reservation {
    /// The response to its order's request, the same on every repeat.
    pub fn into_response(self) -> ReserveOutcome {
        match self.state {
            ReservationState::Released => ReserveOutcome::Released,
            ReservationState::Reserved | ReservationState::Committed => ReserveOutcome::Ok {
                products: self.products,
            },
        }
    }
}

/// Merges the lines into one per product, sorted by product.
pub fn merge_by_product(lines: &[StockLine]) -> Vec<StockLine> {
    let mut summed: Vec<StockLine> = Vec::new();
    let mut sorted = lines.to_vec();
    sorted.sort_by(|a, b| a.product_id.cmp(&b.product_id));
    for line in sorted {
        match summed.last_mut() {
            Some(last) if last.product_id == line.product_id => {
                last.quantity = last.quantity.saturating_add(line.quantity);
            }
            _ => summed.push(line),
        }
    }
    summed
}
