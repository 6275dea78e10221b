//! What is wrong with a change, as clients see it.

use async_graphql::{Enum, SimpleObject};

use crate::domain::{Problem, ProblemCode};

/// Why the catalogue refuses a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "ProblemCode")]
pub enum CatalogueErrorCode {
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

/// Why the catalogue refused a change.
#[derive(Debug, Clone, SimpleObject)]
pub struct CatalogueUserError {
    /// The path of the argument that is wrong.
    pub field: Option<Vec<String>>,
    pub code: CatalogueErrorCode,
    /// For developers, in English.
    pub message: String,
}

impl From<Problem> for CatalogueUserError {
    fn from(problem: Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code.into(),
            message: problem.message,
        }
    }
}
