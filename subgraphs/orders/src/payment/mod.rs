//! Payment providers: the trait, and its implementations.

pub mod sandbox;
pub mod signature;
pub mod stripe;

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::HeaderMap;
use stoa_schema::Money;

use crate::domain::{Payment, PaymentEvent};

/// The outcome of an authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorised {
    /// The amount is authorised.
    Approved { reference: String },
    /// Not decided yet: ask again.
    Pending { reference: String },
    /// It is refused for good.
    Declined { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captured {
    /// The money is captured.
    Done,
    Declined {
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voided {
    /// Nothing was captured, and nothing will be.
    Done,
    /// Too late: the money was already captured. It can only be refunded.
    Captured,
}

/// The provider gave no usable response: the operation may or may not have
/// happened, and is retried with the same key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payment provider did not respond: {0}")]
pub struct NoResponse(pub String);

/// Why a webhook is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    #[error(transparent)]
    Signature(#[from] signature::BadSignature),
    #[error("the body is not an event of this provider")]
    Body,
}

/// Takes and returns money. Each call is idempotent: it may be repeated at any
/// time, also concurrently, and reports the outcome of the first one.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether it can finish a payment: one that was started with it.
    fn handles(&self, payment: &Payment) -> bool {
        payment.provider == self.name()
    }

    /// Checks that the provider accepts a payment method.
    ///
    /// # Errors
    /// What a method must look like.
    fn check_method(&self, method: &str) -> Result<(), String>;

    /// Authorises the amount.
    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse>;

    /// Captures the whole authorised amount.
    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse>;

    /// Voids a payment, even one that the provider does not know: an authorisation
    /// that arrives later is declined.
    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse>;

    /// Returns part of what was captured, once for each key.
    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse>;

    /// Verifies and reads a webhook.
    ///
    /// # Errors
    /// If its signature is missing or wrong, or it cannot be read.
    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<PaymentEvent, BadEvent>;
}

/// Handles orders that cost nothing without calling the provider.
pub struct FreeOrderProvider(pub Arc<dyn PaymentProvider>);

#[async_trait]
impl PaymentProvider for FreeOrderProvider {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn handles(&self, payment: &Payment) -> bool {
        payment.is_free() || self.0.handles(payment)
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        self.0.check_method(method)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse> {
        if payment.is_free() {
            let reference = format!("free_{}", payment.order_id);
            return Ok(Authorised::Approved { reference });
        }
        self.0.authorise(payment).await
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse> {
        if payment.is_free() {
            return Ok(Captured::Done);
        }
        self.0.capture(payment).await
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse> {
        if payment.is_free() {
            return Ok(Voided::Done);
        }
        self.0.void(payment).await
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse> {
        if amount.amount_minor == 0 {
            return Ok(());
        }
        self.0.refund(payment, amount, key).await
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<PaymentEvent, BadEvent> {
        self.0.event(headers, body)
    }
}
