//! Payment providers.

use std::time::Duration;

use async_trait::async_trait;
use stoa_kit::clock::{Micros, micros};
use stoa_schema::{Money, OrderId};

/// What a provider needs to know of a payment. The order's identifier is the
/// idempotency key of every call.
#[derive(Debug, Clone)]
pub struct Payment {
    pub order_id: OrderId,
    pub method: String,
    pub amount: Money,
    pub started_at: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Ask again later.
    Pending,
    /// The money is ours.
    Captured,
    Declined,
}

/// Takes and returns money. Calls may be repeated at any time.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    fn name(&self) -> &'static str;

    fn takes(&self, method: &str) -> bool;

    /// What has become of a payment.
    async fn outcome(&self, payment: &Payment, now: Micros) -> Result<Outcome, String>;

    /// Calls off a payment that was not captured.
    async fn void(&self, payment: &Payment) -> Result<(), String>;

    /// Returns all of a captured payment.
    async fn refund(&self, payment: &Payment) -> Result<(), String>;
}

/// The embedded provider: decides by the method's name, after a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox;

pub const APPROVE: &str = "sandbox_approve";
pub const DECLINE: &str = "sandbox_decline";
const DELAY: Duration = Duration::from_millis(600);

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn takes(&self, method: &str) -> bool {
        matches!(method, APPROVE | DECLINE)
    }

    async fn outcome(&self, payment: &Payment, now: Micros) -> Result<Outcome, String> {
        if now < payment.started_at + micros(DELAY) {
            return Ok(Outcome::Pending);
        }
        Ok(if payment.method == APPROVE {
            Outcome::Captured
        } else {
            Outcome::Declined
        })
    }

    async fn void(&self, _payment: &Payment) -> Result<(), String> {
        Ok(())
    }

    async fn refund(&self, _payment: &Payment) -> Result<(), String> {
        Ok(())
    }
}
