//! What can be wrong with a client's request.

use serde::{Deserialize, Serialize};
use stoa_service::problem::IdempotencyCodes;

/// A problem with a client's input.
pub type Problem = stoa_service::problem::Problem<ProblemCode>;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProblemCode {
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

impl IdempotencyCodes for ProblemCode {
    const INVALID: Self = Self::Invalid;
    const IN_PROGRESS: Self = Self::InProgress;
    const REUSED: Self = Self::IdempotencyKeyReused;
}
