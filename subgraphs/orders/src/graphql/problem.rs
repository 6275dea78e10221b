//! What is wrong with a request, as clients see it.

use async_graphql::{Enum, SimpleObject};

use crate::domain::{Problem, ProblemCode};

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "ProblemCode")]
pub enum OrderErrorCode {
    /// A value is missing, too long, out of range or malformed.
    Invalid,
    /// There is no such order.
    NotFound,
    /// An order needs at least one line.
    EmptyOrder,
    /// There is no such product, or it is not for sale.
    ProductUnavailable,
    /// Fewer units are available than were requested.
    InsufficientStock,
    /// The products of an order must all have the same currency.
    MixedCurrencies,
    /// The shop does not accept this payment method.
    UnknownPaymentMethod,
    /// The order's state does not allow the change.
    IllegalStatus,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// A request with this idempotency key is still running.
    InProgress,
    /// The first attempt with this idempotency key was abandoned; its reservation is gone.
    AttemptExpired,
    /// More units than are left to be shipped or refunded.
    TooManyUnits,
    /// There is no such discount code, or it is switched off.
    DiscountUnknown,
    /// The discount code does not apply to this order, or not at this time.
    DiscountNotApplicable,
    /// The discount code has reached its usage limit.
    DiscountExhausted,
    /// Another discount already has this code.
    DiscountCodeTaken,
    /// There is no such cart, or it belongs to another user.
    CartNotFound,
    /// The cart has been changed since: its version is not the given one.
    CartChanged,
    /// The price of a product has changed since it was added to the cart.
    PriceChanged,
}

/// Why a request was refused.
#[derive(Debug, Clone, SimpleObject)]
pub struct OrderUserError {
    /// The path of the argument that is wrong.
    pub field: Option<Vec<String>>,
    pub code: OrderErrorCode,
    /// For developers, in English.
    pub message: String,
}

impl From<Problem> for OrderUserError {
    fn from(problem: Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code.into(),
            message: problem.message,
        }
    }
}
