//! The rules of the catalogue and of stock: pure decisions about values, without
//! I/O.

mod category;
mod product;
mod stock;

pub use category::{Category, check_category, descendants};
pub use product::{
    MAX_SKU, NewProduct, Product, ProductChange, ProductFilter, ProductKey, ProductSort,
    product_snapshot, search_words,
};
pub use stock::{Adjustment, RESERVATION_TTL, Reservation, ReservationState, merge_by_product};

use stoa_service::problem::IdempotencyCodes;

/// What is wrong with a client's input.
pub type Problem = stoa_service::problem::Problem<ProblemCode>;

/// Why the catalogue refuses a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProblemCode {
    /// A value is missing, too long, out of range or malformed.
    Invalid,
    /// There is no such product or category.
    NotFound,
    /// Another product has this SKU.
    SkuTaken,
    /// There are fewer units in stock than are to be removed.
    InsufficientStock,
    /// The category still contains products or categories.
    CategoryInUse,
    /// A category cannot be below itself, nor more than six levels deep.
    CategoryCycle,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// A request with this idempotency key is still running.
    InProgress,
}

impl IdempotencyCodes for ProblemCode {
    const INVALID: Self = Self::Invalid;
    const IN_PROGRESS: Self = Self::InProgress;
    const REUSED: Self = Self::IdempotencyKeyReused;
}

/// What is wrong with a text, if anything: its length, or control characters.
fn text_problem(field: &str, text: &str, min: usize, max: usize) -> Option<Problem> {
    let length = text.trim().chars().count();
    if (min..=max).contains(&length) && !text.chars().any(|c| c.is_control() && c != '\n') {
        return None;
    }
    Some(Problem::new(
        &["input", field],
        ProblemCode::Invalid,
        format!("must have between {min} and {max} characters, none of them control characters"),
    ))
}
