//! The provider that ships with the shop. It moves no money: it decides by the
//! method's name, and keeps books of its own, in the orders database but in
//! transactions of its own, as a provider elsewhere would.

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbErr, Statement, Value};
use stoa_kit::clock::{Clock, micros};
use stoa_kit::database::Database;
use stoa_schema::Money;

use super::{Authorised, Captured, NoAnswer, Payment, PaymentProvider, Voided};

/// Authorised after a moment, then captured.
pub const APPROVE: &str = "sandbox_approve";
/// Declined after a moment.
pub const DECLINE: &str = "sandbox_decline";
/// Authorised, but the capture is declined.
pub const DECLINE_CAPTURE: &str = "sandbox_decline_capture";
/// Authorised after five seconds.
pub const SLOW: &str = "sandbox_slow";
/// The first answer to a capture is lost, though the money came.
pub const TIMEOUT: &str = "sandbox_timeout";

const METHODS: &[&str] = &[APPROVE, DECLINE, DECLINE_CAPTURE, SLOW, TIMEOUT];
const DELAY: Duration = Duration::from_millis(600);
const SLOW_DELAY: Duration = Duration::from_secs(5);

pub struct Sandbox {
    database: Database,
    clock: Clock,
}

/// A line of the sandbox's books.
struct Entry {
    state: String,
    captured: i64,
    refunded: i64,
    /// How often the capture was asked for.
    asked: i64,
}

impl Sandbox {
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }

    async fn run<C: ConnectionTrait>(
        txn: &C,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DbErr> {
        let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
        Ok(txn.execute_raw(statement).await?.rows_affected())
    }

    /// The line of a payment, made if there is none, and locked.
    async fn entry<C: ConnectionTrait>(
        &self,
        txn: &C,
        payment: &Payment,
        state: &str,
    ) -> Result<Entry, DbErr> {
        let reference = reference(payment);
        Self::run(
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

    async fn try_authorise(&self, payment: &Payment) -> Result<Authorised, DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "PENDING").await?;
        let reference = reference(payment);
        let delay = match payment.method.as_str() {
            SLOW => SLOW_DELAY,
            _ => DELAY,
        };
        let authorised = match entry.state.as_str() {
            "PENDING" if self.clock.now() < payment.started_at + micros(delay) => {
                Authorised::Pending { reference }
            }
            "PENDING" if payment.method == DECLINE => {
                Self::set_state(&txn, payment, "DECLINED").await?;
                declined()
            }
            "PENDING" => {
                Self::set_state(&txn, payment, "AUTHORISED").await?;
                Authorised::Yes { reference }
            }
            "AUTHORISED" | "CAPTURED" => Authorised::Yes { reference },
            _ => declined(),
        };
        txn.commit().await?;
        Ok(authorised)
    }

    async fn try_capture(&self, payment: &Payment) -> Result<(Captured, Entry), DbErr> {
        let txn = self.database.begin().await?;
        let entry = self.entry(&txn, payment, "PENDING").await?;
        let captured = match entry.state.as_str() {
            "CAPTURED" => Captured::Yes,
            "AUTHORISED" if payment.method != DECLINE_CAPTURE => {
                Self::run(
                    &txn,
                    "UPDATE sandbox_payment SET state = 'CAPTURED', captured_minor = amount_minor WHERE reference = $1",
                    [reference(payment).into()],
                )
                .await?;
                Captured::Yes
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
        Ok(Voided::Yes)
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

fn declined() -> Authorised {
    Authorised::Declined {
        reason: "the payment was declined".to_owned(),
    }
}

fn no_answer(error: DbErr) -> NoAnswer {
    NoAnswer(error.to_string())
}

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn methods(&self) -> &'static [&'static str] {
        METHODS
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoAnswer> {
        self.try_authorise(payment).await.map_err(no_answer)
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoAnswer> {
        let (captured, before) = self.try_capture(payment).await.map_err(no_answer)?;
        if payment.method == TIMEOUT && before.asked == 0 {
            return Err(NoAnswer("the sandbox lost this answer".to_owned()));
        }
        Ok(captured)
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoAnswer> {
        self.try_void(payment).await.map_err(no_answer)
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoAnswer> {
        let amount = amount.amount_minor;
        self.try_refund(payment, amount, key)
            .await
            .map_err(no_answer)
    }
}
