//! The sandbox's webhooks: signed, sent over HTTP, and retried until they are
//! accepted, like those of an external provider.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::redirect::Policy;
use sea_orm::{ConnectionTrait, DbErr, Statement};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use stoa_runtime::backoff::backoff_delay;
use stoa_runtime::clock::{Micros, micros};
use stoa_schema::OrderId;

use super::{Payment, Sandbox, WEBHOOK_THRICE, reference};
use crate::payment::{PaymentEvent, signature};

/// The header that holds the signature.
pub const SIGNATURE: &str = "stoa-signature";
/// The payment was authorised or declined.
pub(super) const DECIDED: &str = "payment.decided";
/// The money was captured.
pub(super) const CAPTURED: &str = "payment.captured";

const TIMEOUT: Duration = Duration::from_secs(5);
/// After this many attempts a webhook is dropped.
const MAX_ATTEMPTS: i64 = 10;
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(1);
const BATCH: u64 = 100;
const MAX_CONCURRENT: usize = 8;

/// Where webhooks are sent, and the secret that signs them.
#[derive(Clone)]
pub struct Callback {
    client: reqwest::Client,
    url: String,
    pub(super) secret: SecretString,
}

impl Callback {
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(base: &str, secret: SecretString) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            client,
            url: format!("{base}{}", crate::webhook::path("sandbox")),
            secret,
        })
    }
}

/// The body of a webhook.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    reference: String,
}

/// Reads a webhook's body.
pub(super) fn parse_body(body: &[u8]) -> Option<PaymentEvent> {
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(PaymentEvent {
        order_id: body
            .reference
            .strip_prefix("sandbox_")
            .and_then(OrderId::parse),
        id: body.id,
        kind: body.kind,
    })
}

/// A webhook that is due.
struct DueWebhook {
    event_id: String,
    copy: i64,
    kind: String,
    reference: String,
    method: String,
    attempts: i64,
}

impl Sandbox {
    /// Schedules a webhook about a payment.
    pub(super) async fn schedule_webhook<C: ConnectionTrait>(
        &self,
        txn: &C,
        payment: &Payment,
        kind: &str,
        at: Micros,
    ) -> Result<(), DbErr> {
        if self.callback.is_none() {
            return Ok(());
        }
        let reference = reference(payment);
        let copies = match payment.method.as_str() {
            WEBHOOK_THRICE => 3,
            _ => 1,
        };
        for copy in 0..copies {
            Self::run(
                txn,
                "INSERT INTO sandbox_webhook (event_id, copy, kind, reference, method, due_at, attempts) VALUES ($1, $2, $3, $4, $5, $6, 0)",
                [
                    format!("{reference}:{kind}").into(),
                    i64::from(copy).into(),
                    kind.into(),
                    reference.clone().into(),
                    payment.method.clone().into(),
                    at.into(),
                ],
            )
            .await?;
        }
        Ok(())
    }

    /// Sends due webhooks until the process ends.
    pub async fn run_webhooks(self) {
        loop {
            let pause = match self.send_due_webhooks().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "the sandbox's webhooks failed and will be retried");
                    IDLE
                }
            };
            let _ = tokio::time::timeout(pause, self.webhooks_changed.notified()).await;
        }
    }

    /// Sends due webhooks; returns how long until the next one is due.
    async fn send_due_webhooks(&self) -> Result<Duration, DbErr> {
        let Some(callback) = &self.callback else {
            return Ok(IDLE);
        };
        let now = self.clock.now();
        let db = self.database.read();
        // No retry is scheduled beyond the horizon: such a row was written with a clock ahead.
        let horizon = now + micros(MAX_RETRY_DELAY);
        let rows = db
            .query_all_raw(Statement::from_sql_and_values(
                db.get_database_backend(),
                format!("SELECT event_id, copy, kind, reference, method, attempts FROM sandbox_webhook WHERE due_at <= $1 OR due_at > $2 ORDER BY due_at LIMIT {BATCH}"),
                [now.into(), horizon.into()],
            ))
            .await?;
        let sent: Vec<Result<(), DbErr>> = stream::iter(rows)
            .map(async |row| {
                let due = DueWebhook {
                    event_id: row.try_get("", "event_id")?,
                    copy: row.try_get("", "copy")?,
                    kind: row.try_get("", "kind")?,
                    reference: row.try_get("", "reference")?,
                    method: row.try_get("", "method")?,
                    attempts: row.try_get("", "attempts")?,
                };
                self.send_webhook(callback, &due).await
            })
            .buffer_unordered(MAX_CONCURRENT)
            .collect()
            .await;
        sent.into_iter().collect::<Result<(), DbErr>>()?;
        let next = db
            .query_one_raw(Statement::from_string(
                db.get_database_backend(),
                "SELECT MIN(due_at) AS due_at FROM sandbox_webhook",
            ))
            .await?;
        let next: Option<i64> = next.map_or(Ok(None), |row| row.try_get("", "due_at"))?;
        Ok(next.map_or(IDLE, |at| {
            let wait = u64::try_from(at - self.clock.now()).unwrap_or(0);
            Duration::from_micros(wait).clamp(Duration::from_millis(1), IDLE)
        }))
    }

    async fn send_webhook(&self, callback: &Callback, due: &DueWebhook) -> Result<(), DbErr> {
        if due.kind == DECIDED {
            let txn = self.database.begin().await?;
            Self::decide(&txn, &due.reference, &due.method).await?;
            txn.commit().await?;
        }
        let body = serde_json::json!(Body {
            id: due.event_id.clone(),
            kind: due.kind.clone(),
            reference: due.reference.clone(),
        })
        .to_string();
        let signed = signature::sign(
            callback.secret.expose_secret(),
            body.as_bytes(),
            self.clock.now(),
        );
        let sent = callback
            .client
            .post(&callback.url)
            .header(SIGNATURE, signed)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        let accepted = sent.is_ok_and(|answer| answer.status().is_success());
        if !accepted && due.attempts + 1 >= MAX_ATTEMPTS {
            tracing::warn!(event = due.event_id, "webhook dropped: never accepted");
        }
        let txn = self.database.begin().await?;
        if accepted || due.attempts + 1 >= MAX_ATTEMPTS {
            Self::run(
                &txn,
                "DELETE FROM sandbox_webhook WHERE event_id = $1 AND copy = $2",
                [due.event_id.clone().into(), due.copy.into()],
            )
            .await?;
        } else {
            let pause = backoff_delay(due.attempts, MIN_RETRY_DELAY, MAX_RETRY_DELAY);
            Self::run(
                &txn,
                "UPDATE sandbox_webhook SET due_at = $3, attempts = attempts + 1 WHERE event_id = $1 AND copy = $2",
                [
                    due.event_id.clone().into(),
                    due.copy.into(),
                    (self.clock.now() + micros(pause)).into(),
                ],
            )
            .await?;
        }
        txn.commit().await
    }
}
