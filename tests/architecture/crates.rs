//! Checks the dependency rules of ARCHITECTURE.md against `cargo metadata`: a
//! dependency that the table does not allow fails.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

/// The workspace crates that each workspace crate may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("stoa-schema", &[]),
    ("stoa-migrations", &[]),
    ("stoa-runtime", &[]),
    ("stoa-service", &["stoa-runtime", "stoa-schema"]),
    (
        "stoa-users",
        &[
            "stoa-runtime",
            "stoa-service",
            "stoa-schema",
            "stoa-migrations",
        ],
    ),
    (
        "stoa-products",
        &[
            "stoa-runtime",
            "stoa-service",
            "stoa-schema",
            "stoa-migrations",
        ],
    ),
    (
        "stoa-orders",
        &[
            "stoa-runtime",
            "stoa-service",
            "stoa-schema",
            "stoa-migrations",
        ],
    ),
    (
        "stoa-notifications",
        &[
            "stoa-runtime",
            "stoa-service",
            "stoa-schema",
            "stoa-migrations",
        ],
    ),
    ("stoa-federation", &[]),
    ("stoa-engine", &["stoa-federation"]),
    (
        "stoa-router",
        &["stoa-engine", "stoa-federation", "stoa-runtime"],
    ),
    // Independent of the shop's tests.
    ("stoa-federation-tests", &["stoa-engine", "stoa-federation"]),
    ("xtask", &[]),
];
/// Crates that `router/federation` must not depend on: it is pure and synchronous.
const IMPURE: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "reqwest",
    "futures",
    "futures-util",
    "async-trait",
];

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, check: fn()| {
        Trial::test(format!("crates::{name}"), move || {
            check();
            Ok(())
        })
    };
    vec![
        test("no edge that the table does not allow", edges_are_allowed),
        test("nothing depends on the tests", nothing_depends_on_the_tests),
        test("federation is pure", federation_is_pure),
        test("the router knows no shop", the_router_knows_no_shop),
    ]
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn dependencies(package: &Value) -> Vec<&str> {
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect()
}

fn edges_are_allowed() {
    let packages = packages();
    let ours: Vec<_> = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            assert!(
                matches!(name, "stoa" | "stoa-tests"),
                "{name} is not in the table"
            );
            continue;
        };
        for dependency in dependencies(package) {
            assert!(
                !ours.contains(&dependency) || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
    assert_eq!(ours.len(), ALLOWED.len() + 2);
}

fn nothing_depends_on_the_tests() {
    for package in packages() {
        for tests in ["stoa-tests", "stoa-federation-tests"] {
            assert!(!dependencies(&package).contains(&tests));
        }
    }
}

fn federation_is_pure() {
    let packages = packages();
    let federation = packages
        .iter()
        .find(|p| p["name"] == "stoa-federation")
        .unwrap();
    for dependency in dependencies(federation) {
        assert!(!IMPURE.contains(&dependency), "{dependency}");
    }
}

fn the_router_knows_no_shop() {
    let words = [
        "placeOrder",
        "orderStatusChanged",
        "stoa_refresh",
        "products",
        "notifications",
    ];
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../router"
    ))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Test fixtures may use the shop's words.
                if path.file_name().unwrap() != "tests" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for word in words {
                    assert!(!text.contains(word), "{} mentions {word}", path.display());
                }
            }
        }
    }
}
