//! Every setting, in one table: `stoa --help`, `stoa config check` and
//! `docs/configuration.md` are made from it.

use std::fmt::Write;

use super::row::{Group, Setting, secret, setting};
use super::subgraphs;

const DATABASE: &str =
    "sqlite://PATH, or postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full&sslrootcert=PEM";

use Group as G;

/// All settings, in the order in which they are shown within their groups.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(subgraphs::SETTINGS)
}

const SETTINGS: &[Setting] = &[
    setting(
        G::General,
        "STOA_ENV",
        "development, production",
        "development",
        "production refuses generated secrets and demo accounts, and must be given its secrets",
    ),
    setting(
        G::General,
        "STOA_DATA_DIR",
        "a folder",
        "./data",
        "databases and development secrets; --data-dir wins",
    ),
    secret(
        G::Databases,
        "STOA_USERS_DATABASE_URL",
        DATABASE,
        "users.db in the data folder",
        "the database of users",
    ),
    secret(
        G::Databases,
        "STOA_PRODUCTS_DATABASE_URL",
        DATABASE,
        "products.db in the data folder",
        "the database of products",
    ),
    secret(
        G::Databases,
        "STOA_ORDERS_DATABASE_URL",
        DATABASE,
        "orders.db in the data folder",
        "the database of orders",
    ),
    secret(
        G::Databases,
        "STOA_NOTIFICATIONS_DATABASE_URL",
        DATABASE,
        "notifications.db in the data folder",
        "the database of notifications",
    ),
    setting(
        G::Databases,
        "STOA_DATABASE_POOL",
        "1 to 1000",
        "10",
        "connections to each PostgreSQL database",
    ),
    secret(
        G::EventBus,
        "STOA_BUS_URL",
        "embedded:, nats://[USER:PASSWORD@]HOST, tls://HOST",
        "embedded:",
        "the event bus: in the data folder, or NATS JetStream",
    ),
    setting(
        G::EventBus,
        "STOA_BUS_CREDENTIALS_FILE",
        "a file",
        "none",
        "NATS credentials",
    ),
    setting(
        G::EventBus,
        "STOA_BUS_CA_FILE",
        "a PEM file",
        "the system's",
        "the certificate authority of NATS",
    ),
    setting(
        G::EventBus,
        "STOA_BUS_REPLICAS",
        "1 to 5",
        "1",
        "replicas of each NATS stream",
    ),
    secret(
        G::Cache,
        "STOA_CACHE_URL",
        "memory:, redis://[USER:PASSWORD@]HOST, rediss://HOST",
        "memory:",
        "cached values and rate-limit counts, shared by all replicas if in Redis",
    ),
    setting(
        G::Cache,
        "STOA_CACHE_CA_FILE",
        "a PEM file",
        "the system's",
        "the certificate authority of Redis",
    ),
    setting(
        G::Router,
        "STOA_CORS_ORIGINS",
        "origins such as https://shop.example, separated by commas",
        "none",
        "pages of other origins that may call",
    ),
    setting(
        G::Router,
        "STOA_RATE_LIMIT",
        "on, off",
        "on",
        "off is for development",
    ),
    setting(
        G::Router,
        "STOA_TRUSTED_PROXIES",
        "addresses and networks such as 10.0.0.0/8, separated by commas",
        "none",
        "proxies whose X-Forwarded-For is trusted",
    ),
    setting(
        G::Router,
        "STOA_BATCH_LIMIT",
        "0 to 1000",
        "0",
        "requests that one body may hold as a list; 0 refuses lists",
    ),
    setting(
        G::Router,
        "STOA_COST_LIMIT",
        "1 to 1000000000000",
        "20000",
        "what an operation of a signed-in caller may cost (docs/api.md)",
    ),
    setting(
        G::Router,
        "STOA_COST_LIMIT_ANONYMOUS",
        "1 to 1000000000000",
        "5000",
        "the same without a token, or if the router verifies none",
    ),
    setting(
        G::Router,
        "STOA_COST_LIST_SIZE",
        "1 to 100000",
        "10",
        "the items that a list counts whose size the schema does not say",
    ),
    setting(
        G::Router,
        "STOA_OVERRIDE_LABELS",
        "labels, separated by commas",
        "none",
        "override labels that are on (progressive @override)",
    ),
    setting(
        G::Router,
        "STOA_JWKS_URL",
        "a URL",
        "none",
        "where `stoa router` finds the keys that verify access tokens; without it tokens are forwarded",
    ),
    secret(
        G::Identity,
        "STOA_INTERNAL_SECRET",
        "at least 32 characters",
        "generated in development",
        "signs identities between processes",
    ),
    setting(
        G::Identity,
        "STOA_INTERNAL_SECRET_FILE",
        "a file",
        "none",
        "the same, from a file",
    ),
    secret(
        G::Identity,
        "STOA_CURSOR_SECRET",
        "at least 32 characters",
        "generated in development",
        "signs subscription cursors; the same on all replicas",
    ),
    setting(
        G::Identity,
        "STOA_CURSOR_SECRET_FILE",
        "a file",
        "none",
        "the same, from a file",
    ),
    setting(
        G::Identity,
        "STOA_SIGNING_KEY_FILE",
        "a PKCS#8 PEM file",
        "generated in development",
        "the Ed25519 key of access tokens",
    ),
    setting(
        G::Payments,
        "STOA_PAYMENTS",
        "sandbox, stripe",
        "sandbox in development",
        "who takes the money; the sandbox moves none; production must choose",
    ),
    secret(
        G::Payments,
        "STOA_STRIPE_SECRET_KEY",
        "a Stripe key",
        "none",
        "needed by stripe",
    ),
    setting(
        G::Payments,
        "STOA_STRIPE_SECRET_KEY_FILE",
        "a file",
        "none",
        "the same, from a file",
    ),
    secret(
        G::Payments,
        "STOA_STRIPE_WEBHOOK_SECRET",
        "a Stripe secret",
        "none",
        "verifies Stripe's webhooks; needed by stripe",
    ),
    setting(
        G::Payments,
        "STOA_STRIPE_WEBHOOK_SECRET_FILE",
        "a file",
        "none",
        "the same, from a file",
    ),
    setting(
        G::Payments,
        "STOA_STRIPE_URL",
        "a URL",
        "https://api.stripe.com",
        "another server of Stripe's API, for tests",
    ),
    setting(
        G::Payments,
        "STOA_RATES_FILE",
        "a JSON file",
        "neither tax nor shipping",
        "the table of tax and shipping",
    ),
    setting(
        G::Services,
        "STOA_USERS_URL",
        "a URL",
        "http://127.0.0.1:3001",
        "where `stoa subgraph` finds users",
    ),
    setting(
        G::Services,
        "STOA_PRODUCTS_URL",
        "a URL",
        "http://127.0.0.1:3002",
        "where `stoa subgraph` finds products",
    ),
    setting(
        G::Services,
        "STOA_ORDERS_URL",
        "a URL",
        "http://127.0.0.1:3003",
        "where `stoa subgraph` finds orders",
    ),
    setting(
        G::Services,
        "STOA_NOTIFICATIONS_URL",
        "a URL",
        "http://127.0.0.1:3004",
        "where `stoa subgraph` finds notifications",
    ),
    setting(
        G::Services,
        "STOA_PRODUCTS_PUBLIC_URL",
        "a URL",
        "where products listens",
        "the base URL of product images for browsers",
    ),
    setting(
        G::Logs,
        "STOA_LOG",
        "a filter such as info or info,stoa_router=debug",
        "info",
        "what is logged",
    ),
    setting(
        G::Logs,
        "STOA_LOG_FORMAT",
        "json, text",
        "json",
        "text is for people",
    ),
    setting(
        G::Logs,
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "a URL",
        "traces are off",
        "where traces go; this and the other OTEL_* settings are standard, and read from the environment only",
    ),
    setting(
        G::Development,
        "STOA_FAULT_RATE",
        "0 to 0.5",
        "0",
        "the share of calls between services that fail on purpose",
    ),
];

