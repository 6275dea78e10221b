//! The rules of ARCHITECTURE.md about modules. Each has a reason, which a
//! violation repeats.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::{Crate, Module, ModulePath};

pub struct Rule {
    pub name: &'static str,
    pub reason: &'static str,
    /// Returns what breaks the rule, and how many places were looked at.
    pub check: fn(&Crate) -> Checked,
    /// Whether it is about subgraphs alone.
    pub subgraphs_only: bool,
}

#[derive(Default)]
pub struct Checked {
    pub looked_at: usize,
    pub violations: Vec<String>,
}

pub const RULES: &[Rule] = &[
    Rule {
        name: "domain knows no I/O and no framework",
        reason: "a decision that needs neither a database nor a runtime can be tested as a table, \
                 and outlives both",
        check: domain_is_pure,
        subgraphs_only: true,
    },
    Rule {
        name: "graphql talks to app alone",
        reason: "authorization and transactions are in app; a resolver that reads rows passes both \
                 by",
        check: graphql_uses_app,
        subgraphs_only: true,
    },
    Rule {
        name: "app and store know no transport",
        reason: "the same use cases serve GraphQL, peers and background tasks",
        check: no_transport_below,
        subgraphs_only: true,
    },
    Rule {
        name: "transactions begin in app alone",
        reason: "what commits together is a decision of the use case; begun elsewhere, nobody sees \
                 two that should be one",
        check: transactions_in_app,
        subgraphs_only: true,
    },
    Rule {
        name: "no row leaves store",
        reason: "a column can be renamed or split without a change above the store",
        check: rows_stay,
        subgraphs_only: true,
    },
    Rule {
        name: "every subgraph has the same shape",
        reason: "an engineer who knows one subgraph knows all of them",
        check: same_shape,
        subgraphs_only: true,
    },
    Rule {
        name: "no two modules import each other in a circle",
        reason: "modules in a circle can only be understood, tested and moved together",
        check: no_circles,
        subgraphs_only: false,
    },
    Rule {
        name: "no file is longer than 500 lines",
        reason: "a file should have one subject; tables of cases and of rules may be longer",
        check: short_files,
        subgraphs_only: false,
    },
];

/// What the domain may use of other crates.
const PURE_CRATES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "serde",
    "serde_json",
    "thiserror",
    "stoa_schema",
    "strum",
];
const PURE_MODULES: &[(&str, &str)] = &[
    ("stoa_runtime", "clock"),
    ("stoa_runtime", "identity"),
    ("stoa_service", "problem"),
];
/// Crates that the rule about the domain would otherwise take for local names.
const CRATES: &[&str] = &[
    "async_graphql",
    "async_graphql_axum",
    "async_nats",
    "async_trait",
    "axum",
    "bytes",
    "futures_util",
    "http",
    "hyper",
    "moka",
    "redis",
    "reqwest",
    "sea_orm",
    "sqlx",
    "stoa_migrations",
    "stoa_runtime",
    "stoa_service",
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tower",
    "tower_http",
    "tracing",
];

/// Where a transaction may begin outside `app`, and why.
const OWN_RECORDS: &[(&str, &str)] = &[(
    "payment/sandbox",
    "the sandbox stands for an external provider: it keeps its own records, in transactions that \
     must not be those of the order",
)];

/// Longer files, and why.
const LONG_FILES: &[(&str, &str)] = &[];

fn place(krate: &Crate, module: &Module) -> String {
    format!("{} ({})", module.file.display(), krate.name)
}

fn within<'c>(
    krate: &'c Crate,
    layer: &'static str,
) -> impl Iterator<Item = (&'c ModulePath, &'c Module)> {
    krate
        .modules
        .iter()
        .filter(move |(path, _)| path.first().is_some_and(|first| first == layer))
}

/// Reports each mention that is not allowed.
fn mentions(
    krate: &Crate,
    layer: &'static str,
    is_forbidden: impl Fn(&[String]) -> bool,
) -> Checked {
    let mut checked = Checked::default();
    for (_, module) in within(krate, layer) {
        let mut seen = Vec::new();
        for path in &module.mentions {
            checked.looked_at += 1;
            if is_forbidden(path) && !seen.contains(path) {
                seen.push(path.clone());
                let place = place(krate, module);
                checked
                    .violations
                    .push(format!("{place} mentions {}", path.join("::")));
            }
        }
    }
    checked
}

fn is_local(path: &[String], layers: &[&str]) -> bool {
    path[0] == "crate" && path.get(1).is_some_and(|layer| layers.contains(&&**layer))
}

fn domain_is_pure(krate: &Crate) -> Checked {
    let mut checked = mentions(krate, "domain", |path| {
        if path[0] == "crate" {
            return path.get(1).is_some_and(|layer| layer != "domain");
        }
        let first = path[0].as_str();
        let module = path.get(1).map_or("", String::as_str);
        CRATES.contains(&first)
            && !PURE_CRATES.contains(&first)
            && !PURE_MODULES.contains(&(first, module))
    });
    for (_, module) in within(krate, "domain") {
        if module.is_async {
            let place = place(krate, module);
            checked.violations.push(format!("{place} is async"));
        }
    }
    checked
}

