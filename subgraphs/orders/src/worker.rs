//! Runs the background work of orders: the steps of sagas, and the return of units
//! to stock. What is due is stored, so that a crash loses nothing.
//!
//! Each order's saga, and each return of units, is a job of its own: a job that
//! waits for a slow service occupies one slot of its kind, and no more.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use stoa_runtime::backoff::Backoff;
use stoa_runtime::clock::{Micros, micros};
use stoa_runtime::telemetry;
use stoa_schema::OrderId;
use stoa_schema::peer::ReleaseStock;
use stoa_service::error::CommonError;
use stoa_service::failpoint;
use tokio::task::{Id, JoinSet};
use tracing::{Instrument, Span};

use crate::app::App;
use crate::domain::Order;
use crate::error::Error;
use crate::saga::{failure_reason, retry_delay};
use crate::store::fulfilment;
use crate::store::task::{self, DueStock, StockTask};

/// How many steps of one saga may run in one job.
const MAX_STEPS_PER_JOB: usize = 6;
/// How many jobs of a kind run at once.
const MAX_CONCURRENT_JOBS: usize = 16;
/// How many due jobs are read at once: more than can run.
const BATCH: u64 = 32;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// Runs the worker until the process ends.
pub async fn run(app: App) {
    let work = app.worker_wakeup.clone();
    let mut worker = Worker::new(app);
    let mut backoff = Backoff::default();
    loop {
        let wait = match worker.start_due().await {
            Ok(_) => worker.idle_duration().await,
            Err(error) => Err(error),
        };
        let well = match wait {
            Ok(wait) => tokio::select! {
                done = worker.reap_finished(), if !worker.running.is_empty() => done.map(|()| true),
                () = work.notified() => Ok(false),
                () = tokio::time::sleep(wait) => Ok(false),
            },
            Err(error) => Err(error),
        };
        match well {
            Ok(true) => backoff = Backoff::default(),
            Ok(false) => {}
            // Without the backoff, other services would be called again and again although
            // the result cannot be stored.
            Err(error) => {
                tracing::warn!(%error, "the order worker failed and will retry");
                backoff.wait().await;
            }
        }
    }
}

impl App {
    /// Runs all jobs that are due, including those that become due by that.
    ///
    /// # Errors
    /// If the database fails. A step whose call to another service or the provider
    /// fails is postponed instead.
    pub async fn work_once(&self) -> Result<(), Error> {
        let mut worker = Worker::new(self.clone());
        while worker.start_due().await? > 0 {
            while !worker.running.is_empty() {
                worker.reap_finished().await?;
            }
        }
        Ok(())
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
        task::payment_postpone_any_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }

    /// The same for the return of units.
    async fn stock_postpone(&self, id: &str, attempts: i64, reason: &str) -> Result<(), Error> {
        let at = self.clock.now() + micros(retry_delay(attempts));
        let txn = self.database.begin().await?;
        task::stock_task_postpone_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }

    async fn saga_steps(&self, id: &OrderId) -> Result<(), Error> {
        let order = self.order_must_exist(id).await?;
        for _ in 0..MAX_STEPS_PER_JOB {
            let due = task::payment_fetch(self.database.read(), id).await?;
            if !due.is_due(self.due_now()) {
                break;
            }
            let step = self.saga_step(&due, &order);
            step.instrument(span(due.task.as_str(), &order)).await?;
        }
        Ok(())
    }

    /// Has the products service take units back; postpones that if it fails.
    async fn stock_run(&self, id: &str) -> Result<(), Error> {
        let due = match task::stock_task_fetch(self.database.read(), id).await {
            Ok(Some(due)) if self.due_now().contains(due.due_at) => due,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, id, "a stock task cannot be read");
                return self
                    .stock_postpone(id, i64::MAX, &failure_reason(&error))
                    .await;
            }
        };
        let Err(error) = self.stock_notify(&due).await else {
            return Ok(());
        };
        tracing::warn!(%error, order_id = %due.order_id, "returning units failed; will retry");
        self.stock_postpone(id, due.attempts, &failure_reason(&error))
            .await
    }

    async fn stock_notify(&self, due: &DueStock) -> Result<(), Error> {
        let order = self.order_must_exist(&due.order_id).await?;
        let tell = async {
            let correlation = &order.correlation_id;
            match due.task {
                StockTask::Release => {
                    let order_id = due.order_id.clone();
                    let release = ReleaseStock { order_id };
                    let released = self.peers.call(correlation, &release).await;
                    failpoint::crash_if_chosen("release.asked");
                    released?;
                }
                StockTask::Return => {
                    let db = self.database.read();
                    let units = fulfilment::return_fetch(db, &due.id, &due.order_id).await?;
                    let returned = self.peers.call(correlation, &units).await;
                    failpoint::crash_if_chosen("return.asked");
                    returned?;
                }
            }
            let txn = self.database.begin().await?;
            task::stock_task_done_in_txn(&txn, &due.id).await?;
            txn.commit().await?;
            match due.task {
                StockTask::Release => failpoint::crash_if_chosen("release.stored"),
                StockTask::Return => failpoint::crash_if_chosen("return.stored"),
            }
            Ok(())
        };
        tell.instrument(span(due.task.as_str(), &order)).await
    }
}

