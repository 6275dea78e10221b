//! A child process that cannot outlive the test: it ends when it is dropped, and also
//! when the test is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the given command in its own session, so that Ctrl-C does not reach it, until
/// our end of the guard's standard input closes.
const GUARD: &str = r#"
trap '' INT TERM HUP
log=$1; pid=$2; signal=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
child=$!
echo "$child" >"$pid.new" && mv "$pid.new" "$pid"
cat >/dev/null
kill -s "$signal" "$child" 2>/dev/null
wait "$child" 2>/dev/null
"#;

/// How to start, and restart, a process.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Its whole environment, except `PATH`.
    pub environment: Vec<(String, String)>,
    /// The folder of its log and process id files.
    pub folder: PathBuf,
    /// The signal that ends it on drop.
    pub signal: &'static str,
}

impl ProcessSpec {
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Starts it, appending to its log.
    pub fn start(&self) -> Process {
        let id_file = self.folder.join(format!("{}.pid", self.name));
        let _ = std::fs::remove_file(&id_file);
        File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log file");
        let guard = bare_command("setsid")
            .args(["sh", "-c", GUARD, "guard"])
            .arg(self.log())
            .arg(&id_file)
            .arg(self.signal)
            .arg(&self.program)
            .args(&self.arguments)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh are there");
        let started = Instant::now();
        let id = loop {
            let text = std::fs::read_to_string(&id_file).unwrap_or_default();
            if let Ok(id) = text.trim().parse() {
                break id;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{} does not start",
                self.name
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        Process {
            spec: self.clone(),
            id,
            guard,
        }
    }
}

pub struct Process {
    pub spec: ProcessSpec,
    pub id: u32,
    guard: Child,
}

impl Process {
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .args(["-s", signal, &self.id.to_string()])
            .stderr(Stdio::null())
            .status();
    }

    pub fn is_running(&self) -> bool {
        // `ID (NAME) STATE ...`: a zombie still has an entry, but does not run.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id));
        let status = status.unwrap_or_default();
        let state = status.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    pub fn wait(&self, timeout: Duration) {
        let started = Instant::now();
        while self.is_running() {
            assert!(
                started.elapsed() < timeout,
                "{} does not end",
                self.spec.name
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A program that gets nothing of this process's environment but where to write its
/// coverage, under `cargo xtask coverage`.
pub fn bare_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", file);
    }
    command
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Finds a program on `PATH`, or where distributions install it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Polls until a condition holds; panics after the timeout.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < timeout, "{what}: not in {timeout:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last lines of a file.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
