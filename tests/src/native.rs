//! Starts PostgreSQL, Redis and NATS as native processes, with or without TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{ProcessSpec, find};

pub(crate) const PASSWORD: &str = "secret";

fn spec(folder: &Path, name: &str, program: &str, arguments: Vec<String>) -> ProcessSpec {
    ProcessSpec {
        name: name.to_owned(),
        program: find(program).unwrap_or_else(|| panic!("{program} is installed")),
        arguments,
        environment: Vec::new(),
        folder: folder.to_owned(),
        signal: "KILL",
    }
}

pub(crate) fn postgres(folder: &Path, port: u16, tls: Option<&Tls>) -> ProcessSpec {
    let data = folder.join("postgres");
    let display = data.display().to_string();
    std::fs::create_dir_all(&data).expect("a data folder");
    let password_file = folder.join("password");
    std::fs::write(&password_file, PASSWORD).expect("a password file");
    let initdb = find("initdb").expect("initdb comes with PostgreSQL");
    let initdb = [
        initdb.display().to_string(),
        "--pgdata".to_owned(),
        display.clone(),
        "--username=stoa".to_owned(),
        "--auth=scram-sha-256".to_owned(),
        format!("--pwfile={}", password_file.display()),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--no-sync".to_owned(),
    ];
    let server = find("postgres").expect("postgres is installed");
    // Listen on loopback TCP only, and keep the socket in the test's own folder.
    let mut serve = vec![
        server.display().to_string(),
        "-D".to_owned(),
        display.clone(),
        "-p".to_owned(),
        port.to_string(),
        "-k".to_owned(),
        display.clone(),
        "-c".to_owned(),
        "listen_addresses=127.0.0.1".to_owned(),
    ];
    // The server's user must own the key, so it gets a copy.
    if let Some(tls) = tls {
        let owned = tls.copy_key_to(&data.with_extension("key"));
        for setting in [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", tls.certificate.display()),
            format!("ssl_key_file={}", owned.display()),
        ] {
            serve.extend(["-c".to_owned(), setting]);
        }
    }
    // PostgreSQL refuses to run as root, so switch to the `postgres` user.
    let as_user: Vec<String> = if is_root() {
        let own = Command::new("chown")
            .args(["-R", "postgres"])
            .arg(&data)
            .args(tls.map(|_| data.with_extension("key")))
            .status();
        assert!(own.is_ok_and(|status| status.success()), "chown postgres");
        allow_traversal(folder);
        [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]
        .map(str::to_owned)
        .into()
    } else {
        Vec::new()
    };
    let made = {
        let all: Vec<&String> = as_user.iter().chain(&initdb).collect();
        Command::new(all[0])
            .args(&all[1..])
            .current_dir("/")
            .output()
            .expect("initdb runs")
    };
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut all = as_user;
    all.extend(serve);
    ProcessSpec {
        // SIGQUIT, not SIGKILL: the postmaster then ends its backends too.
        signal: "QUIT",
        ..spec(folder, "postgres", &all.remove(0), all)
    }
}

pub(crate) fn redis(folder: &Path, port: u16, tls: Option<&Tls>) -> ProcessSpec {
    let arguments = [
        if tls.is_some() {
            "--tls-port"
        } else {
            "--port"
        },
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        &folder.display().to_string(),
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    if let Some(tls) = tls {
        arguments.extend(["--port", "0", "--tls-auth-clients", "no"].map(str::to_owned));
        arguments.extend(["--requirepass".to_owned(), PASSWORD.to_owned()]);
        for (name, path) in [
            ("--tls-cert-file", &tls.certificate),
            ("--tls-key-file", &tls.key),
            ("--tls-ca-cert-file", &tls.ca),
        ] {
            arguments.extend([name.to_owned(), path.display().to_string()]);
        }
    }
    spec(folder, "redis", "redis-server", arguments)
}

pub(crate) fn nats(folder: &Path, port: u16, tls: Option<&Tls>) -> ProcessSpec {
    let arguments = [
        "-a",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-js",
        "-sd",
        &folder.join("nats").display().to_string(),
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    if let Some(tls) = tls {
        arguments.extend(["--user", "stoa", "--pass", PASSWORD, "--tls"].map(str::to_owned));
        arguments.push(format!("--tlscert={}", tls.certificate.display()));
        arguments.push(format!("--tlskey={}", tls.key.display()));
    }
    spec(folder, "nats", "nats-server", arguments)
}

/// A certificate authority of our own and a server certificate.
pub(crate) struct Tls {
    pub ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    pub fn make(folder: &Path) -> Self {
        let folder = folder.join("tls");
        std::fs::create_dir_all(&folder).expect("a folder for certificates");
        let openssl = |arguments: &[&str]| {
            let done = Command::new("openssl")
                .args(arguments)
                .current_dir(&folder)
                .output()
                .expect("openssl is installed");
            assert!(
                done.status.success(),
                "{}",
                String::from_utf8_lossy(&done.stderr)
            );
        };
        let new = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=Test authority"];
        authority.extend(new);
        authority.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        openssl(&authority);
        let mut request = vec!["req", "-subj", "/CN=localhost", "-addext"];
        request.push("subjectAltName=IP:127.0.0.1,DNS:localhost");
        request.extend(new);
        request.extend(["-keyout", "server.key", "-out", "server.csr"]);
        openssl(&request);
        openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
            "-out",
            "server.pem",
        ]);
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
        }
    }

    /// PostgreSQL accepts only a key that its user owns and no other user can read.
    fn copy_key_to(&self, path: &Path) -> PathBuf {
        std::fs::copy(&self.key, path).expect("the key is copied");
        let _ = Command::new("chmod").arg("600").arg(path).status();
        path.to_owned()
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

/// Lets the `postgres` user traverse our temporary folders.
fn allow_traversal(folder: &Path) {
    let tls = folder.join("tls");
    for folder in [Some(folder), folder.parent(), Some(&*tls)]
        .into_iter()
        .flatten()
    {
        let _ = Command::new("chmod")
            .arg("a+x")
            .arg(folder)
            .stderr(Stdio::null())
            .status();
    }
    // `initdb` runs as that user and must read the password.
    let _ = Command::new("chmod")
        .arg("a+r")
        .arg(folder.join("password"))
        .status();
}
