//! A running shop: real processes on free ports, with their own data folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::fault_proxy::FaultProxies;
use crate::nginx;
use crate::process::{Process, ProcessSpec, bare_command, free_port, tail};
use crate::servers::Servers;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const SERVICES: [&str; 4] = ["users", "products", "orders", "notifications"];
/// The number of replicas of each role in [`Mode::Real`].
pub const REPLICAS: usize = 2;
pub const PASSWORD: &str = "stoa-demo-password";

/// How the roles are split into processes, and which backends they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `stoa up`, everything embedded.
    One,
    /// `stoa router` and four `stoa subgraph` over HTTP, everything embedded.
    Separate,
    /// Two replicas of each role behind nginx, over PostgreSQL, Redis and NATS.
    Real,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Separate => "separate",
            Self::Real => "real",
        }
    }
}

/// A shop; on drop its processes are stopped and its folder is deleted.
pub struct Shop {
    pub mode: Mode,
    pub url: String,
    /// The URL of each service, if it is not the shop's own URL.
    services: Vec<(String, String)>,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    /// What the router and peers use instead of a service's address.
    proxies: Option<Arc<FaultProxies>>,
    // The order matters: processes are dropped before the servers they use.
    processes: Mutex<Vec<Process>>,
    servers: Option<Servers>,
}

/// The binary under test, built once.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("STOA_BINARY") {
            return path.into();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "stoa", "--bin", "stoa"])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binary builds");
        // target/debug/deps/TEST -> target/debug/stoa
        let test = std::env::current_exe().expect("a test knows its path");
        let folder = test.parent().and_then(Path::parent).expect("target/debug");
        folder.join("stoa")
    })
}

impl Shop {
    pub fn start(mode: Mode) -> Self {
        Self::start_with(mode, &[("STOA_RATE_LIMIT", "off")])
    }

    /// Starts a shop with these settings and demo data.
    pub fn start_with(mode: Mode, settings: &[(&str, &str)]) -> Self {
        Self::start_behind(mode, settings, None)
    }

