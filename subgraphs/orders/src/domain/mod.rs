//! The rules of ordering: pure decisions about values, without I/O.

mod cart;
mod discount;
mod fulfilment;
mod order;
mod payment;
mod price;
mod problem;
mod request;

pub use cart::{
    Cart, CartLine, CartRef, CheckoutRequest, Warning, WarningCode, cart_changed_problem,
    check_quantity,
};
pub use discount::{Discount, NewDiscount, normalize_code, unknown_discount};
pub use fulfilment::{
    LineQuantity, LineState, Refund, RefundLine, RefundLineRequest, RefundPlan, RefundRequest,
    Shipment, check_fulfilment_limits, plan_refund, plan_shipment, refund_rest,
};
#[cfg(test)]
pub(crate) use order::tests;
pub use order::{
    Actor, Change, Line, Order, OrderFilter, Parts, check_move, next_statuses, transition,
};
pub use payment::{
    DuePayment, DueStock, DueWindow, Movement, NewPayment, Payment, PaymentEvent, PaymentState,
    PaymentTask, STUCK_AFTER, StockTask,
};
pub use price::{Code, DiscountKind, Priced, Rates, ShippingRate, TableRates, price_order};
pub use problem::{Problem, ProblemCode};
pub use request::{Request, RequestLine};
pub use stoa_schema::address::Address;

/// The most lines that one order may have.
pub const MAX_LINES: usize = 50;
/// The most units of one product in one order.
pub const MAX_QUANTITY: u32 = 1_000;
pub const MAX_REASON: usize = 500;
