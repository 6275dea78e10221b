//! Neighbours that fail when a test says so: a provider and a products service
//! that do what they are asked, or not, and answer, or not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::http::HeaderMap;
use serde_json::Value;
use stoa_orders::payment::sandbox::Sandbox;
use stoa_orders::payment::{
    Authorised, BadEvent, Captured, Event, NoAnswer, Payment, PaymentProvider, Voided,
};
use stoa_schema::Money;
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler};
use tokio::sync::Notify;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is not done, and the caller is told so.
    Away,
    /// It is done, but the answer is lost.
    Lost,
    /// The caller ends before it is done.
    CrashBefore,
    /// The caller ends after it is done, before it knows.
    CrashAfter,
}

/// The faults to come, each after so many calls.
#[derive(Clone, Default)]
pub struct Faults {
    next: Arc<Mutex<VecDeque<(usize, How)>>>,
    /// The caller is to end now.
    pub crash: Arc<Notify>,
}

impl Faults {
    pub fn arm(&self, skip: usize, how: How) {
        self.next
            .lock()
            .expect("not poisoned")
            .push_back((skip, how));
    }

    pub fn clear(&self) {
        self.next.lock().expect("not poisoned").clear();
    }

    fn take(&self) -> Option<How> {
        let mut next = self.next.lock().expect("not poisoned");
        let (skip, _) = next.front_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        next.pop_front().map(|(_, how)| how)
    }

    /// Does a call, or fails as it is time to.
    async fn call<T, E>(&self, work: impl Future<Output = Result<T, E>>, away: E) -> Result<T, E> {
        let how = self.take();
        if how == Some(How::CrashBefore) {
            self.end().await;
        }
        if how == Some(How::Away) {
            return Err(away);
        }
        let done = work.await;
        match how {
            Some(How::CrashAfter) => self.end().await,
            Some(How::Lost) => return Err(away),
            _ => {}
        }
        done
    }

    /// Whoever waits for the answer is dropped instead.
    async fn end(&self) {
        // Nothing is kept for later: of two calls that end one caller at once,
        // the second would end the next caller.
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
        let away = PeerError::Unreachable {
            service: "products".to_owned(),
            cause: "a test".to_owned(),
        };
        let work = self.inner.call(context, method, message);
        self.faults.call(work, away).await
    }
}

pub struct FaultyProvider {
    pub inner: Sandbox,
    pub faults: Faults,
}

fn away() -> NoAnswer {
    NoAnswer("a test".to_owned())
}

#[async_trait]
impl PaymentProvider for FaultyProvider {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        self.inner.check_method(method)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoAnswer> {
        self.faults
            .call(self.inner.authorise(payment), away())
            .await
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoAnswer> {
        self.faults.call(self.inner.capture(payment), away()).await
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoAnswer> {
        self.faults.call(self.inner.void(payment), away()).await
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoAnswer> {
        let work = self.inner.refund(payment, amount, key);
        self.faults.call(work, away()).await
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadEvent> {
        self.inner.event(headers, body)
    }
}