    /// The same, with a proxy in front of each service, for the router and for peers.
    pub fn start_behind(
        mode: Mode,
        settings: &[(&str, &str)],
        proxies: Option<Arc<FaultProxies>>,
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("stoa-test-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut shop = Self {
            mode,
            url: String::new(),
            services: Vec::new(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            proxies,
            processes: Mutex::default(),
            servers: (mode == Mode::Real).then(|| Servers::start(&folder.join("servers"))),
            folder,
        };
        if let Some(servers) = &shop.servers {
            shop.settings.extend(servers.settings());
        }
        shop.boot();
        shop
    }

    fn boot(&mut self) {
        match self.mode {
            Mode::One => {
                let folder = self.data().display().to_string();
                let address = self.spawn(
                    "up",
                    &["up", "--listen", "127.0.0.1:0", "--data-dir", &folder],
                    &[],
                );
                self.url = format!("http://{address}");
            }
            Mode::Separate => self.boot_separate(),
            Mode::Real => self.boot_real(),
        }
        self.wait_ready();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The SQLite database of a service.
    pub fn database_file(&self, service: &str) -> PathBuf {
        self.data().join(format!("{service}.db"))
    }

    /// Creates the demo data with a single-process shop, as an operator would.
    fn seed(&self) {
        if self.data().exists() {
            return;
        }
        let data = self.data().display().to_string();
        self.spawn(
            "seed",
            &["up", "--listen", "127.0.0.1:0", "--data-dir", &data],
            &[],
        );
        self.stop("seed");
    }

    fn boot_separate(&mut self) {
        self.seed();
        self.services.clear();
        let mut peers = vec![self.data_setting()];
        let mut addresses = Vec::new();
        for name in SERVICES {
            let address = self.spawn(name, &["subgraph", name, "--listen", "127.0.0.1:0"], &peers);
            if name == "users" {
                peers.push(jwks_setting(&address));
            }
            self.services.push(service_at(name, &address));
            let address = self.behind_proxy(name, address);
            peers.push(peer_setting(name, &address));
            addresses.push((name, address));
        }
        let supergraph = self.compose(&addresses);
        let listen = "127.0.0.1:0";
        let arguments = ["router", "--supergraph", &supergraph, "--listen", listen];
        let address = self.spawn("router", &arguments, &peers);
        self.url = format!("http://{address}");
    }

    fn boot_real(&mut self) {
        self.seed();
        // Clients and peers connect to nginx, in front of the replicas of each role.
        let fronts: Vec<(&str, String)> = SERVICES
            .into_iter()
            .chain(["router"])
            .map(|name| (name, format!("127.0.0.1:{}", free_port())))
            .collect();
        let mut settings = vec![
            self.data_setting(),
            ("STOA_TRUSTED_PROXIES".into(), "127.0.0.1".into()),
            jwks_setting(&fronts[0].1),
            (
                "STOA_PRODUCTS_PUBLIC_URL".into(),
                format!("http://{}", fronts[1].1),
            ),
        ];
        let services = &fronts[..SERVICES.len()];
        self.services = (services.iter().map(|(name, at)| service_at(name, at))).collect();
        let proxied = services.iter();
        let proxied = proxied.map(|(name, at)| (*name, self.behind_proxy(name, at.clone())));
        let proxied: Vec<(&str, String)> = proxied.collect();
        settings.extend(proxied.iter().map(|(name, at)| peer_setting(name, at)));
        let supergraph = self.compose(&proxied);
        let mut backends = Vec::new();
        for (name, front) in &fronts {
            let mut replicas = Vec::new();
            for replica in 1..=REPLICAS {
                let at = format!("127.0.0.1:{}", free_port());
                let arguments = match *name {
                    "router" => ["router", "--supergraph", &supergraph, "--listen", &at].to_vec(),
                    name => ["subgraph", name, "--listen", &at].to_vec(),
                };
                replicas.push(self.spawn(&format!("{name}-{replica}"), &arguments, &settings));
            }
            backends.push((front.clone(), replicas));
        }
        let proxy = nginx::spec(&self.folder, &backends).start();
        self.processes.lock().unwrap().push(proxy);
        self.url = format!("http://{}", fronts[SERVICES.len()].1);
    }

    fn behind_proxy(&self, name: &str, address: String) -> String {
        match &self.proxies {
            Some(proxies) => proxies.add(name, &address),
            None => address,
        }
    }

    fn data_setting(&self) -> (String, String) {
        ("STOA_DATA_DIR".into(), self.data().display().to_string())
    }

    fn compose(&self, addresses: &[(&str, String)]) -> String {
        let supergraph = self.folder.join("supergraph.graphql").display().to_string();
        let mut compose = Command::new(binary());
        compose.args(["schema", "compose", "--out", &supergraph]);
        for (name, address) in addresses {
            let sdl = self.folder.join(format!("{name}.graphql"));
            let printed = Command::new(binary())
                .args(["schema", "print", name])
                .output()
                .expect("stoa schema print");
            std::fs::write(&sdl, printed.stdout).expect("SDL is written");
            compose.arg("--subgraph");
            compose.arg(format!("{name}={}@http://{address}/graphql", sdl.display()));
        }
        assert!(compose.status().expect("stoa schema compose").success());
        supergraph
    }

    /// Starts a process and waits until it logs its listen address.
    fn spawn(&self, name: &str, arguments: &[&str], extra: &[(String, String)]) -> String {
        let environment = self.settings.iter().chain(extra).cloned().collect();
        let spec = ProcessSpec {
            name: name.to_owned(),
            program: binary().to_owned(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            environment,
            folder: self.folder.clone(),
            signal: "KILL",
        };
        let (process, address) = start(&spec);
        self.processes.lock().unwrap().push(process);
        address
    }

    fn wait_ready(&self) {
        let url = format!("{}/health/ready", self.url);
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            loop {
                // Not degraded: every service must be there.
                if let Ok(answer) = reqwest::get(&url).await
                    && let Ok(body) = answer.json::<serde_json::Value>().await
                    && body["status"] == "ok"
                {
                    return;
                }
                assert!(
                    started.elapsed() < START_TIMEOUT,
                    "{} is never ready\n{}",
                    self.url,
                    self.logs()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }

    /// Kills a process or a server with SIGKILL.
    pub fn kill(&self, name: &str) {
        if let Some(servers) = &self.servers {
            servers.kill(name);
        }
        self.processes
            .lock()
            .unwrap()
            .retain(|process| process.spec.name != name);
    }

    /// Kills a process or a server and restarts it after the given downtime.
    pub fn kill_and_restart(&self, name: &str, downtime: Duration) {
        let spec = self
            .processes
            .lock()
            .unwrap()
            .iter()
            .find(|process| process.spec.name == name)
            .map(|process| process.spec.clone());
        self.kill(name);
        std::thread::sleep(downtime);
        match (spec, &self.servers) {
            (Some(spec), _) => {
                let (process, _) = start(&spec);
                self.processes.lock().unwrap().push(process);
            }
            (None, Some(servers)) => servers.restart(name),
            (None, None) => panic!("there is no {name}"),
        }
    }

    /// The names of all processes that run the shop's binary, so without nginx.
    pub fn process_names(&self) -> Vec<String> {
        let processes = self.processes.lock().unwrap();
        processes
            .iter()
            .map(|process| process.spec.name.clone())
            .filter(|name| name != nginx::NAME)
            .collect()
    }

    /// The environment variables of its processes.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub fn servers(&self) -> Option<&Servers> {
        self.servers.as_ref()
    }

    /// Runs a command of the binary with the shop's settings; returns its output.
    pub fn command(&self, arguments: &[&str]) -> String {
        let (fine, said) = self.try_command(arguments);
        assert!(fine, "{arguments:?}: {said}");
        said
    }

    /// The same, but returns whether it succeeded instead of panicking.
    pub fn try_command(&self, arguments: &[&str]) -> (bool, String) {
        let output = bare_command(binary())
            .args(arguments)
            .envs(self.settings.iter().map(|(k, v)| (k, v)))
            .env("STOA_DATA_DIR", self.data())
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => (true, said),
            false => {
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                (false, said)
            }
        }
    }

    /// Sends a process SIGTERM and waits until it has ended.
    fn stop(&self, name: &str) {
        let mut processes = self.processes.lock().unwrap();
        for process in processes.iter().filter(|process| process.spec.name == name) {
            process.signal("TERM");
            process.wait(START_TIMEOUT);
        }
        processes.retain(|process| process.spec.name != name);
    }

    /// Kills all processes and restarts them with the same data.
    pub fn restart(&mut self) {
        self.processes.lock().unwrap().clear();
        self.boot();
    }

    /// Restarts with a setting that applies to this run only.
    pub fn restart_once_with(&mut self, name: &str, value: &str) {
        let before = self.settings.clone();
        self.settings.push((name.to_owned(), value.to_owned()));
        self.restart();
        self.settings = before;
    }

    /// Waits until a process has exited on its own.
    pub fn wait_for_exit(&self, name: &str) {
        let processes = self.processes.lock().unwrap();
        for process in processes.iter().filter(|process| process.spec.name == name) {
            process.wait(START_TIMEOUT);
        }
    }

    /// The last line of `stoa doctor`; panics if it finds a violation.
    pub fn doctor(&self) -> String {
        let said = self.command(&["doctor"]);
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// The logs of all processes so far.
    pub fn logs(&self) -> String {
        let processes = self.processes.lock().unwrap();
        processes
            .iter()
            .filter_map(|process| std::fs::read_to_string(process.spec.log()).ok())
            .collect()
    }

    /// The folder of logs and data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of a service itself, not of the router.
    pub fn service_url(&self, name: &str) -> &str {
        let service = self.services.iter().find(|(known, _)| known == name);
        service.map_or(&self.url, |(_, url)| url)
    }

    /// An anonymous client.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// A client signed in to a demo account: `ada`, `lin` or `admin`.
    pub async fn sign_in(&self, who: &str) -> Client {
        self.client()
            .sign_in(&format!("{who}@stoa.test"), PASSWORD)
            .await
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.processes.lock().unwrap().clear();
        self.servers = None;
        if std::env::var_os("STOA_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Starts a process of our binary; returns it with its listen address.
fn start(spec: &ProcessSpec) -> (Process, String) {
    let before = std::fs::metadata(spec.log()).map_or(0, |file| file.len());
    let process = spec.start();
    let started = Instant::now();
    loop {
        let log = std::fs::read(spec.log()).unwrap_or_default();
        let new = usize::try_from(before).unwrap_or(0).min(log.len());
        let text = String::from_utf8_lossy(&log[new..]);
        let ready = text.contains("Stoa is open") || text.contains("is ready");
        if let Some(address) = ready.then(|| address_in(&text)).flatten() {
            return (process, address);
        }
        assert!(
            process.is_running() && started.elapsed() < START_TIMEOUT,
            "{} does not start:\n{}",
            spec.name,
            tail(&spec.log())
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn service_at(name: &str, address: &str) -> (String, String) {
    (name.to_owned(), format!("http://{address}"))
}

fn peer_setting(name: &str, address: &str) -> (String, String) {
    (
        format!("STOA_{}_URL", name.to_uppercase()),
        format!("http://{address}"),
    )
}

fn jwks_setting(users: &str) -> (String, String) {
    (
        "STOA_JWKS_URL".to_owned(),
        format!("http://{users}/.well-known/jwks.json"),
    )
}

/// The address in the log line that announces the listener.
fn address_in(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.contains("is ready") || line.contains("Playground"))?;
    let at = line.find("127.0.0.1:")?;
    let port: String = line[at + 10..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some(format!("127.0.0.1:{port}"))
}
