//! The embedded payment provider. It moves no money: it decides by the payment
//! method's name. Like an external provider it keeps its own
//! records, in the orders database but in separate transactions, and reports its
//! decisions by webhook ([`webhook`]).

pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use sea_orm::{ConnectionTrait, DbErr, Statement, Value};
use secrecy::ExposeSecret;
use stoa_runtime::clock::{Clock, micros};
use stoa_schema::Money;
use stoa_service::database::Database;
use stoa_service::fault_injection;
use tokio::sync::Notify;

use super::{
    Authorised, BadEvent, Captured, NoResponse, Payment, PaymentEvent, PaymentProvider, Voided,
    signature,
};
use webhook::{CAPTURED, Callback, DECIDED};

/// Authorised after a moment, then captured.
pub const APPROVE: &str = "sandbox_approve";
/// Declined after a moment.
pub const DECLINE: &str = "sandbox_decline";
/// Authorised, but the capture is declined.
pub const DECLINE_CAPTURE: &str = "sandbox_decline_capture";
/// Authorised after five seconds.
pub const SLOW: &str = "sandbox_slow";
/// Captured, but the response to the first capture is lost.
pub const TIMEOUT: &str = "sandbox_timeout";
/// Authorised at once; the webhook arrives before the response.
pub const WEBHOOK_FIRST: &str = "sandbox_webhook_first";
/// Each webhook is sent three times.
pub const WEBHOOK_THRICE: &str = "sandbox_webhook_thrice";
/// The webhook of the authorisation is sent after that of the capture.
pub const WEBHOOK_DISORDER: &str = "sandbox_webhook_disorder";

const METHODS: &[&str] = &[
    APPROVE,
    DECLINE,
    DECLINE_CAPTURE,
    SLOW,
    TIMEOUT,
    WEBHOOK_FIRST,
    WEBHOOK_THRICE,
    WEBHOOK_DISORDER,
];
const DECISION_DELAY: Duration = Duration::from_millis(600);
const SLOW_DELAY: Duration = Duration::from_secs(5);
/// How late the out-of-order webhook is sent.
const OUT_OF_ORDER_DELAY: Duration = Duration::from_secs(3);
/// How late the response is sent, so that its webhook arrives before.
const RESPONSE_DELAY: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub struct Sandbox {
    database: Database,
    clock: Clock,
    /// Where webhooks are sent, if anywhere.
    callback: Option<Callback>,
    /// Wakes the webhook sender.
    webhooks_changed: Arc<Notify>,
}

/// The sandbox's record of a payment.
struct Entry {
    state: String,
    captured: i64,
    refunded: i64,
    /// How many times the capture was requested.
    asked: i64,
    /// Whether this call has created it.
    is_new: bool,
}

impl Sandbox {
    pub fn new(database: Database, clock: Clock, callback: Option<Callback>) -> Self {
        Self {
            database,
            clock,
            callback,
            webhooks_changed: Arc::default(),
        }
    }

