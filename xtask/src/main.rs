//! Development commands: `cargo xtask --help`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  test      everything: the page's tests, clients from npm, all Rust tests, and the
            page in a real browser; installs what it needs where it has the rights
  lint      formatting, and clippy with warnings as errors
  schema    writes schema/*.graphql anew from the code
  measure   the figures of docs/measurements.md, on this machine
";

type Done = Result<(), String>;

fn main() -> ExitCode {
    let command = env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "test" => test(),
        "lint" => lint(),
        "schema" => schema(),
        "measure" => measure(),
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

/// Runs a program in a folder of the project, showing what it prints.
fn run(folder: &str, program: &str, arguments: &[&str]) -> Done {
    println!("\n== {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
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
    run(".", "cargo", &["build", "--workspace", "--all-targets"])?;
    run(".", "cargo", &["test", "--workspace"])?;
    browser()
}

/// The page in Chromium. Where there is none and none can be installed, that
/// is said; under `CI=true` it is a failure.
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
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    if is_root && Path::new("/usr/bin/apt-get").exists() {
        let _ = run("/", "apt-get", &["update", "-qq"]);
        let _ = run(
            "/",
            "apt-get",
            &[
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                "chromium",
                "fonts-dejavu-core",
            ],
        );
    }
}

fn binary(profile: &str) -> String {
    let target = env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    target.join(profile).join("stoa").display().to_string()
}

fn lint() -> Done {
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

fn schema() -> Done {
    run(".", "cargo", &["build", "--package", "stoa"])?;
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

fn measure() -> Done {
    run(".", "cargo", &["build", "--release"])?;
    run(
        "tests/clients",
        "node",
        &["measure.mjs", &binary("release")],
    )
}