/// Names that are read but not settings: test hooks of debug builds.
const HOOKS: &[&str] = &["STOA_FAULT", "STOA_BINARY", "STOA_SKIP_PLAYGROUND"];

/// A setting by its name.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Whether a name is one of ours, and if not, the one that is most like it.
pub fn nearest(name: &str) -> Result<(), &'static str> {
    if find(name).is_some() || HOOKS.contains(&name) {
        return Ok(());
    }
    let names = all().map(|setting| setting.name);
    let nearest = names.max_by(|a, b| {
        let like = |other: &str| strsim::jaro_winkler(name, other);
        like(a).total_cmp(&like(b))
    });
    Err(nearest.unwrap_or_default())
}

/// The part of `--help` about settings.
pub fn help() -> String {
    let mut text =
        "Settings come from the environment, or from a file (stoa.toml, or --config):\n".to_owned();
    for (group, title) in Group::ALL {
        let _ = writeln!(text, "\n  {title}");
        for setting in all().filter(|setting| setting.group == *group) {
            let Setting {
                name,
                about,
                default,
                ..
            } = setting;
            let _ = writeln!(text, "    {name:<32} {about} [default: {default}]");
        }
    }
    text.push_str(
        "\ndocs/configuration.md says what each may hold; `stoa config check` checks them.",
    );
    text
}

/// The text of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\nMade from the table in `src/settings/table.rs` by `cargo xtask docs`; a test fails when it differs.\n\nA setting is an environment variable. A file may hold the same: `stoa.toml` in the working folder, or the one that `--config FILE` names. Its keys are the names in lower case without `STOA_`, its lists may be TOML lists; the environment wins:\n\n```toml\nenv = \"production\"\nbus_url = \"nats://nats.internal\"\ncors_origins = [\"https://shop.example\", \"https://m.shop.example\"]\n```\n\nAll settings are checked before anything is opened, and everything that is wrong is reported at once. `stoa config check` does only that, and shows what is set and where. A name that begins with `STOA_` and is no setting is a warning.\n\nSecrets can be given as files: `STOA_INTERNAL_SECRET_FILE` names the file that holds `STOA_INTERNAL_SECRET`.\n",
    );
    for (group, title) in Group::ALL {
        let _ = writeln!(
            text,
            "\n## {title}\n\n| setting | may hold | default | meaning |\n|---|---|---|---|"
        );
        for setting in all().filter(|setting| setting.group == *group) {
            let Setting {
                name,
                values,
                default,
                about,
                ..
            } = setting;
            let _ = writeln!(text, "| `{name}` | {values} | {default} | {about} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once_and_in_the_help() {
        let help = help();
        for (index, setting) in all().enumerate() {
            assert!(help.contains(setting.name), "{}", setting.name);
            let again = all().skip(index + 1).find(|s| s.name == setting.name);
            assert!(again.is_none(), "{} occurs twice", setting.name);
        }
    }

    #[test]
    fn a_misspelt_name_has_a_nearest_one() {
        assert_eq!(nearest("STOA_CORS_ORIGINS"), Ok(()));
        assert_eq!(nearest("STOA_CORS_ORIGIN"), Err("STOA_CORS_ORIGINS"));
        assert_eq!(nearest("STOA_BUS_ULR"), Err("STOA_BUS_URL"));
        assert_eq!(nearest("STOA_DATABASE_POLL"), Err("STOA_DATABASE_POOL"));
    }
}
