//! Payment providers: who takes money and gives it back.

pub mod sandbox;
pub mod signature;
pub mod stripe;

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::HeaderMap;
use stoa_runtime::clock::Micros;
use stoa_schema::{Money, OrderId};

/// What a provider needs to know of a payment. The order's identifier, with
/// the verb, is the idempotency key of every call.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The name of the provider that it was begun with.
    pub provider: String,
    pub order_id: OrderId,
    pub method: String,
    pub amount: Money,
    /// The provider's name for it, once it has told that.
    pub reference: Option<String>,
    pub started_at: Micros,
}

/// What became of an authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorised {
    /// The amount is set aside for us.
    Yes { reference: String },
    /// Not decided: ask again.
    Pending { reference: String },
    /// It never will be.
    Declined { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captured {
    /// The money is ours.
    Yes,
    Declined {
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voided {
    /// Nothing was taken, and nothing will be.
    Yes,
    /// Too late: the money had come. It can only be returned.
    Captured,
}

/// The provider gave no answer: what was asked may have happened or not, and
/// is asked again under the same key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payment provider did not answer: {0}")]
pub struct NoAnswer(pub String);

/// What a provider tells by itself. It says only that there is something to
/// ask about: what holds is what the provider answers then, so that a webhook
/// that comes late, twice, or out of order changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The provider's name for the event.
    pub id: String,
    pub kind: String,
    pub order_id: Option<OrderId>,
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    #[error(transparent)]
    Signature(#[from] signature::BadSignature),
    #[error("the body is no event of this provider")]
    Body,
}

/// Takes and returns money. Each call may be repeated at any time, by several
/// at once, and answers each time what the first one did.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether it takes a method.
    ///
    /// # Errors
    /// What a method must be.
    fn check_method(&self, method: &str) -> Result<(), String>;

    /// Sets the amount aside.
    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoAnswer>;

    /// Takes the whole of what was set aside.
    async fn capture(&self, payment: &Payment) -> Result<Captured, NoAnswer>;

    /// Calls a payment off, also one that it has not heard of: an authorisation
    /// that arrives later is declined.
    async fn void(&self, payment: &Payment) -> Result<Voided, NoAnswer>;

    /// Returns part of what was captured, once for each key.
    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoAnswer>;

    /// Reads a webhook, if it is really the provider's.
    ///
    /// # Errors
    /// If it is not signed, or cannot be read.
    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadEvent>;
}

/// Lets orders pass that cost nothing: no provider takes or returns no money.
pub struct FreeOrders(pub Arc<dyn PaymentProvider>);

#[async_trait]
impl PaymentProvider for FreeOrders {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        self.0.check_method(method)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoAnswer> {
        if payment.amount.amount_minor == 0 {
            let reference = format!("free_{}", payment.order_id);
            return Ok(Authorised::Yes { reference });
        }
        self.0.authorise(payment).await
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoAnswer> {
        if payment.amount.amount_minor == 0 {
            return Ok(Captured::Yes);
        }
        self.0.capture(payment).await
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoAnswer> {
        if payment.amount.amount_minor == 0 {
            return Ok(Voided::Yes);
        }
        self.0.void(payment).await
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoAnswer> {
        if amount.amount_minor == 0 {
            return Ok(());
        }
        self.0.refund(payment, amount, key).await
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadEvent> {
        self.0.event(headers, body)
    }
}