    async fn run<C: ConnectionTrait>(
        txn: &C,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DbErr> {
        let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
        Ok(txn.execute_raw(statement).await?.rows_affected())
    }

    /// The record of a payment, created if there is none, and locked.
    async fn entry<C: ConnectionTrait>(
        &self,
        txn: &C,
        payment: &Payment,
        state: &str,
    ) -> Result<Entry, DbErr> {
        let reference = reference(payment);
        let inserted = Self::run(
            txn,
            "INSERT INTO sandbox_payment (reference, state, amount_minor, captured_minor, refunded_minor, asked, created_at) VALUES ($1, $2, $3, 0, 0, 0, $4) ON CONFLICT (reference) DO NOTHING",
            [
                reference.clone().into(),
                state.into(),
                payment.amount.amount_minor.into(),
                self.clock.now().into(),
            ],
        )
        .await?;
        // An update that changes nothing locks the row on both databases.
        let row = txn
            .query_one_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "UPDATE sandbox_payment SET reference = reference WHERE reference = $1 RETURNING state, captured_minor, refunded_minor, asked",
                [reference.into()],
            ))
            .await?
            .ok_or_else(|| DbErr::RecordNotFound("sandbox_payment".to_owned()))?;
        Ok(Entry {
            state: row.try_get("", "state")?,
            captured: row.try_get("", "captured_minor")?,
            refunded: row.try_get("", "refunded_minor")?,
            asked: row.try_get("", "asked")?,
            is_new: inserted == 1,
        })
    }

    async fn set_state<C: ConnectionTrait>(
        txn: &C,
        payment: &Payment,
        state: &str,
    ) -> Result<(), DbErr> {
        Self::run(
            txn,
            "UPDATE sandbox_payment SET state = $2 WHERE reference = $1",
            [reference(payment).into(), state.into()],
        )
        .await?;
        Ok(())
    }

    async fn try_authorise(&self, payment: &Payment) -> Result<(Authorised, Entry), DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "PENDING").await?;
        let reference = reference(payment);
        let decided_at = payment.started_at + micros(decision_delay(&payment.method));
        if entry.is_new {
            let send_at = match payment.method.as_str() {
                WEBHOOK_DISORDER => decided_at + micros(OUT_OF_ORDER_DELAY),
                _ => decided_at,
            };
            self.schedule_webhook(&txn, payment, DECIDED, send_at)
                .await?;
        }
        // With a clock that was set back it decides at once, rather than wait longer.
        let is_deciding = (payment.started_at..decided_at).contains(&self.clock.now());
        let authorised = match entry.state.as_str() {
            "PENDING" if is_deciding => Authorised::Pending { reference },
            "PENDING" if Self::decide(&txn, &reference, &payment.method).await? == "DECLINED" => {
                declined()
            }
            "PENDING" | "AUTHORISED" | "CAPTURED" => Authorised::Approved { reference },
            _ => declined(),
        };
        txn.commit().await?;
        Ok((authorised, entry))
    }

    /// Decides a pending payment by its method; returns the decision.
    async fn decide<C: ConnectionTrait>(
        txn: &C,
        reference: &str,
        method: &str,
    ) -> Result<&'static str, DbErr> {
        let state = match method {
            DECLINE => "DECLINED",
            _ => "AUTHORISED",
        };
        Self::run(
            txn,
            "UPDATE sandbox_payment SET state = $2 WHERE reference = $1 AND state = 'PENDING'",
            [reference.into(), state.into()],
        )
        .await?;
        Ok(state)
    }

    async fn try_capture(&self, payment: &Payment) -> Result<(Captured, Entry), DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "PENDING").await?;
        let captured = match entry.state.as_str() {
            "CAPTURED" => Captured::Done,
            "AUTHORISED" if payment.method != DECLINE_CAPTURE => {
                Self::run(
                    &txn,
                    "UPDATE sandbox_payment SET state = 'CAPTURED', captured_minor = amount_minor WHERE reference = $1",
                    [reference(payment).into()],
                )
                .await?;
                if payment.method == WEBHOOK_DISORDER {
                    let now = self.clock.now();
                    self.schedule_webhook(&txn, payment, CAPTURED, now).await?;
                }
                Captured::Done
            }
            _ => Captured::Declined {
                reason: "the sandbox declines this capture".to_owned(),
            },
        };
        Self::run(
            &txn,
            "UPDATE sandbox_payment SET asked = asked + 1 WHERE reference = $1",
            [reference(payment).into()],
        )
        .await?;
        txn.commit().await?;
        Ok((captured, entry))
    }

    async fn try_void(&self, payment: &Payment) -> Result<Voided, DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "VOIDED").await?;
        if entry.captured > 0 {
            return Ok(Voided::Captured);
        }
        if entry.state != "DECLINED" {
            Self::set_state(&txn, payment, "VOIDED").await?;
        }
        txn.commit().await?;
        Ok(Voided::Done)
    }

    async fn try_refund(&self, payment: &Payment, amount: i64, key: &str) -> Result<(), DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "PENDING").await?;
        let new = Self::run(
            &txn,
            "INSERT INTO sandbox_refund (key) VALUES ($1) ON CONFLICT (key) DO NOTHING",
            [key.into()],
        )
        .await?;
        if new == 0 {
            return Ok(());
        }
        if entry.refunded + amount > entry.captured {
            return Err(DbErr::Custom("more than was captured".to_owned()));
        }
        Self::run(
            &txn,
            "UPDATE sandbox_payment SET refunded_minor = refunded_minor + $2 WHERE reference = $1",
            [reference(payment).into(), amount.into()],
        )
        .await?;
        txn.commit().await
    }
}

fn reference(payment: &Payment) -> String {
    format!("sandbox_{}", payment.order_id)
}

/// How long the sandbox takes to decide.
fn decision_delay(method: &str) -> Duration {
    match method {
        SLOW => SLOW_DELAY,
        WEBHOOK_FIRST => Duration::ZERO,
        _ => DECISION_DELAY,
    }
}

fn declined() -> Authorised {
    Authorised::Declined {
        reason: "the payment was declined".to_owned(),
    }
}

/// Runs an operation; database errors and injected faults count as no response.
async fn with_injected_faults<T>(
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, NoResponse> {
    let work = async { work.await.map_err(|error| NoResponse(error.to_string())) };
    fault_injection::call_with_faults(work, || NoResponse(fault_injection::REASON.to_owned())).await
}

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        let known = METHODS.contains(&method).then_some(());
        known.ok_or_else(|| format!("must be one of {}", METHODS.join(", ")))
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse> {
        let (authorised, before) = with_injected_faults(self.try_authorise(payment)).await?;
        self.webhooks_changed.notify_one();
        if before.is_new && payment.method == WEBHOOK_FIRST {
            tokio::time::sleep(RESPONSE_DELAY).await;
        }
        Ok(authorised)
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse> {
        let (captured, before) = with_injected_faults(self.try_capture(payment)).await?;
        self.webhooks_changed.notify_one();
        if payment.method == TIMEOUT && before.asked == 0 {
            return Err(NoResponse("the sandbox lost this response".to_owned()));
        }
        Ok(captured)
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse> {
        with_injected_faults(self.try_void(payment)).await
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse> {
        let amount = amount.amount_minor;
        with_injected_faults(self.try_refund(payment, amount, key)).await
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<PaymentEvent, BadEvent> {
        let secret = self.callback.as_ref().map(|callback| &callback.secret);
        let header = headers.get(webhook::SIGNATURE);
        let header = header.and_then(|value| value.to_str().ok());
        let (Some(secret), Some(header)) = (secret, header) else {
            return Err(signature::BadSignature::Malformed.into());
        };
        signature::verify(secret.expose_secret(), header, body, self.clock.now())?;
        webhook::parse_body(body).ok_or(BadEvent::Body)
    }
}
