//! A running shop: real processes on free ports, over a folder of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::client::Client;

const START_TIMEOUT: Duration = Duration::from_secs(60);
pub const PASSWORD: &str = "stoa-demo-password";

/// How the parts are divided into processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `stoa up`.
    One,
    /// `stoa router` and four `stoa subgraph`, over HTTP.
    Separate,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Separate => "separate",
        }
    }
}

/// A shop; its processes end and its folder goes when it is dropped.
pub struct Shop {
    pub mode: Mode,
    pub url: String,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    processes: Mutex<Vec<Process>>,
}

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let folder = std::env::temp_dir().join(format!("stoa-test-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut shop = Self {
            mode,
            url: String::new(),
            folder,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            processes: Mutex::default(),
        };
        shop.boot();
        shop
    }

    fn boot(&mut self) {
        match self.mode {
            Mode::One => {
                let folder = self.folder.join("data").display().to_string();
                let address = self.spawn(
                    "up",
                    &["up", "--listen", "127.0.0.1:0", "--data-dir", &folder],
                    &[],
                );
                self.url = format!("http://{address}");
            }
            Mode::Separate => self.boot_separate(),
        }
        self.wait_ready();
    }

    fn boot_separate(&mut self) {
        // The demo data is made by a shop in one process, as an operator would.
        let data = self.folder.join("data").display().to_string();
        if !Path::new(&data).exists() {
            self.spawn(
                "seed",
                &["up", "--listen", "127.0.0.1:0", "--data-dir", &data],
                &[],
            );
            self.stop("seed");
        }
        let mut specs = Vec::new();
        let mut peers: Vec<(String, String)> = vec![("STOA_DATA_DIR".into(), data.clone())];
        for name in ["users", "products", "orders", "notifications"] {
            let address = self.spawn(name, &["subgraph", name, "--listen", "127.0.0.1:0"], &peers);
            peers.push((
                format!("STOA_{}_URL", name.to_uppercase()),
                format!("http://{address}"),
            ));
            let sdl = self.folder.join(format!("{name}.graphql"));
            let printed = Command::new(binary())
                .args(["schema", "print", name])
                .output()
                .expect("stoa schema print");
            std::fs::write(&sdl, printed.stdout).expect("SDL is written");
            specs.push(format!("{name}={}@http://{address}/graphql", sdl.display()));
            if name == "users" {
                let url = format!("http://{address}/.well-known/jwks.json");
                self.settings.push(("STOA_JWKS_URL".into(), url));
            }
        }
        let supergraph = self.folder.join("supergraph.graphql").display().to_string();
        let mut compose = Command::new(binary());
        compose.args(["schema", "compose", "--out", &supergraph]);
        for spec in &specs {
            compose.args(["--subgraph", spec]);
        }
        assert!(compose.status().expect("stoa schema compose").success());
        let address = self.spawn(
            "router",
            &[
                "router",
                "--supergraph",
                &supergraph,
                "--listen",
                "127.0.0.1:0",
            ],
            &peers,
        );
        self.url = format!("http://{address}");
    }

    /// Starts a process and waits until its log tells where it listens.
    fn spawn(&self, name: &str, arguments: &[&str], extra: &[(String, String)]) -> String {
        let log = self
            .folder
            .join(format!("{name}-{}.log", uuid::Uuid::now_v7()));
        let file = std::fs::File::create(&log).expect("a log file");
        let child = Command::new(binary())
            .args(arguments)
            .env_clear()
            .env("STOA_LOG", "info")
            .envs(self.settings.iter().chain(extra).map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        let mut process = Process {
            name: name.to_owned(),
            child,
            log: log.clone(),
        };
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ready = text.contains("Stoa is open") || text.contains("is ready");
            if let Some(address) = ready.then(|| address_in(&text)).flatten() {
                self.processes.lock().unwrap().push(process);
                return address;
            }
            if let Ok(Some(status)) = process.child.try_wait() {
                panic!("{name} ended with {status}:\n{text}");
            }
            assert!(
                started.elapsed() < START_TIMEOUT,
                "{name} does not start:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
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
                let answer = reqwest::get(&url).await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                assert!(
                    started.elapsed() < START_TIMEOUT,
                    "{} is never ready",
                    self.url
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }

    /// Kills a process at once, as `kill -9` does.
    pub fn kill(&self, name: &str) {
        self.processes
            .lock()
            .unwrap()
            .retain(|process| process.name != name);
    }

    /// Asks a process to end, and waits for it.
    fn stop(&self, name: &str) {
        let mut processes = self.processes.lock().unwrap();
        for process in processes.iter_mut().filter(|process| process.name == name) {
            let pid = process.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = process.child.wait();
        }
        processes.retain(|process| process.name != name);
    }

    /// Kills everything and starts again over the same data.
    pub fn restart(&mut self) {
        self.processes.lock().unwrap().clear();
        self.settings.retain(|(name, _)| name != "STOA_JWKS_URL");
        self.boot();
    }

    /// What all processes have logged so far.
    pub fn logs(&self) -> String {
        let processes = self.processes.lock().unwrap();
        processes
            .iter()
            .filter_map(|process| std::fs::read_to_string(&process.log).ok())
            .collect()
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
        if std::env::var_os("STOA_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn address_in(text: &str) -> Option<String> {
    let at = text.find("127.0.0.1:")?;
    let port: String = text[at + 10..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some(format!("127.0.0.1:{port}"))
}
