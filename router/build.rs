//! Builds the page of `web-playground/` into the binary. Without Node the
//! binary is still built; `/` then shows a page that says what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let source = root.join("../web-playground");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("playground");
    for part in [
        "src",
        "index.html",
        "package.json",
        "package-lock.json",
        "vite.config.ts",
    ] {
        println!("cargo::rerun-if-changed={}", source.join(part).display());
    }
    println!("cargo::rerun-if-env-changed=STOA_SKIP_PLAYGROUND");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    if env::var_os("STOA_SKIP_PLAYGROUND").is_some() {
        return Ok(());
    }
    if Command::new("node").arg("--version").output().is_err() {
        println!("cargo::warning=Node.js is not installed: the playground is left out");
        try_again_next_time(&out);
        return Ok(());
    }
    if let Err(error) = build(&source, &out) {
        println!("cargo::warning=the playground is left out: {error}");
        try_again_next_time(&out);
        fs::remove_dir_all(&out)?;
        fs::create_dir_all(&out)?;
    }
    Ok(())
}

/// Watches a file that never exists: Cargo then runs this script at every build,
/// so that it notices when Node gets installed.
fn try_again_next_time(out: &Path) {
    println!("cargo::rerun-if-changed={}", out.join("never").display());
}

fn build(source: &Path, out: &Path) -> io::Result<()> {
    // Installed once for all profiles, and again when the lock file changes.
    let installed = source.join("node_modules/.package-lock.json");
    let newer = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if newer(&installed) < newer(&source.join("package-lock.json")) {
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(source))?;
    }
    run(Command::new("npx")
        .args(["--no-install", "vite", "build", "--emptyOutDir", "--outDir"])
        .arg(out)
        .current_dir(source))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
