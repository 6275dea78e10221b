//! Development commands: `cargo xtask --help`.

mod coverage;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  test      everything: the page's tests, clients from npm, all Rust tests, and the
            page in a real browser; installs what it needs if run as root
  check     formatting, clippy, the architecture, and the tests of the crates with
            changes since the last commit of main (or uncommitted)
  coverage  the share of lines that the tests run, for each crate, as a table; installs
            cargo-llvm-cov if it is missing
  lint      formatting, clippy and cargo doc, with warnings as errors
  docs      writes docs/configuration.md from the table of settings
  schema    regenerates schema/*.graphql from the code
  cluster   two replicas of each role behind nginx, over private PostgreSQL, Redis
            and NATS; deleted on Ctrl-C
  load      10,000 orders by 50 clients while one call in a hundred fails, on SQLite
            and on PostgreSQL: orders per second, and the report of stoa doctor
  measure   the figures of docs/measurements.md, on this machine
";

type Done = Result<(), String>;

fn main() -> ExitCode {
    let command = env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "test" => test(),
        "check" => check(),
        "coverage" => coverage::coverage(),
        "lint" => lint(),
        "schema" => schema(),
        "docs" => docs(),
        "measure" => measure(),
        "cluster" => cluster(),
        "load" => load(),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command \"{other}\"\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Runs a program in a folder of the project, passing its output through.
fn run(folder: &str, program: &str, arguments: &[&str]) -> Done {
    run_with(folder, program, arguments, &[])
}

fn run_with(
    folder: &str,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> Done {
    println!("\n== {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(root().join(folder))
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} {} failed", arguments.join(" ")))
    }
}

fn test() -> Done {
    for folder in ["web-playground", "tests/clients"] {
        run(
            folder,
            "npm",
            &["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        )?;
    }
    run(
        "web-playground",
        "npx",
        &["--no-install", "tsc", "--noEmit"],
    )?;
    run("web-playground", "npx", &["--no-install", "vitest", "run"])?;
    install_servers();
    run(".", "cargo", &["build", "--workspace", "--all-targets"])?;
    // Test the binary that was just built, with the features that the tests enable.
    let with = [("STOA_BINARY", binary("debug"))];
    run_with(".", "cargo", &["test", "--workspace"], &with)?;
    run("tests/clients", "node", &["compose.mjs", &binary("debug")])?;
    run("tests/clients", "node", &["audit.mjs", &binary("debug")])?;
    foreign()?;
    browser()
}

/// The conformance suite on supergraph files that another composer produced.
fn foreign() -> Done {
    let folder = root().join("target/foreign").display().to_string();
    run(
        "tests/clients",
        "node",
        &["foreign.mjs", "../federation/cases", &folder],
    )?;
    let arguments = ["-p", "stoa-federation-tests", "--test", "conformance"];
    run_with(
        ".",
        "cargo",
        &[&["test"], &arguments[..]].concat(),
        &[("STOA_SUPERGRAPHS", folder)],
    )
}

/// Tests the page in Chromium. Without Chromium, and if it cannot be installed, the
/// test is skipped with a message; under `CI=true` that is a failure.
fn browser() -> Done {
    let found = chromium().or_else(|| {
        install_chromium();
        chromium()
    });
    match found {
        Some(path) => run(
            "tests/clients",
            "node",
            &["browser.mjs", &binary("debug"), &path],
        ),
        None if env::var("CI").is_ok_and(|ci| ci == "true") => {
            Err("no Chromium: the page was not tested".to_owned())
        }
        None => {
            println!("\nSKIPPED: the page in a browser (install Chromium, or set CHROMIUM)");
            Ok(())
        }
    }
}

fn chromium() -> Option<String> {
    let named = env::var("CHROMIUM").ok();
    named
        .into_iter()
        .chain(
            [
                "/usr/bin/chromium",
                "/usr/bin/chromium-browser",
                "/usr/bin/google-chrome",
            ]
            .map(str::to_owned),
        )
        .find(|path| Path::new(path).exists())
}

fn install_chromium() {
    install(&["chromium", "fonts-dejavu-core"]);
}

/// Installs PostgreSQL, Redis, NATS and nginx if they are missing and we can. Tests
/// that still miss one are skipped with a message.
fn install_servers() {
    let missing: Vec<&str> = [
        ("postgresql", "/usr/lib/postgresql"),
        ("redis-server", "/usr/bin/redis-server"),
        ("nats-server", "/usr/sbin/nats-server"),
        ("nginx-light", "/usr/sbin/nginx"),
        ("openssl", "/usr/bin/openssl"),
    ]
    .into_iter()
    .filter(|(_, path)| !Path::new(path).exists())
    .map(|(package, _)| package)
    .collect();
    if !missing.is_empty() {
        install(&missing);
    }
}

/// Installs distribution packages, if run as root on a system with apt.
fn install(packages: &[&str]) {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    if is_root && Path::new("/usr/bin/apt-get").exists() {
        let quiet = [("DEBIAN_FRONTEND", "noninteractive".to_owned())];
        let _ = run_with("/", "apt-get", &["update", "-qq"], &quiet);
        let options = ["install", "-y", "-qq", "--no-install-recommends"];
        let _ = run_with("/", "apt-get", &[&options, packages].concat(), &quiet);
    }
}

fn binary(profile: &str) -> String {
    let target = env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    target.join(profile).join("stoa").display().to_string()
}

fn lint() -> Done {
    format_and_clippy()?;
    let document = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    let with = [(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private-intra-doc-links".to_owned(),
    )];
    run_with(".", "cargo", &document, &with)
}

/// What to run before a commit: the checks that are fast when warm.
fn check() -> Done {
    format_and_clippy()?;
    let architecture = ["test", "-p", "stoa-tests", "--test", "architecture"];
    run(".", "cargo", &architecture)?;
    let changed = changed_packages()?;
    if changed.is_empty() {
        println!("\nno crate has changes: no further tests");
        return Ok(());
    }
    let packages = changed.iter().flat_map(|name| ["-p", name]);
    let arguments: Vec<_> = ["test"].into_iter().chain(packages).collect();
    run(".", "cargo", &arguments)
}

/// Crates with a changed file, without those that boot whole systems.
fn changed_packages() -> Result<Vec<String>, String> {
    const WHOLE_SYSTEMS: [&str; 2] = ["stoa-tests", "stoa-federation-tests"];
    let mut files = String::new();
    // On a branch, all of the branch; on main itself only what is uncommitted.
    let since = git(&["merge-base", "HEAD", "main"]).unwrap_or_else(|_| "HEAD".to_owned());
    files += &git(&["diff", "--name-only", since.trim()])?;
    files += &git(&["ls-files", "--others", "--exclude-standard"])?;
    let mut names: Vec<_> = files
        .lines()
        .filter_map(|file| package_of(&root().join(file)))
        .filter(|name| !WHOLE_SYSTEMS.contains(&name.as_str()))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The name in the nearest manifest above a file, within the project.
fn package_of(file: &Path) -> Option<String> {
    let root = root();
    let folders = file.ancestors().skip(1);
    let mut within = folders.take_while(|folder| folder.starts_with(&root));
    let manifest = within.find_map(|folder| fs::read_to_string(folder.join("Cargo.toml")).ok())?;
    let package = manifest.split("[package]").nth(1)?;
    let name = package
        .lines()
        .find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim_matches('"').to_owned())
}

fn format_and_clippy() -> Done {
    run(".", "cargo", &["fmt", "--all", "--check"])?;
    run(
        ".",
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )
}

/// The reference of settings, from the binary that reads them.
fn docs() -> Done {
    run(".", "cargo", &["build"])?;
    let output = Command::new(binary("debug"))
        .args(["config", "docs"])
        .output()
        .map_err(|error| format!("cannot run stoa: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let path = root().join("docs/configuration.md");
    fs::write(&path, output.stdout)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn schema() -> Done {
    run(".", "cargo", &["build", "--workspace"])?;
    for name in ["users", "products", "orders", "notifications", ""] {
        let mut command = Command::new(binary("debug"));
        command.args(["schema", "print"]);
        if !name.is_empty() {
            command.arg(name);
        }
        let output = command
            .output()
            .map_err(|error| format!("cannot run stoa: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let file = if name.is_empty() { "supergraph" } else { name };
        let path = root().join(format!("schema/{file}.graphql"));
        std::fs::write(&path, output.stdout)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Builds everything that a cluster needs; returns the path of the program that runs it.
fn cluster_program() -> Result<String, String> {
    program_of_tests("cluster")
}

/// Builds a program of the tests crate and the release binary that it starts.
fn program_of_tests(name: &str) -> Result<String, String> {
    install_servers();
    run(".", "cargo", &["build", "--release"])?;
    let tests = ["build", "--package", "stoa-tests", "--bin", name];
    run(".", "cargo", &tests)?;
    let stoa = PathBuf::from(binary("debug"));
    Ok(stoa.with_file_name(name).display().to_string())
}

fn load() -> Done {
    let program = program_of_tests("load")?;
    for set in ["one", "real"] {
        run_with(".", &program, &[set], &[("STOA_BINARY", binary("release"))])?;
    }
    Ok(())
}

fn cluster() -> Done {
    let program = cluster_program()?;
    run_with(".", &program, &[], &[("STOA_BINARY", binary("release"))])
}

fn measure() -> Done {
    let program = cluster_program()?;
    run(
        "tests/clients",
        "node",
        &["measure.mjs", &binary("release"), &program],
    )
}
