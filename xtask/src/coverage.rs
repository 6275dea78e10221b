//! `cargo xtask coverage`: which lines the tests run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Done, install_servers, root, run, run_with};

type Variables = Vec<(String, String)>;

/// Runs all Rust tests on instrumented code and prints the lines that they ran.
///
/// Not part of `test`: it builds everything a second time.
pub fn coverage() -> Done {
    if llvm_cov(&["--version"], &[]).is_err() {
        run(".", "cargo", &["install", "cargo-llvm-cov", "--locked"])?;
    }
    install_servers();
    let target = root().join("target/coverage");
    let binary = target.join("debug/stoa");
    let environment = environment(&target, &binary)?;
    let with: Vec<(&str, String)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    remove_profiles(&target)?;
    let build = ["build", "--workspace", "--all-targets"];
    run_with(".", "cargo", &build, &with)?;
    run_with(".", "cargo", &["test", "--workspace"], &with)?;
    let report = ["report", "--workspace", "--summary-only"];
    print_by_crate(&llvm_cov(&report, &environment)?)
}

/// Instruments our crates, and lets processes write their counters as they run, since
/// tests kill them.
fn environment(target: &Path, binary: &Path) -> Result<Variables, String> {
    let target = target.display().to_string();
    let own = vec![("CARGO_TARGET_DIR".to_owned(), target.clone())];
    let printed = llvm_cov(&["show-env"], &own)?;
    let pairs = printed.lines().filter_map(|line| line.split_once('='));
    let mut variables: Variables = pairs
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    variables.extend(own);
    for (name, value) in [
        ("STOA_BINARY", binary.display().to_string()),
        ("LLVM_PROFILE_FILE", format!("{target}/stoa-%p%c.profraw")),
        (
            "RUSTFLAGS",
            "-Cllvm-args=-runtime-counter-relocation".to_owned(),
        ),
    ] {
        variables.retain(|(other, _)| other != name);
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// Removes the counters of earlier runs.
fn remove_profiles(target: &Path) -> Done {
    let entries = fs::read_dir(target).into_iter().flatten().flatten();
    let profiles = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|name| name == "profraw"));
    for path in profiles {
        fs::remove_file(&path).map_err(|error| format!("cannot remove {path:?}: {error}"))?;
    }
    Ok(())
}

fn llvm_cov(arguments: &[&str], environment: &[(String, String)]) -> Result<String, String> {
    let output = Command::new("cargo")
        .arg("llvm-cov")
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Sums the report, a table with a line for each file, by crate.
fn print_by_crate(report: &str) -> Done {
    let mut crates: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for line in report.lines() {
        // File, then three columns each for regions, functions and lines.
        let columns: Vec<_> = line.split_whitespace().collect();
        let [file, _, _, _, _, _, _, lines, missed, ..] = columns[..] else {
            continue;
        };
        let (Ok(lines), Ok(missed)) = (lines.parse::<u64>(), missed.parse::<u64>()) else {
            continue;
        };
        // The root crate's files stand in `src`; what is not shipped does not count.
        let name = match file.split_once("/src/") {
            Some(("xtask", _)) => continue,
            Some((name, _)) => name,
            None if file.starts_with("src/") => "stoa (src)",
            None => continue,
        };
        let sum = crates.entry(name).or_default();
        sum[0] += lines;
        sum[1] += missed;
    }
    if crates.is_empty() {
        return Err(format!("cargo llvm-cov reported no file:\n{report}"));
    }
    let all = crates
        .values()
        .fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    println!("\n| crate | lines | run by tests |\n|---|---|---|");
    for (name, [lines, missed]) in crates.into_iter().chain([("all", all)]) {
        let per_mille = (lines - missed) * 1_000 / lines.max(1);
        println!(
            "| {name} | {lines} | {}.{} % |",
            per_mille / 10,
            per_mille % 10
        );
    }
    Ok(())
}
