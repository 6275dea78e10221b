//! Settings and commands as an operator meets them: everything wrong is reported at
//! once, and nothing is opened or created before.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use stoa_tests::process::bare_command;
use stoa_tests::shop;
use tempfile::TempDir;

/// A folder of its own, deleted when the test ends.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn stoa(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        bare_command(shop::binary())
            .args(arguments)
            .current_dir(self.0.path())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

pub fn everything_wrong_is_reported_at_once() {
    let scratch = Scratch::new();
    let wrong = [
        ("STOA_LOG", "stoa=loud"),
        ("STOA_LOG_FORMAT", "xml"),
        ("STOA_CORS_ORIGINS", "https://shop.example,*"),
        ("STOA_BATCH_LIMIT", "many"),
        ("STOA_DATABASE_POOL", "0"),
        ("STOA_BUS_URL", "amqp://user:hunter2@host"),
        ("STOA_CACHE_URL", "memcached://x"),
        ("STOA_USERS_DATABASE_URL", "mysql://x/y"),
        ("STOA_ORDERS_URL", "orders:3003"),
        ("STOA_PAYMENTS", "stripe"),
        ("STOA_RATES_FILE", "/no/such/file"),
        ("STOA_TRUSTED_PROXIES", "everybody"),
    ];
    let output = scratch.stoa(&["up", "--listen", "0"], &wrong);
    assert!(!output.status.success());
    let text = errors(&output);
    // Of Stripe, both secrets are missing; of what may hold a password, only the scheme
    // is shown.
    let stripe = ["STOA_STRIPE_SECRET_KEY", "STOA_STRIPE_WEBHOOK_SECRET"];
    let names = wrong.iter().map(|(name, _)| *name);
    for name in names.filter(|name| *name != "STOA_PAYMENTS").chain(stripe) {
        assert!(text.contains(&format!("\n  {name}")), "{name}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(is_empty(scratch.0.path()), "nothing was created");
}

pub fn production_names_all_that_is_missing() {
    let scratch = Scratch::new();
    let production = [("STOA_ENV", "production")];
    let text = errors(&scratch.stoa(&["up", "--listen", "0"], &production));
    for name in [
        "STOA_INTERNAL_SECRET",
        "STOA_CURSOR_SECRET",
        "STOA_SIGNING_KEY_FILE",
        "STOA_PAYMENTS",
    ] {
        assert!(text.contains(&format!("\n  {name}: not set")), "{text}");
    }
    // A role is asked for what it needs, and no more.
    let text = errors(&scratch.stoa(&["subgraph", "products"], &production));
    assert!(
        text.starts_with("stoa: STOA_INTERNAL_SECRET: not set"),
        "{text}"
    );
    assert!(is_empty(scratch.0.path()), "nothing was created");
}

pub fn commands_create_no_folder() {
    let scratch = Scratch::new();
    for arguments in [
        &["events", "dead"][..],
        &["events", "replay", "--all"],
        &["doctor"],
        &["users", "add", "--email", "a@b.cd"],
        &[
            "users",
            "add",
            "--email",
            "a@b.cd",
            "--data-dir",
            "elsewhere",
        ],
    ] {
        let output = scratch.stoa(arguments, &[]);
        assert!(!output.status.success(), "{arguments:?}");
        let text = errors(&output);
        assert!(text.contains("there is no "), "{arguments:?}: {text}");
        assert!(is_empty(scratch.0.path()), "{arguments:?}");
    }
    let migrated = scratch.stoa(&["migrate", "--data-dir", "kept"], &[]);
    assert!(migrated.status.success(), "{}", errors(&migrated));
    let dead = scratch.stoa(&["events", "dead", "--data-dir", "kept"], &[]);
    assert_eq!(printed(&dead).trim(), "no dead letters");
}

pub fn a_file_may_hold_what_the_environment_may() {
    let scratch = Scratch::new();
    let text = "database_pool = 7\ncors_origins = [\"https://a.example\", \"https://b.example\"]\nstripe_secret_key = \"sk_test_0123456789abcdef\"\ndatabase_poll = 3\n";
    std::fs::write(scratch.file("stoa.toml"), text).unwrap();
    let check = &["config", "check"][..];
    let output = scratch.stoa(check, &[("STOA_BATCH_LIMIT", "5")]);
    let shown = printed(&output);
    assert!(output.status.success(), "{shown}{}", errors(&output));
    for part in [
        "7  (file)",
        "https://a.example,https://b.example  (file)",
        "5  (environment)",
        "(hidden)  (file)",
        "did you mean STOA_DATABASE_POOL?",
        "the settings are valid",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("sk_test"), "{shown}");
    // The environment wins.
    let output = scratch.stoa(check, &[("STOA_DATABASE_POOL", "0")]);
    assert!(errors(&output).contains("\"0\" is no number from 1 to 1000"));
    // One that was named must be there.
    let named = scratch.stoa(&["--config", "none.toml", "config", "check"], &[]);
    assert!(errors(&named).contains("none.toml"), "{}", errors(&named));
}

pub fn the_reference_is_the_table() {
    let scratch = Scratch::new();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    assert_eq!(
        printed(&scratch.stoa(&["config", "docs"], &[])),
        std::fs::read_to_string(committed).unwrap_or_default(),
        "docs/configuration.md differs from the table: run `cargo xtask docs`"
    );
}

pub fn a_closed_pipe_ends_a_command_quietly() {
    let scratch = Scratch::new();
    let mut child = Command::new(shop::binary())
        .args(["schema", "print"])
        .current_dir(scratch.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before anything is read.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!errors(&output).contains("panicked"), "{}", errors(&output));
    assert!(output.status.success());
}
