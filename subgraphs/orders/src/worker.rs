//! Runs what is due after an order's answer: the steps of sagas, and units that
//! go back. What is due is stored, so that a crash forgets nothing.
//!
//! Each order's steps, and each order's units, are a job of their own: one that
//! waits for a slow neighbour occupies one of its kind's slots, and no more.

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
use crate::saga::{pause, told};
use crate::store::fulfilment;
use crate::store::task::{self, DueStock, StockTask};

/// How many steps of one saga may follow each other in one job.
const ROUNDS: usize = 6;
/// How many jobs of a kind run at once.
const AT_ONCE: usize = 16;
/// How many are looked up at once: more than can run.
const BATCH: u64 = 32;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// Works until the process ends.
pub async fn run_for_ever(app: App) {
    let work = app.work.clone();
    let mut worker = Worker::new(app);
    let mut backoff = Backoff::default();
    loop {
        let wait = match worker.start_due().await {
            Ok(_) => worker.idle().await,
            Err(error) => Err(error),
        };
        let well = match wait {
            Ok(wait) => tokio::select! {
                done = worker.ended(), if !worker.running.is_empty() => done.map(|()| true),
                () = work.notified() => Ok(false),
                () = tokio::time::sleep(wait) => Ok(false),
            },
            Err(error) => Err(error),
        };
        match well {
            Ok(true) => backoff = Backoff::default(),
            Ok(false) => {}
            // Neighbours must not be asked again and again for what cannot be
            // stored.
            Err(error) => {
                tracing::warn!(%error, "the order worker waits");
                backoff.wait().await;
            }
        }
    }
}

impl App {
    /// Does all that is due, and what becomes due by that.
    ///
    /// # Errors
    /// If the database fails. Failures of peers and of the provider are put
    /// off, each on its own.
    pub async fn work_once(&self) -> Result<(), Error> {
        let mut worker = Worker::new(self.clone());
        while worker.start_due().await? > 0 {
            while !worker.running.is_empty() {
                worker.ended().await?;
            }
        }
        Ok(())
    }

    /// Runs the steps of an order's saga until none is due.
    async fn saga_run(&self, id: &OrderId) -> Result<(), Error> {
        match self.saga_steps(id).await {
            Err(Error::Common(CommonError::Corrupt(reason))) => {
                tracing::error!(reason, order_id = %id, "an order's payment cannot be read");
                self.saga_put_off(id, "the payment cannot be read").await
            }
            done => done,
        }
    }

    /// Puts off an order's step that cannot even fail as it should: it must not
    /// come first for ever.
    async fn saga_put_off(&self, id: &OrderId, reason: &str) -> Result<(), Error> {
        let at = self.clock.now() + micros(pause(i64::MAX));
        let txn = self.database.begin().await?;
        task::payment_put_off_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }

    /// The same for units.
    async fn stock_put_off(&self, id: &str, attempts: i64, reason: &str) -> Result<(), Error> {
        let at = self.clock.now() + micros(pause(attempts));
        let txn = self.database.begin().await?;
        task::stock_task_postpone_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }

    async fn saga_steps(&self, id: &OrderId) -> Result<(), Error> {
        let order = self.order_must_exist(id).await?;
        for _ in 0..ROUNDS {
            let due = task::payment_fetch(self.database.read(), id).await?;
            if !due.is_due(self.due_now()) {
                break;
            }
            let step = self.saga_step(&due, &order);
            step.instrument(span(due.task.as_str(), &order)).await?;
        }
        Ok(())
    }

