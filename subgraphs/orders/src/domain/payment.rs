//! Payments, and the tasks that are still to be done for an order outside its own
//! database.

use std::time::Duration;

use stoa_runtime::clock::Micros;
use stoa_schema::{Money, OrderId};
use strum::{EnumString, IntoStaticStr};

/// A step that takes longer than this is stuck and needs attention.
pub const STUCK_AFTER: Duration = Duration::from_secs(10 * 60);

/// What the products service still has to do for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum StockTask {
    Release,
    Return,
}

/// The next step of an order's saga, or `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum PaymentTask {
    None,
    Authorise,
    Commit,
    Capture,
    Void,
    Refund,
}

/// The state of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum PaymentState {
    Pending,
    Authorised,
    Captured,
    Declined,
    Voided,
    Refunded,
}

/// What a provider needs to know about a payment. The order's ID and the operation
/// together are the idempotency key of a call.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The name of the provider that the payment was started with.
    pub provider: String,
    pub order_id: OrderId,
    pub method: String,
    pub amount: Money,
    /// The provider's ID of the payment, once it is known.
    pub reference: Option<String>,
    pub started_at: Micros,
}

impl Payment {
    /// An order that costs nothing needs no provider.
    pub fn is_free(&self) -> bool {
        self.amount.amount_minor == 0
    }
}

/// The payment of a new order: its first step is the authorisation.
#[derive(Debug, Clone)]
pub struct NewPayment {
    pub provider: String,
    pub method: String,
    /// When the authorisation is due.
    pub due_at: Micros,
}

/// A webhook event from a provider. It only triggers a query: what counts is the
/// state that the provider then reports, so that a webhook that comes late, twice
/// or out of order changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's ID of the event.
    pub id: String,
    pub kind: String,
    pub order_id: Option<OrderId>,
}

/// A payment, and its saga's next step.
#[derive(Debug, Clone)]
pub struct DuePayment {
    pub payment: Payment,
    pub task: PaymentTask,
    pub state: PaymentState,
    /// Failed attempts of this step.
    pub attempts: i64,
    pub captured: i64,
    pub last_error: Option<String>,
    /// When this step began.
    pub since: Micros,
    pub due_at: Option<Micros>,
}

/// A stock task: units that the products service has to take back.
#[derive(Debug, Clone)]
pub struct DueStock {
    /// The ID of the order, or of the refund whose units go back.
    pub id: String,
    pub order_id: OrderId,
    pub task: StockTask,
    /// Failed attempts so far.
    pub attempts: i64,
    pub last_error: Option<String>,
    pub since: Micros,
    pub due_at: Micros,
}

/// Decides whether a step is due: if its time has come, or lies beyond the horizon.
/// No step is postponed that far, so such a time was written with a clock ahead.
#[derive(Debug, Clone, Copy)]
pub struct DueWindow {
    pub now: Micros,
    pub horizon: Micros,
}

/// A movement of money: captured or refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum Movement {
    Capture,
    Refund,
}

impl DueWindow {
    pub fn contains(self, due_at: Micros) -> bool {
        due_at <= self.now || due_at > self.horizon
    }
}

impl DuePayment {
    pub fn is_due(&self, when: DueWindow) -> bool {
        self.task != PaymentTask::None && self.due_at.is_some_and(|at| when.contains(at))
    }
}
