//! Dependencies of orders with injected faults: a payment provider and a products
//! service whose calls, or whose responses, are lost when a test says so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::http::HeaderMap;
use serde_json::Value;
use stoa_orders::domain::{Payment, PaymentEvent};
use stoa_orders::payment::sandbox::Sandbox;
use stoa_orders::payment::{Authorised, BadEvent, Captured, NoResponse, PaymentProvider, Voided};
use stoa_schema::Money;
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler};
use tokio::sync::Notify;

/// The injected fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// The call is not made, and the caller gets an error.
    Unavailable,
    /// The call is made, but the response is lost.
    Lost,
    /// The caller crashes before the call is made.
    CrashBefore,
    /// The caller crashes after the call is made, before it gets the response.
    CrashAfter,
}

/// The queue of faults, each due after a number of calls.
#[derive(Clone, Default)]
pub struct Faults {
    next: Arc<Mutex<VecDeque<(usize, InjectedFault)>>>,
    /// Signals that the caller must crash now.
    pub crash: Arc<Notify>,
}

impl Faults {
    pub fn arm(&self, skip: usize, how: InjectedFault) {
        self.next
            .lock()
            .expect("not poisoned")
            .push_back((skip, how));
    }

    pub fn clear(&self) {
        self.next.lock().expect("not poisoned").clear();
    }

    fn take(&self) -> Option<InjectedFault> {
        let mut next = self.next.lock().expect("not poisoned");
        let (skip, _) = next.front_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        next.pop_front().map(|(_, how)| how)
    }

    /// Makes a call, or injects the fault that is due.
    async fn call<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        unavailable: E,
    ) -> Result<T, E> {
        let how = self.take();
        if how == Some(InjectedFault::CrashBefore) {
            self.end().await;
        }
        if how == Some(InjectedFault::Unavailable) {
            return Err(unavailable);
        }
        let done = work.await;
        match how {
            Some(InjectedFault::CrashAfter) => self.end().await,
            Some(InjectedFault::Lost) => return Err(unavailable),
            _ => {}
        }
        done
    }

    /// Simulates a crash: the task that awaits the response is dropped by the test.
    async fn end(&self) {
        // `notify_one` would store a permit: if two calls crash one caller at once, the
        // second would crash the next caller too.
        self.crash.notify_waiters();
        std::future::pending::<()>().await;
    }
}

pub struct FaultyPeer {
    pub inner: Arc<dyn PeerHandler>,
    pub faults: Faults,
}

#[async_trait]
impl PeerHandler for FaultyPeer {
    async fn call(
        &self,
        context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        let unavailable = PeerError::Unreachable {
            service: "products".to_owned(),
            cause: "a test".to_owned(),
        };
        let work = self.inner.call(context, method, message);
        self.faults.call(work, unavailable).await
    }
}

pub struct FaultyProvider {
    pub inner: Sandbox,
    pub faults: Faults,
}

fn unavailable() -> NoResponse {
    NoResponse("a test".to_owned())
}

#[async_trait]
impl PaymentProvider for FaultyProvider {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        self.inner.check_method(method)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse> {
        self.faults
            .call(self.inner.authorise(payment), unavailable())
            .await
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse> {
        self.faults
            .call(self.inner.capture(payment), unavailable())
            .await
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse> {
        self.faults
            .call(self.inner.void(payment), unavailable())
            .await
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse> {
        let work = self.inner.refund(payment, amount, key);
        self.faults.call(work, unavailable()).await
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<PaymentEvent, BadEvent> {
        self.inner.event(headers, body)
    }
}
