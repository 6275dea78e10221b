//! Runs the background work of orders: the steps of sagas, and the return of units
//! to stock. What is due is stored, so that a crash loses nothing.
//!
//! Each order's saga, and each return of units, is a job of its own: a job that
//! waits for a slow service occupies one slot of its kind, and no more.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use stoa_runtime::backoff::Backoff;
use stoa_runtime::clock::{Clock, Micros};
use stoa_service::database::Database;
use stoa_service::idempotency;
use stoa_service::outbox::Relay;
use stoa_service::purge::run_purge;
use stoa_service::service::Task;
use tokio::task::{Id, JoinSet};

use crate::app::App;
use crate::app::job::Job;
use crate::app::saga::Saga;
use crate::error::Error;

/// How many jobs of a kind run at once.
const MAX_CONCURRENT_JOBS: usize = 16;
/// How many due jobs are read at once: more than can run.
const BATCH: u64 = 32;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// What runs for as long as the process does.
pub fn background(app: &App, relay: Relay, database: Database, clock: Clock) -> Vec<Task> {
    let (carts, saga) = (app.carts.clone(), app.saga.clone());
    vec![
        Box::pin(async move { run_purge("guests' carts", || carts.carts_purge_expired()).await }),
        Box::pin(async move { run_purge("payment events", || saga.events_purge_expired()).await }),
        Box::pin(idempotency::run_purge(database, clock)),
        Box::pin(relay.run()),
        Box::pin(run_worker(app.saga.clone())),
    ]
}

/// Runs the worker until the process ends.
pub async fn run_worker(saga: Saga) {
    let mut worker = Worker::new(saga.clone());
    let mut backoff = Backoff::default();
    loop {
        let wait = match worker.start_due().await {
            Ok(_) => worker.idle_duration().await,
            Err(error) => Err(error),
        };
        let well = match wait {
            Ok(wait) => tokio::select! {
                done = worker.reap_finished(), if !worker.running.is_empty() => done.map(|()| true),
                () = saga.woken() => Ok(false),
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

/// Runs all jobs that are due, including those that become due by that.
///
/// # Errors
/// If the database fails. A step whose call to another service or the provider
/// fails is postponed instead.
pub async fn work_once(saga: &Saga) -> Result<(), Error> {
    let mut worker = Worker::new(saga.clone());
    while worker.start_due().await? > 0 {
        while !worker.running.is_empty() {
            worker.reap_finished().await?;
        }
    }
    Ok(())
}

/// The running and the waiting jobs.
struct Worker {
    saga: Saga,
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

    fn enqueue(&mut self, due: Vec<Job>) {
        let new =
            (due.into_iter()).filter(|job| !self.running.values().any(|running| running == job));
        self.waiting.extend(new);
    }

    /// Starts waiting jobs while there are free slots; returns how many.
    fn start(&mut self, saga: &Saga, set: &mut JoinSet<Result<(), Error>>) -> usize {
        let free = MAX_CONCURRENT_JOBS - self.running.len();
        let now = self.waiting.drain(..free.min(self.waiting.len()));
        let mut started = 0;
        for job in now {
            let handle = {
                let (saga, job) = (saga.clone(), job.clone());
                set.spawn(async move { saga.run(&job).await })
            };
            self.running.insert(handle.id(), job);
            started += 1;
        }
        started
    }
}

impl Worker {
    fn new(saga: Saga) -> Self {
        Self {
            saga,
            running: JoinSet::new(),
            last_read_at: 0,
            sagas: JobQueue::default(),
            units: JobQueue::default(),
        }
    }

    /// Starts due jobs while there are free slots; returns how many.
    async fn start_due(&mut self) -> Result<usize, Error> {
        self.last_read_at = self.saga.clock().now();
        if self.sagas.has_capacity() {
            self.sagas.enqueue(self.saga.sagas_due(BATCH).await?);
        }
        if self.units.has_capacity() {
            self.units.enqueue(self.saga.stock_due(BATCH).await?);
        }
        let sagas = self.sagas.start(&self.saga, &mut self.running);
        Ok(sagas + self.units.start(&self.saga, &mut self.running))
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
                        Some(job) => self.saga.postpone(&job, reason).await,
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
        let next = self.saga.next_due(now).await?;
        Ok(next.map_or(IDLE, |at| {
            let left = u64::try_from(at - self.saga.clock().now()).unwrap_or(0);
            Duration::from_micros(left).clamp(Duration::from_millis(1), IDLE)
        }))
    }
}