fn graphql_uses_app(krate: &Crate) -> Checked {
    mentions(krate, "graphql", |path| {
        is_local(
            path,
            &["store", "payment", "peer", "tasks", "config", "seed"],
        ) || matches!(path[0].as_str(), "sea_orm" | "sqlx")
    })
}

fn no_transport_below(krate: &Crate) -> Checked {
    let mut all = Checked::default();
    for (layer, above) in [
        ("app", &["graphql", "peer", "tasks", "config"][..]),
        ("store", &["app", "graphql", "peer", "tasks", "config"][..]),
    ] {
        let checked = mentions(krate, layer, |path| {
            is_local(path, above)
                || matches!(path[0].as_str(), "async_graphql" | "axum")
                || (path[0] == "stoa_service" && path.get(1).is_some_and(|m| m == "graphql"))
        });
        all.looked_at += checked.looked_at;
        all.violations.extend(checked.violations);
    }
    all
}

fn transactions_in_app(krate: &Crate) -> Checked {
    let mut checked = Checked::default();
    for (path, module) in &krate.modules {
        checked.looked_at += module.begins;
        let joined = path.join("/");
        let allowed = path.first().is_some_and(|layer| layer == "app")
            || OWN_RECORDS.iter().any(|(own, _)| joined.starts_with(own));
        if module.begins > 0 && !allowed {
            let place = place(krate, module);
            let count = module.begins;
            checked
                .violations
                .push(format!("{place} begins {count} transactions"));
        }
    }
    checked
}

fn rows_stay(krate: &Crate) -> Checked {
    let mut checked = Checked::default();
    for (path, module) in &krate.modules {
        let in_store = path.first().is_some_and(|layer| layer == "store");
        checked.looked_at += 1;
        if in_store {
            for function in &module.public_models {
                let place = place(krate, module);
                checked
                    .violations
                    .push(format!("{place}: {function} is public and names a row"));
            }
            if module.public_modules.iter().any(|name| name == "entity") {
                let place = place(krate, module);
                checked
                    .violations
                    .push(format!("{place}: entity is public"));
            }
        } else if module.mentions.iter().any(|mention| {
            is_local(mention, &["store"]) && mention.iter().any(|part| part == "entity")
        }) {
            let place = place(krate, module);
            checked
                .violations
                .push(format!("{place} mentions store::entity"));
        }
    }
    checked
}

fn same_shape(krate: &Crate) -> Checked {
    let mut checked = Checked::default();
    let has = |path: &[&str]| {
        let path: ModulePath = path.iter().map(|&part| part.to_owned()).collect();
        krate.modules.contains_key(&path)
    };
    let parts = [
        "config", "error", "domain", "app", "store", "graphql", "tasks",
    ];
    for part in parts {
        checked.looked_at += 1;
        if !has(&[part]) {
            checked
                .violations
                .push(format!("{} has no module {part}", krate.name));
        }
    }
    // A noun of the store has its use cases in app under the same name.
    for (path, module) in within(krate, "store") {
        if let [_, noun] = &path[..]
            && noun != "entity"
        {
            checked.looked_at += 1;
            if !has(&["app", noun]) {
                let place = place(krate, module);
                checked
                    .violations
                    .push(format!("{place} has no app/{noun}.rs"));
            }
        }
    }
    checked
}

fn no_circles(krate: &Crate) -> Checked {
    let mut edges: BTreeMap<&ModulePath, Vec<&ModulePath>> = BTreeMap::new();
    let mut looked_at = 0;
    for (path, module) in &krate.modules {
        for target in krate.targets(module) {
            let Some((target, _)) = krate.modules.get_key_value(&target) else {
                continue;
            };
            // A module and those within it are one thing, seen from outside.
            if path.starts_with(target) || target.starts_with(path) {
                continue;
            }
            looked_at += 1;
            edges.entry(path).or_default().push(target);
        }
    }
    let reaches = |from: &ModulePath, to: &ModulePath| {
        let mut seen: Vec<&ModulePath> = Vec::new();
        let mut next: Vec<&ModulePath> = edges.get(from).cloned().unwrap_or_default();
        while let Some(at) = next.pop() {
            if at == to {
                return true;
            }
            if !seen.contains(&at) {
                seen.push(at);
                next.extend(edges.get(at).into_iter().flatten());
            }
        }
        false
    };
    let mut violations = Vec::new();
    for (from, targets) in &edges {
        for to in targets {
            if reaches(to, from) {
                violations.push(format!(
                    "{}: {} -> {}, and back",
                    krate.name,
                    from.join("::"),
                    to.join("::")
                ));
            }
        }
    }
    Checked {
        looked_at,
        violations,
    }
}

fn short_files(krate: &Crate) -> Checked {
    let mut checked = Checked::default();
    for module in krate.modules.values() {
        checked.looked_at += 1;
        let allowed = LONG_FILES
            .iter()
            .any(|(file, _)| module.file.ends_with(Path::new(file)));
        if module.lines > 500 && !allowed {
            let place = place(krate, module);
            checked
                .violations
                .push(format!("{place} has {} lines", module.lines));
        }
    }
    checked
}
