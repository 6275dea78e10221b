//! Private PostgreSQL, Redis and NATS servers on free ports: native processes if they
//! are installed, otherwise containers if a Docker engine runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::native::{PASSWORD, Tls, nats, postgres, redis};
use crate::process::{Process, ProcessSpec, find, free_port, tail, wait_until};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 5] = ["postgres", "initdb", "psql", "redis-server", "nats-server"];
const ALL: [&str; 3] = ["postgres", "redis", "nats"];
const SERVICES: [&str; 4] = ["users", "products", "orders", "notifications"];

/// The servers of one shop; on drop they are stopped and their data is deleted.
pub struct Servers {
    folder: PathBuf,
    launcher: Launcher,
    postgres: String,
    redis: String,
    nats: String,
    databases: String,
    ca_file: Option<PathBuf>,
}

enum Launcher {
    Native(Mutex<Vec<(ProcessSpec, Option<Process>)>>),
    Compose(Compose),
}

/// The servers of `docker-compose.yml`, in their own Compose project.
struct Compose {
    project: String,
    ports: [u16; 3],
}

impl Compose {
    fn command(&self, arguments: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new("docker");
        command
            .args(["compose", "--project-name", &self.project])
            .args(["-f", "docker-compose.yml", "-f", "deploy/compose.test.yml"])
            .args(arguments)
            .current_dir(root)
            .env("POSTGRES_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, port) in ALL.into_iter().zip(self.ports) {
            let name = format!("STOA_TEST_{}_PORT", name.to_uppercase());
            command.env(name, port.to_string());
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> bool {
        self.command(arguments)
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.run(&["down", "--volumes", "--timeout", "0"]);
    }
}

fn is_native() -> bool {
    PROGRAMS.into_iter().all(|program| find(program).is_some())
}

fn has_engine() -> bool {
    let answers = |arguments: &[&str]| {
        let asked = Command::new("docker")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    answers(&["info"]) && answers(&["compose", "version"])
}

/// Whether tests against real servers can run. If not, a message says so; under
/// `CI=true` that is a failure.
pub fn available() -> bool {
    is_native()
        || has_engine()
        || skip(
            "PostgreSQL, Redis and NATS",
            "install postgresql, redis-server and nats-server, or start Docker",
        )
}

/// Whether a shop with replicas can run, which also needs a proxy.
pub fn replicas_available() -> bool {
    available() && (find("nginx").is_some() || skip("replicas behind nginx", "install nginx"))
}

/// Whether TLS can be tested, which needs native servers.
pub fn tls_available() -> bool {
    is_native() || skip("TLS", "install postgresql, redis-server and nats-server")
}

fn skip(what: &str, advice: &str) -> bool {
    let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!must, "the tests of {what} cannot run: {advice}");
    eprintln!("SKIPPED: the tests of {what}: {advice}");
    false
}

impl Servers {
    /// Starts all three, with their data in a folder.
    pub fn start(folder: &Path) -> Self {
        Self::start_some(folder, &ALL)
    }

    /// Starts all three with TLS and passwords.
    pub fn start_secure(folder: &Path) -> Self {
        Self::launch(folder, &ALL, Some(Tls::make(folder)))
    }

    /// Starts some of them.
    pub fn start_some(folder: &Path, which: &[&str]) -> Self {
        Self::launch(folder, which, None)
    }

    fn launch(folder: &Path, which: &[&str], tls: Option<Tls>) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for the servers");
        let ports = [free_port(), free_port(), free_port()];
        let databases = format!("stoa_{}", uuid::Uuid::now_v7().simple());
        let launcher = if is_native() {
            let start = |name: &&str| {
                let spec = match *name {
                    "postgres" => postgres(folder, ports[0], tls.as_ref()),
                    "redis" => redis(folder, ports[1], tls.as_ref()),
                    _ => nats(folder, ports[2], tls.as_ref()),
                };
                let process = spec.start();
                (spec, Some(process))
            };
            Launcher::Native(Mutex::new(which.iter().map(start).collect()))
        } else {
            let compose = Compose {
                project: databases.replace('_', "-"),
                ports,
            };
            let up = [&["up", "--detach", "--wait"], which].concat();
            assert!(compose.run(&up), "docker compose up");
            Launcher::Compose(compose)
        };
        let servers = Self {
            folder: folder.to_owned(),
            launcher,
            postgres: format!("postgres://stoa:{PASSWORD}@127.0.0.1:{}", ports[0]),
            redis: match tls {
                Some(_) => format!("rediss://:{PASSWORD}@127.0.0.1:{}", ports[1]),
                None => format!("redis://127.0.0.1:{}", ports[1]),
            },
            nats: match tls {
                Some(_) => format!("tls://stoa:{PASSWORD}@127.0.0.1:{}", ports[2]),
                None => format!("nats://127.0.0.1:{}", ports[2]),
            },
            databases,
            ca_file: tls.map(|tls| tls.ca),
        };
        for name in which {
            servers.wait(name);
        }
        if which.contains(&"postgres") {
            servers.create_databases();
        }
        servers
    }

    fn create_databases(&self) {
        for service in SERVICES {
            self.create_database(service);
        }
    }

    /// Creates a database; returns its URL.
    pub fn create_database(&self, name: &str) -> String {
        let made = self.psql(&format!("CREATE DATABASE {}_{name}", self.databases));
        assert!(made, "a database is created");
        self.database(name)
    }

    pub fn database(&self, name: &str) -> String {
        format!("{}/{}_{name}", self.postgres, self.databases)
    }

    /// The certificate authority of servers with TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    pub fn nats(&self) -> &str {
        &self.nats
    }

