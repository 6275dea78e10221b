//! Runs what is due after an order's answer: the steps of sagas, and units that
//! go back. What is due is stored, so that a crash forgets nothing.
//!
//! Each order's steps, and each order's units, are a job of their own: one that
//! waits for a slow neighbour keeps its place, and no other.

use std::collections::HashMap;
use std::time::Duration;

use stoa_kit::clock::micros;
use stoa_kit::fault::point;
use stoa_kit::telemetry;
use stoa_schema::OrderId;
use stoa_schema::peer::ReleaseStock;
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
const AT_ONCE: usize = 8;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// Works until the process ends.
pub async fn run_for_ever(app: App) {
    let work = app.work.clone();
    let mut worker = Worker::new(app);
    loop {
        let wait = match worker.start_due().await {
            Ok(0) => worker.idle().await,
            // The first one that ends wakes us.
            Ok(_) => Ok(IDLE),
            Err(error) => Err(error),
        };
        let woken = match wait {
            Ok(wait) => tokio::select! {
                done = worker.ended(), if !worker.running.is_empty() => done,
                () = work.notified() => Ok(()),
                () = tokio::time::sleep(wait) => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = woken {
            tracing::warn!(%error, "the order worker waits");
            tokio::time::sleep(IDLE).await;
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
            // It must not come first for ever.
            Err(Error::Corrupt(reason)) => {
                tracing::error!(reason, order_id = %id, "an order's payment cannot be read");
                let at = self.clock.now() + micros(pause(i64::MAX));
                let txn = self.database.begin().await?;
                task::payment_put_off_in_txn(&txn, id, at).await?;
                Ok(txn.commit().await?)
            }
            done => done,
        }
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
        let found = task::stock_task_fetch(self.database.read(), id).await;
        let attempts = match &found {
            Ok(None) => return Ok(()),
            Ok(Some(due)) => due.attempts,
            Err(_) => i64::MAX,
        };
        let told_products = async {
            match found? {
                Some(due) => self.stock_tell(&due).await,
                None => Ok(()),
            }
        };
        let Err(error) = told_products.await else {
            return Ok(());
        };
        tracing::warn!(%error, id, "units are not back yet");
        let at = self.clock.now() + micros(pause(attempts));
        let txn = self.database.begin().await?;
        task::stock_task_postpone_in_txn(&txn, id, at, &told(&error)).await?;
        Ok(txn.commit().await?)
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
                    point("release.asked");
                    released?;
                }
                StockTask::Return => {
                    let db = self.database.read();
                    let units = fulfilment::return_fetch(db, &due.id, &due.order_id).await?;
                    let returned = self.peers.call(correlation, &units).await;
                    point("return.asked");
                    returned?;
                }
            }
            let txn = self.database.begin().await?;
            task::stock_task_done_in_txn(&txn, &due.id).await?;
            txn.commit().await?;
            match due.task {
                StockTask::Release => point("release.stored"),
                StockTask::Return => point("return.stored"),
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

/// The jobs that run.
struct Worker {
    app: App,
    running: JoinSet<Result<(), Error>>,
    /// Which each is; at most as many as may run at once.
    jobs: HashMap<Id, Job>,
}

impl Worker {
    fn new(app: App) -> Self {
        Self {
            app,
            running: JoinSet::new(),
            jobs: HashMap::new(),
        }
    }

    /// Starts what is due, as far as there is room; answers how many jobs
    /// those were.
    async fn start_due(&mut self) -> Result<usize, Error> {
        let db = self.app.database.read();
        let when = self.app.due_now();
        // What runs is still due, and there is never more of it than that.
        let limit = AT_ONCE as u64;
        let sagas = task::payment_due(db, when, limit).await?;
        let units = task::stock_due(db, when, limit).await?;
        let sagas = sagas.into_iter().map(Job::Saga);
        let units = units.into_iter().map(Job::Stock);
        let started = self.start(sagas.collect()) + self.start(units.collect());
        Ok(started)
    }

    /// Starts jobs of one kind.
    fn start(&mut self, mut due: Vec<Job>) -> usize {
        let Some(first) = due.first() else { return 0 };
        let kind = std::mem::discriminant(first);
        let same = |job: &&Job| std::mem::discriminant(*job) == kind;
        let room = AT_ONCE - self.jobs.values().filter(same).count();
        due.retain(|job| !self.jobs.values().any(|running| running == job));
        due.truncate(room);
        let count = due.len();
        for job in due {
            let (app, what) = (self.app.clone(), job.clone());
            let handle = self.running.spawn(async move {
                match &what {
                    Job::Saga(order) => app.saga_run(order).await,
                    Job::Stock(id) => app.stock_run(id).await,
                }
            });
            self.jobs.insert(handle.id(), job);
        }
        count
    }

    /// Waits for a job that ends, and takes all that have ended.
    async fn ended(&mut self) -> Result<(), Error> {
        let mut next = self.running.join_next_with_id().await;
        let mut all = Ok(());
        while let Some(ended) = next {
            let (id, done) = match ended {
                Ok((id, done)) => (id, done),
                Err(error) => {
                    tracing::error!(%error, "a job of the order worker broke off");
                    (error.id(), Ok(()))
                }
            };
            self.jobs.remove(&id);
            all = all.and(done);
            next = self.running.try_join_next_with_id();
        }
        all
    }

    /// How long nothing more will be due.
    async fn idle(&self) -> Result<Duration, Error> {
        let now = self.app.clock.now();
        let next = task::next_due(self.app.database.read(), now).await?;
        Ok(next.map_or(IDLE, |at| {
            let wait = Duration::from_micros(at.abs_diff(now));
            wait.clamp(Duration::from_millis(1), IDLE)
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