/// A job; the same one never runs twice at once.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    Saga(OrderId),
    Stock(String),
}

impl Job {
    async fn run(self, app: App) -> Result<(), Error> {
        match self {
            Self::Saga(order) => app.saga_run(&order).await,
            Self::Stock(id) => app.stock_run(&id).await,
        }
    }
}

/// The running and the waiting jobs.
struct Worker {
    app: App,
    running: JoinSet<Result<(), Error>>,
    /// When it last read the due jobs.
    last_read_at: Micros,
    sagas: JobQueue,
    units: JobQueue,
}

/// The jobs of one kind. Whether a waiting job is still due is checked when it runs.
#[derive(Default)]
struct JobQueue {
    /// At most [`MAX_CONCURRENT_JOBS`].
    running: HashMap<Id, Job>,
    /// At most [`BATCH`].
    waiting: VecDeque<Job>,
}

impl JobQueue {
    fn has_capacity(&self) -> bool {
        self.waiting.is_empty() && self.running.len() < MAX_CONCURRENT_JOBS
    }

    fn enqueue(&mut self, due: impl Iterator<Item = Job>) {
        let new = due.filter(|job| !self.running.values().any(|running| running == job));
        self.waiting.extend(new);
    }

    /// Starts waiting jobs while there are free slots; returns how many.
    fn start(&mut self, app: &App, set: &mut JoinSet<Result<(), Error>>) -> usize {
        let free = MAX_CONCURRENT_JOBS - self.running.len();
        let now = self.waiting.drain(..free.min(self.waiting.len()));
        let mut started = 0;
        for job in now {
            let handle = set.spawn(job.clone().run(app.clone()));
            self.running.insert(handle.id(), job);
            started += 1;
        }
        started
    }
}

impl Worker {
    fn new(app: App) -> Self {
        Self {
            app,
            running: JoinSet::new(),
            last_read_at: 0,
            sagas: JobQueue::default(),
            units: JobQueue::default(),
        }
    }

    /// Starts due jobs while there are free slots; returns how many.
    async fn start_due(&mut self) -> Result<usize, Error> {
        let db = self.app.database.read();
        let when = self.app.due_now();
        self.last_read_at = when.now;
        if self.sagas.has_capacity() {
            let due = task::payment_due(db, when, BATCH).await?;
            self.sagas.enqueue(due.into_iter().map(Job::Saga));
        }
        if self.units.has_capacity() {
            let due = task::stock_due(db, when, BATCH).await?;
            self.units.enqueue(due.into_iter().map(Job::Stock));
        }
        let sagas = self.sagas.start(&self.app, &mut self.running);
        Ok(sagas + self.units.start(&self.app, &mut self.running))
    }

    /// Waits until a job ends, and removes all that have ended.
    async fn reap_finished(&mut self) -> Result<(), Error> {
        let mut next = self.running.join_next_with_id().await;
        let mut all = Ok(());
        while let Some(ended) = next {
            let done = match ended {
                Ok((id, done)) => {
                    self.remove_running(id);
                    done
                }
                Err(error) => {
                    tracing::error!(%error, "a job of the order worker panicked or was aborted");
                    let reason = "the worker broke off: see its log";
                    match self.remove_running(error.id()) {
                        Some(Job::Saga(order)) => self.app.saga_postpone(&order, reason).await,
                        Some(Job::Stock(id)) => {
                            self.app.stock_postpone(&id, i64::MAX, reason).await
                        }
                        None => Ok(()),
                    }
                }
            };
            all = all.and(done);
            next = self.running.try_join_next_with_id();
        }
        all
    }

    fn remove_running(&mut self, id: Id) -> Option<Job> {
        let saga = self.sagas.running.remove(&id);
        saga.or_else(|| self.units.running.remove(&id))
    }

    /// How long to sleep until a job can be started, unless one ends before.
    async fn idle_duration(&self) -> Result<Duration, Error> {
        if !self.sagas.has_capacity() && !self.units.has_capacity() {
            return Ok(IDLE);
        }
        let now = self.last_read_at;
        let next = task::next_due(self.app.database.read(), now).await?;
        Ok(next.map_or(IDLE, |at| {
            let left = u64::try_from(at - self.app.clock.now()).unwrap_or(0);
            Duration::from_micros(left).clamp(Duration::from_millis(1), IDLE)
        }))
    }
}

/// The span of a step, in the trace of the request that placed the order.
fn span(step: &'static str, order: &Order) -> Span {
    let span = tracing::info_span!(
        "order_work",
        step,
        correlation_id = order.correlation_id,
        order_id = %order.id
    );
    telemetry::continue_from_traceparent(&span, order.traceparent.as_deref());
    span
}