    /// Tells products of units, or puts that off.
    async fn stock_run(&self, id: &str) -> Result<(), Error> {
        let due = match task::stock_task_fetch(self.database.read(), id).await {
            Ok(Some(due)) if self.due_now().is(due.due_at) => due,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, id, "what is to go back cannot be read");
                return self.stock_put_off(id, i64::MAX, &told(&error)).await;
            }
        };
        let Err(error) = self.stock_tell(&due).await else {
            return Ok(());
        };
        tracing::warn!(%error, order_id = %due.order_id, "units are not back yet");
        self.stock_put_off(id, due.attempts, &told(&error)).await
    }

    async fn stock_tell(&self, due: &DueStock) -> Result<(), Error> {
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

/// What is done by itself, of which one runs at a time.
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

/// The jobs that run, and those that wait for their turn.
struct Worker {
    app: App,
    running: JoinSet<Result<(), Error>>,
    /// When it last looked for what is due.
    looked_at: Micros,
    sagas: Lane,
    units: Lane,
}

/// The jobs of one kind. One that waited is looked at again before it runs.
#[derive(Default)]
struct Lane {
    /// At most [`AT_ONCE`].
    running: HashMap<Id, Job>,
    /// At most [`BATCH`].
    waiting: VecDeque<Job>,
}

impl Lane {
    fn is_hungry(&self) -> bool {
        self.waiting.is_empty() && self.running.len() < AT_ONCE
    }

    fn feed(&mut self, due: impl Iterator<Item = Job>) {
        let new = due.filter(|job| !self.running.values().any(|running| running == job));
        self.waiting.extend(new);
    }

    /// Starts what waits, as far as there is room; answers how many jobs.
    fn start(&mut self, app: &App, set: &mut JoinSet<Result<(), Error>>) -> usize {
        let room = AT_ONCE - self.running.len();
        let now = self.waiting.drain(..room.min(self.waiting.len()));
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
            looked_at: 0,
            sagas: Lane::default(),
            units: Lane::default(),
        }
    }

    /// Starts what is due, as far as there is room; answers how many jobs
    /// those were.
    async fn start_due(&mut self) -> Result<usize, Error> {
        let db = self.app.database.read();
        let when = self.app.due_now();
        self.looked_at = when.now;
        if self.sagas.is_hungry() {
            let due = task::payment_due(db, when, BATCH).await?;
            self.sagas.feed(due.into_iter().map(Job::Saga));
        }
        if self.units.is_hungry() {
            let due = task::stock_due(db, when, BATCH).await?;
            self.units.feed(due.into_iter().map(Job::Stock));
        }
        let sagas = self.sagas.start(&self.app, &mut self.running);
        Ok(sagas + self.units.start(&self.app, &mut self.running))
    }

    /// Waits for a job that ends, and takes all that have ended.
    async fn ended(&mut self) -> Result<(), Error> {
        let mut next = self.running.join_next_with_id().await;
        let mut all = Ok(());
        while let Some(ended) = next {
            let done = match ended {
                Ok((id, done)) => {
                    self.forget(id);
                    done
                }
                Err(error) => {
                    tracing::error!(%error, "a job of the order worker broke off");
                    let reason = "the worker broke off: see its log";
                    match self.forget(error.id()) {
                        Some(Job::Saga(order)) => self.app.saga_put_off(&order, reason).await,
                        Some(Job::Stock(id)) => self.app.stock_put_off(&id, i64::MAX, reason).await,
                        None => Ok(()),
                    }
                }
            };
            all = all.and(done);
            next = self.running.try_join_next_with_id();
        }
        all
    }

    fn forget(&mut self, id: Id) -> Option<Job> {
        let saga = self.sagas.running.remove(&id);
        saga.or_else(|| self.units.running.remove(&id))
    }

    /// How long nothing more can be started, unless something ends.
    async fn idle(&self) -> Result<Duration, Error> {
        if !self.sagas.is_hungry() && !self.units.is_hungry() {
            return Ok(IDLE);
        }
        let now = self.looked_at;
        let next = task::next_due(self.app.database.read(), now).await?;
        Ok(next.map_or(IDLE, |at| {
            let left = u64::try_from(at - self.app.clock.now()).unwrap_or(0);
            Duration::from_micros(left).clamp(Duration::from_millis(1), IDLE)
        }))
    }
}

/// A step in the trace of the request that placed the order.
fn span(step: &'static str, order: &Order) -> Span {
    let span = tracing::info_span!(
        "order_work",
        step,
        correlation_id = order.correlation_id,
        order_id = %order.id
    );
    telemetry::continue_from(&span, order.traceparent.as_deref());
    span
}