    pub fn redis(&self) -> &str {
        &self.redis
    }

    fn psql(&self, statement: &str) -> bool {
        let query = ["--quiet", "--no-psqlrc", "--command", statement];
        let mut psql = match &self.launcher {
            Launcher::Compose(compose) => {
                let inside = ["exec", "--no-TTY", "postgres", "psql", "--username=stoa"];
                compose.command(&[&inside[..], &query].concat())
            }
            Launcher::Native(_) => {
                let mut psql = Command::new(find("psql").expect("psql comes with PostgreSQL"));
                psql.args(query).arg(format!("{}/postgres", self.postgres));
                psql.stdout(Stdio::null()).stderr(Stdio::null());
                psql
            }
        };
        psql.status().is_ok_and(|status| status.success())
    }

    /// The settings with which a shop uses these servers.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = SERVICES
            .iter()
            .map(|service| {
                let name = format!("STOA_{}_DATABASE_URL", service.to_uppercase());
                (name, self.database(service))
            })
            .collect();
        settings.push(("STOA_BUS_URL".to_owned(), self.nats.clone()));
        settings.push(("STOA_CACHE_URL".to_owned(), self.redis.clone()));
        // Two replicas of four services must share PostgreSQL's 100 connections.
        settings.push(("STOA_DATABASE_POOL".to_owned(), "8".to_owned()));
        settings
    }

    /// Kills one with SIGKILL: `postgres`, `redis` or `nats`.
    pub fn kill(&self, name: &str) {
        match &self.launcher {
            Launcher::Compose(compose) => {
                compose.run(&["kill", "--signal", "KILL", name]);
            }
            Launcher::Native(running) => {
                let mut running = running.lock().unwrap();
                for (_, process) in running.iter_mut().filter(|(spec, _)| spec.name == name) {
                    if let Some(process) = process.take() {
                        process.signal("KILL");
                        process.wait(START_TIMEOUT);
                    }
                }
            }
        }
    }

    /// Restarts one on the same port with the same data.
    pub fn restart(&self, name: &str) {
        match &self.launcher {
            Launcher::Compose(compose) => {
                assert!(compose.run(&["up", "--detach", "--wait", name]), "{name}");
            }
            Launcher::Native(running) => {
                let mut running = running.lock().unwrap();
                for (spec, process) in running.iter_mut().filter(|(spec, _)| spec.name == name) {
                    // A postmaster refuses to start while backends of the killed one live.
                    wait_until(name, START_TIMEOUT, || {
                        let started = spec.start();
                        std::thread::sleep(Duration::from_millis(300));
                        let lives = started.is_running();
                        *process = Some(started);
                        lives
                    });
                }
            }
        }
        self.wait(name);
    }

    fn wait(&self, name: &str) {
        let log = self.folder.join(format!("{name}.log"));
        let started = Instant::now();
        loop {
            let is_there = match name {
                "postgres" => self.psql("SELECT 1"),
                "redis" => connects(&self.redis),
                _ => connects(&self.nats),
            };
            if is_there {
                return;
            }
            assert!(
                started.elapsed() < START_TIMEOUT,
                "{name} does not start:\n{}",
                tail(&log)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Launcher::Native(running) = &self.launcher {
            running.lock().unwrap().clear();
        }
        if std::env::var_os("STOA_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn connects(url: &str) -> bool {
    let address = url.rsplit(['/', '@']).next().unwrap_or_default();
    std::net::TcpStream::connect(address).is_ok()
}
