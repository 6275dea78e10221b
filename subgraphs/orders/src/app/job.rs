//! The jobs of the background worker: what is due, and running it.

use stoa_runtime::clock::{Micros, micros};
use stoa_schema::OrderId;
use stoa_service::error::CommonError;
use tracing::Instrument;

use super::order::order_must_exist;
use super::saga::{Saga, order_work_span, retry_delay};
use crate::error::Error;
use crate::store::payment;

/// How many steps of one saga may run in one job.
const MAX_STEPS_PER_JOB: usize = 6;
/// A unit of background work; the same one must not run twice at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// The due steps of an order's saga.
    Saga(OrderId),
    /// A stock task, by its ID.
    Stock(String),
}

impl Saga {
    /// The orders whose saga has a step that is due.
    pub async fn sagas_due(&self, limit: u64) -> Result<Vec<Job>, Error> {
        let due = payment::payment_due(self.database.read(), self.due_now(), limit).await?;
        Ok(due.into_iter().map(Job::Saga).collect())
    }

    /// The stock tasks that are due.
    pub async fn stock_due(&self, limit: u64) -> Result<Vec<Job>, Error> {
        let due = payment::stock_due(self.database.read(), self.due_now(), limit).await?;
        Ok(due.into_iter().map(Job::Stock).collect())
    }

    /// When the next job becomes due that was not due at a time, if there is one.
    pub async fn next_due(&self, now: Micros) -> Result<Option<Micros>, Error> {
        Ok(payment::next_due(self.database.read(), now).await?)
    }

    /// Runs a job. A step whose call to another service or the provider fails is
    /// postponed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn run(&self, job: &Job) -> Result<(), Error> {
        match job {
            Job::Saga(order) => self.saga_run(order).await,
            Job::Stock(id) => self.stock_run(id).await,
        }
    }

    /// Postpones a job that panicked: it must not stay first in the queue.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn postpone(&self, job: &Job, reason: &str) -> Result<(), Error> {
        match job {
            Job::Saga(order) => self.saga_postpone(order, reason).await,
            Job::Stock(id) => self.stock_postpone(id, i64::MAX, reason).await,
        }
    }

    /// Runs the steps of an order's saga until none is due.
    async fn saga_run(&self, id: &OrderId) -> Result<(), Error> {
        match self.saga_steps(id).await {
            Err(Error::Common(CommonError::Corrupt(reason))) => {
                tracing::error!(reason, order_id = %id, "an order's payment cannot be read");
                self.saga_postpone(id, "the payment cannot be read").await
            }
            done => done,
        }
    }

    /// Postpones an order's step that failed without being postponed itself: it
    /// must not stay first in the queue.
    async fn saga_postpone(&self, id: &OrderId, reason: &str) -> Result<(), Error> {
        let at = self.clock.now() + micros(retry_delay(i64::MAX));
        let txn = self.database.begin().await?;
        payment::payment_postpone_any_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }

    async fn saga_steps(&self, id: &OrderId) -> Result<(), Error> {
        let order = order_must_exist(&self.database, id).await?;
        for _ in 0..MAX_STEPS_PER_JOB {
            let due = payment::payment_fetch(self.database.read(), id).await?;
            if !due.is_due(self.due_now()) {
                break;
            }
            let step = self.saga_step(&due, &order);
            step.instrument(order_work_span(due.task.into_str(), &order))
                .await?;
        }
        Ok(())
    }
}
