//! Proxies between a shop's services which do to connections and responses what networks,
//! load balancers and restarts do, and log it.
//!
//! | module | what it holds |
//! |---|---|
//! | here | the proxies, their restarts and their log |
//! | `faults` | the faults, and which one a request meets |
//! | `connection` | one client's connection, and the faults that happen on it |
//!
//! The faults follow from the seed and a request's number. Which request gets which number
//! depends on the machine.

mod connection;
mod faults;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use faults::FaultSource;
pub use faults::{Ending, Fault};

/// How long a restarting proxy refuses connections.
const DOWNTIME: Duration = Duration::from_millis(300);

/// What happened to a request.
#[derive(Debug, Clone)]
pub struct Entry {
    pub proxy: String,
    pub correlation: String,
    /// `None` if the request was passed on and answered as it should be.
    pub fault: Option<Fault>,
    /// Whether its connection had a response before.
    pub is_reused: bool,
    pub is_mutation: bool,
    /// Whether the service got the request.
    pub is_forwarded: bool,
}

/// The proxies in front of the services of one shop. They stop when this is dropped, which
/// must be outside of an asynchronous context.
pub struct FaultProxies {
    runtime: Runtime,
    seed: u64,
    all: Mutex<Vec<Arc<Proxy>>>,
}

impl FaultProxies {
    /// # Panics
    /// If there can be no runtime.
    pub fn new(seed: u64) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build();
        Self {
            runtime: runtime.expect("a runtime"),
            seed,
            all: Mutex::default(),
        }
    }

    /// Starts a proxy in front of a service's address; returns its own address. It passes
    /// everything on until [`Self::set_rate`] or [`Self::arm`].
    ///
    /// # Panics
    /// If there is no free port.
    pub fn add(&self, service: &str, address: &str) -> String {
        let mut all = self.all.lock().expect("not poisoned");
        let number = all.len() as u64;
        let _inside = self.runtime.enter();
        let socket = socket("127.0.0.1:0").expect("a free port");
        let own = socket.local_addr().expect("an address").to_string();
        let listener = socket.listen(1_024).expect("it listens");
        let proxy = Arc::new(Proxy {
            name: service.to_owned(),
            address: own.clone(),
            upstream: address.to_owned(),
            seed: self.seed ^ (number << 48),
            http: connection::upstream_client(),
            faults: Mutex::default(),
            requests: AtomicUsize::default(),
            log: Mutex::default(),
            restarts: Mutex::default(),
            restarted: watch::channel(0).0,
            generation: watch::channel(0).0,
        });
        self.runtime.spawn(proxy.clone().run(listener));
        all.push(proxy);
        own
    }

    fn each(&self, action: impl FnMut(&Arc<Proxy>)) {
        let all = self.all.lock().expect("not poisoned");
        all.iter().for_each(action);
    }

    /// From now on, of a hundred requests through each proxy so many meet each kind of
    /// fault.
    pub fn set_rate(&self, percent: u64) {
        self.each(|proxy| proxy.faults().percent_of_each = percent);
    }

    /// The next mutation that goes through a proxy meets this fault.
    ///
    /// # Panics
    /// If there is no such proxy.
    pub fn arm(&self, service: &str, fault: Fault) {
        let all = self.all.lock().expect("not poisoned");
        let proxy = all.iter().find(|proxy| proxy.name == service);
        let proxy = proxy.expect("a proxy in front of the service");
        proxy.faults().armed = Some(fault);
    }

    /// Restarts each proxy once in every one of so many periods, at times that follow from
    /// the seed. For the retry budget's window after that, the proxy has no faults
    /// that need a retry: refused connections may use up the budget.
    pub async fn restart_all(&self, periods: u32, period: Duration) {
        let all = self.all.lock().expect("not poisoned").clone();
        let running = all.into_iter().map(|proxy| async move {
            let mut random = fastrand::Rng::with_seed(proxy.seed);
            for _ in 0..periods {
                let begin = Instant::now();
                let after = period.mul_f64(0.6 + 0.2 * random.f64());
                tokio::time::sleep(after).await;
                proxy.restart().await;
                tokio::time::sleep(period.saturating_sub(begin.elapsed())).await;
            }
        });
        futures_util::future::join_all(running).await;
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        let mut requests = 0;
        self.each(|proxy| requests += proxy.requests.load(Ordering::Relaxed));
        requests
    }

    /// Everything that was logged, by proxy, in the order in which requests came.
    pub fn log(&self) -> Vec<Entry> {
        let mut log = Vec::new();
        self.each(|proxy| log.extend_from_slice(&proxy.log.lock().expect("not poisoned")));
        log
    }

    /// When connections were refused.
    pub fn restarts(&self) -> Vec<(Instant, Instant)> {
        let mut restarts = Vec::new();
        self.each(|proxy| {
            restarts.extend_from_slice(&proxy.restarts.lock().expect("not poisoned"));
        });
        restarts
    }
}

struct Proxy {
    name: String,
    address: String,
    /// The service's host and port.
    upstream: String,
    seed: u64,
    http: reqwest::Client,
    faults: Mutex<FaultSource>,
    requests: AtomicUsize,
    log: Mutex<Vec<Entry>>,
    restarts: Mutex<Vec<(Instant, Instant)>>,
    /// Grows with each restart: connections of an earlier one are closed.
    generation: watch::Sender<usize>,
    /// Grows when it listens again.
    restarted: watch::Sender<usize>,
}

impl Proxy {
    async fn run(self: Arc<Self>, mut listener: TcpListener) {
        let mut generation = self.generation.subscribe();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                    tokio::spawn(connection::serve(self.clone(), socket));
                },
                _ = generation.changed() => {
                    // Bound, but not listening: connections are refused, and no other
                    // program can take the port.
                    let Ok(socket) = socket(&self.address) else { return };
                    drop(listener);
                    tokio::time::sleep(DOWNTIME).await;
                    let Ok(again) = socket.listen(1_024) else { return };
                    listener = again;
                    self.restarted.send_modify(|count| *count += 1);
                }
            }
        }
    }

    /// Closes what is idle, lets what is running end, and refuses connections for a while.
    async fn restart(&self) {
        let began = Instant::now();
        self.faults().rest_from(began);
        let mut restarted = self.restarted.subscribe();
        self.generation.send_modify(|generation| *generation += 1);
        let _ = restarted.changed().await;
        let mut restarts = self.restarts.lock().expect("not poisoned");
        restarts.push((began, Instant::now()));
    }

    /// The next request's number, and its fault, if it is to meet one.
    fn draw(&self, is_mutation: bool) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) as u64;
        self.faults()
            .draw(self.seed, number, is_mutation, Instant::now())
    }

    fn faults(&self) -> MutexGuard<'_, FaultSource> {
        self.faults.lock().expect("not poisoned")
    }

    fn note(&self, entry: Entry) {
        self.log.lock().expect("not poisoned").push(entry);
    }
}

/// A socket of this address that others may bind too, so that it can be bound again while
/// its predecessor still listens.
fn socket(address: &str) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address.parse().map_err(std::io::Error::other)?)?;
    Ok(socket)
}
