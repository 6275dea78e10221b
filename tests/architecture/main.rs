//! The rules of ARCHITECTURE.md, checked on the sources: which crate and which
//! module may use which. Prints each rule with what it looked at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::panic, reason = "a test fails by panicking")]

mod crates;
mod rules;
mod source;
mod words;

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use rules::{Checked, RULES, Rule};
use source::Crate;

/// Every crate whose modules are checked, by folder.
const CRATES: &[&str] = &[
    ".",
    "schema",
    "migrations",
    "kit/runtime",
    "kit/service",
    "subgraphs/users",
    "subgraphs/products",
    "subgraphs/orders",
    "subgraphs/notifications",
    "router",
    "router/engine",
    "router/federation",
    "tests",
    "tests/federation",
    "xtask",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = crates::trials();
    trials.extend(words::trials());
    for rule in RULES {
        trials.push(Trial::test(format!("modules::{}", rule.name), || {
            holds(rule)
        }));
        trials.push(Trial::test(format!("broken::{}", rule.name), || {
            is_reported(rule)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn check(rule: &Rule, crates: &[Crate]) -> Checked {
    let mut all = Checked::default();
    for krate in crates {
        let checked = (rule.check)(krate);
        all.looked_at += checked.looked_at;
        all.violations.extend(checked.violations);
    }
    all
}

fn holds(rule: &Rule) -> Result<(), Failed> {
    let folders = CRATES
        .iter()
        .filter(|folder| !rule.subgraphs_only || folder.starts_with("subgraphs/"));
    let crates: Vec<_> = folders
        .map(|folder| Crate::read(folder, &root().join(folder).join("src")))
        .collect();
    let checked = check(rule, &crates);
    println!(
        "{}: {} crates, {} places looked at, {} violations",
        rule.name,
        crates.len(),
        checked.looked_at,
        checked.violations.len()
    );
    if checked.looked_at == 0 {
        return Err("nothing was looked at: the rule checks nothing".into());
    }
    if checked.violations.is_empty() {
        return Ok(());
    }
    let list = checked.violations.join("\n  ");
    Err(format!("{}\n  {list}\nreason: {}", rule.name, rule.reason).into())
}

/// A subgraph that breaks every rule: each must be reported.
fn is_reported(rule: &Rule) -> Result<(), Failed> {
    let src = root().join("tests/architecture/broken/src");
    let checked = (rule.check)(&Crate::read("broken", &src));
    if checked.violations.is_empty() {
        return Err(format!("\"{}\" was not reported", rule.name).into());
    }
    Ok(())
}
