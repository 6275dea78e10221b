//! Reads and checks each setting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::SecretString;
use stoa_orders::domain::TableRates;
use stoa_orders::payment::stripe::{self, StripeOptions};
use stoa_router::CostLimits;
use stoa_runtime::redis::Redis;
use stoa_runtime::secret;
use stoa_runtime::settings::{Environment, Problems, SettingError, read};
use stoa_service::database::PoolOptions;
use stoa_service::nats_bus::NatsOptions;
use stoa_users::token::SigningKey;

use crate::service_name::ServiceName;

pub const INTERNAL_SECRET: &str = "STOA_INTERNAL_SECRET";
pub const CURSOR_SECRET: &str = "STOA_CURSOR_SECRET";
pub const SIGNING_KEY: &str = "STOA_SIGNING_KEY";
pub const SIGNING_KEY_FILE: &str = "STOA_SIGNING_KEY_FILE";

/// What a process is for: it decides which settings production must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Everything in one process.
    Up,
    Router,
    Subgraph(ServiceName),
    /// A command that looks at data and ends.
    Command,
}

impl Purpose {
    /// Whether the process runs a service.
    pub fn runs(self, service: ServiceName) -> bool {
        self == Self::Up || self == Self::Subgraph(service)
    }
}

/// Secrets that were given; in development a missing one is generated when it is
/// first used.
#[derive(Clone, Default)]
pub struct Secrets {
    pub internal: Option<SecretString>,
    pub cursor: Option<SecretString>,
    /// The private key of access tokens, as PEM.
    pub signing_key: Option<SecretString>,
}

#[derive(Clone)]
pub enum PaymentSettings {
    Sandbox,
    Stripe(StripeOptions),
}

#[derive(Clone, Default)]
pub struct RouterSettings {
    pub batch_limit: usize,
    pub cost: CostLimits,
    pub cors_origins: Vec<String>,
    pub override_labels: Vec<String>,
    pub is_rate_limited: bool,
    pub trusted_proxies: Vec<IpNet>,
}

/// The location of the event bus.
#[derive(Clone)]
pub enum BusUrl {
    /// In the data folder.
    Embedded,
    Nats {
        url: String,
        options: NatsOptions,
    },
}

pub fn bus(problems: &mut Problems) -> Option<BusUrl> {
    const NAME: &str = "STOA_BUS_URL";
    let replicas = problems.check(number("STOA_BUS_REPLICAS", 1, 1..=5));
    let Some(url) = read(NAME).filter(|url| url != "embedded:") else {
        return Some(BusUrl::Embedded);
    };
    let is_nats = ["nats://", "tls://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    problems.check(match is_nats {
        true => Ok(()),
        // The URL may hold a password: only its scheme is shown.
        false => Err(SettingError::new(
            NAME,
            format!(
                "begins with \"{}\", which is neither embedded: nor nats://HOST:PORT nor tls://HOST:PORT",
                scheme_of(&url)
            ),
        )),
    })?;
    Some(BusUrl::Nats {
        url,
        options: NatsOptions {
            credentials_file: read("STOA_BUS_CREDENTIALS_FILE").map(Into::into),
            ca_file: read("STOA_BUS_CA_FILE").map(Into::into),
            replicas: replicas?,
        },
    })
}

pub fn redis() -> Result<Option<Redis>, SettingError> {
    const NAME: &str = "STOA_CACHE_URL";
    let Some(url) = read(NAME).filter(|url| url != "memory:") else {
        return Ok(None);
    };
    if !["redis://", "rediss://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(SettingError::new(
            NAME,
            format!(
                "begins with \"{}\", which is neither memory: nor redis://HOST:PORT nor rediss://HOST:PORT",
                scheme_of(&url)
            ),
        ));
    }
    let ca_file = read("STOA_CACHE_CA_FILE").map(PathBuf::from);
    Redis::open(NAME, &url, ca_file.as_deref()).map(Some)
}

fn scheme_of(url: &str) -> &str {
    url.split_once("://")
        .map_or("(no scheme)", |(scheme, _)| scheme)
}

/// The share of calls between services and to the payment sandbox that fail.
pub fn fault_rate(environment: Environment) -> Result<f64, SettingError> {
    const NAME: &str = "STOA_FAULT_RATE";
    let rate = number(NAME, 0.0, 0.0..=0.5)?;
    if rate > 0.0 && !environment.is_development() {
        return Err(SettingError::new(
            NAME,
            "is for development: in production nothing fails on purpose",
        ));
    }
    Ok(rate)
}

pub fn pool() -> Result<PoolOptions, SettingError> {
    let default = PoolOptions::default().connections;
    Ok(PoolOptions {
        connections: number("STOA_DATABASE_POOL", default, 1..=1_000)?,
    })
}

fn number<T>(name: &str, default: T, range: RangeInclusive<T>) -> Result<T, SettingError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(text) = read(name) else {
        return Ok(default);
    };
    text.parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| {
            SettingError::new(
                name,
                format!(
                    "\"{text}\" is no number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })
}

/// An optional URL of HTTP.
/// The base of URLs, without a slash at its end.
pub fn base_url(problems: &mut Problems, name: &str) -> Option<String> {
    let url = url(problems, name)?;
    Some(url.trim_end_matches('/').to_owned())
}

pub fn url(problems: &mut Problems, name: &str) -> Option<String> {
    let text = read(name)?;
    let parsed = reqwest::Url::parse(&text).ok();
    let fits = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
    problems.check(match fits {
        true => Ok(text),
        false => Err(SettingError::new(
            name,
            format!("\"{text}\" is not a URL such as https://host.example:443"),
        )),
    })
}

/// The databases that are not in the data folder.
pub fn databases(problems: &mut Problems) -> HashMap<ServiceName, String> {
    let all = ServiceName::ALL.into_iter();
    all.filter_map(|service| {
        let name = format!("STOA_{}_DATABASE_URL", service.as_str().to_uppercase());
        let url = read(&name)?;
        problems.check(match scheme_of(&url) {
            "sqlite" | "postgres" | "postgresql" => Ok((service, url)),
            other => Err(SettingError::new(
                &name,
                format!("begins with \"{other}\", which is neither sqlite:// nor postgres://"),
            )),
        })
    })
    .collect()
}

pub fn peers(problems: &mut Problems) -> HashMap<ServiceName, String> {
    let all = ServiceName::ALL.into_iter();
    all.filter_map(|service| {
        let name = format!("STOA_{}_URL", service.as_str().to_uppercase());
        Some((service, base_url(problems, &name)?))
    })
    .collect()
}

pub fn secrets(
    problems: &mut Problems,
    environment: Environment,
    purpose: Purpose,
    verifies_tokens: bool,
) -> Secrets {
    let mut given = |name, is_needed| {
        let checked = secret::check(name, environment, is_needed);
        problems.check(checked).flatten()
    };
    // A secret that the role does not use is not read: its file may be readable
    // by another process only.
    let internal = match purpose {
        Purpose::Up | Purpose::Subgraph(_) => given(INTERNAL_SECRET, true),
        Purpose::Router => given(INTERNAL_SECRET, verifies_tokens),
        Purpose::Command => None,
    };
    let cursor = match purpose.runs(ServiceName::Notifications) {
        true => given(CURSOR_SECRET, true),
        false => None,
    };
    let signing_key = match purpose.runs(ServiceName::Users) {
        true => problems.check(signing_key(environment)).flatten(),
        false => None,
    };
    Secrets {
        internal,
        cursor,
        signing_key,
    }
}

fn signing_key(environment: Environment) -> Result<Option<SecretString>, SettingError> {
    let wrong = |problem: String| SettingError::new(SIGNING_KEY_FILE, problem);
    let Some(path) = read(SIGNING_KEY_FILE) else {
        if environment.is_development() {
            return Ok(None);
        }
        return Err(wrong(
            "not set; in production give a key's path (try: openssl genpkey -algorithm ed25519)"
                .to_owned(),
        ));
    };
    let pem = std::fs::read_to_string(&path)
        .map_err(|error| wrong(format!("cannot read {path}: {error}")))?;
    SigningKey::from_pem(&pem).map_err(wrong)?;
    Ok(Some(pem.into()))
}

pub fn payments(
    problems: &mut Problems,
    environment: Environment,
    is_needed: bool,
) -> Option<PaymentSettings> {
    const NAME: &str = "STOA_PAYMENTS";
    let chosen = read(NAME);
    match chosen.as_deref() {
        // Only orders takes payments, and has the secrets.
        Some("stripe") if !is_needed => Some(PaymentSettings::Sandbox),
        Some("stripe") => {
            let url = base_url(problems, "STOA_STRIPE_URL");
            let secret_key = problems.check(secret::load_external("STOA_STRIPE_SECRET_KEY"));
            let webhook = problems.check(secret::load_external("STOA_STRIPE_WEBHOOK_SECRET"));
            Some(PaymentSettings::Stripe(StripeOptions {
                url: url.unwrap_or_else(|| stripe::URL.to_owned()),
                secret_key: secret_key?,
                webhook_secret: webhook?,
            }))
        }
        Some("sandbox") => Some(PaymentSettings::Sandbox),
        None if environment.is_development() || !is_needed => Some(PaymentSettings::Sandbox),
        None => problems.check(Err(SettingError::new(
            NAME,
            "not set; in production say stripe, or sandbox for a trial in which no money moves",
        ))),
        Some(other) => problems.check(Err(SettingError::new(
            NAME,
            format!("\"{other}\" is neither \"sandbox\" nor \"stripe\""),
        ))),
    }
}

pub fn rates(is_needed: bool) -> Result<TableRates, SettingError> {
    const NAME: &str = "STOA_RATES_FILE";
    let Some(path) = read(NAME).filter(|_| is_needed) else {
        return Ok(TableRates::default());
    };
    let wrong = |problem: String| SettingError::new(NAME, format!("{path}: {problem}"));
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    TableRates::parse(&text).map_err(wrong)
}

/// The highest limit of costs, which limits nothing.
const MAX_COST: u64 = 1_000_000_000_000;

pub fn router(problems: &mut Problems, environment: Environment) -> Option<RouterSettings> {
    const RATE_LIMIT: &str = "STOA_RATE_LIMIT";
    let is_rate_limited = problems.check(match read(RATE_LIMIT).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") if environment.is_development() => Ok(false),
        Some("off") => Err(SettingError::new(
            RATE_LIMIT,
            "rate limits cannot be switched off in production",
        )),
        Some(other) => Err(SettingError::new(
            RATE_LIMIT,
            format!("\"{other}\" is neither \"on\" nor \"off\""),
        )),
    });
    let batch_limit = problems.check(number("STOA_BATCH_LIMIT", 0, 0..=1_000));
    let default = CostLimits::default();
    let anonymous = number("STOA_COST_LIMIT_ANONYMOUS", default.anonymous, 1..=MAX_COST);
    let anonymous = problems.check(anonymous);
    let signed_in = number("STOA_COST_LIMIT", default.signed_in, 1..=MAX_COST);
    let signed_in = problems.check(signed_in);
    let list_size = number("STOA_COST_LIST_SIZE", default.list_size, 1..=100_000);
    let list_size = problems.check(list_size);
    let cors_origins = problems.check(comma_separated("STOA_CORS_ORIGINS", origin));
    let override_labels = problems.check(comma_separated("STOA_OVERRIDE_LABELS", |label| {
        Ok(label.to_owned())
    }));
    let trusted_proxies = problems.check(comma_separated("STOA_TRUSTED_PROXIES", network));
    Some(RouterSettings {
        batch_limit: batch_limit?,
        cost: CostLimits {
            anonymous: anonymous?,
            signed_in: signed_in?,
            list_size: list_size?,
        },
        cors_origins: cors_origins?,
        override_labels: override_labels?,
        is_rate_limited: is_rate_limited?,
        trusted_proxies: trusted_proxies?,
    })
}

/// The items of a comma-separated setting.
fn comma_separated<T>(
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, SettingError> {
    let text = read(name).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| parse(item).map_err(|problem| SettingError::new(name, problem)))
        .collect()
}

/// An origin as browsers send it (RFC 6454): scheme, host and port, and no more.
fn origin(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(
            "\"*\" is not allowed: pages of other origins could then call; name each origin"
                .to_owned(),
        );
    }
    let is_origin = reqwest::Url::parse(text).is_ok_and(|url| match url.scheme() {
        "http" | "https" => url.origin().ascii_serialization() == text,
        // Apps in a web view: capacitor://localhost.
        scheme => {
            let host = text.strip_prefix(&format!("{scheme}://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@']))
        }
    });
    match is_origin {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "\"{text}\" is not an origin such as https://shop.example or http://localhost:5173: scheme, host and, unless it is the scheme's own, port; no path"
        )),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("\"{text}\" is no address and no network such as 10.0.0.0/8"))
}

pub fn sqlite_url(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(format!("{name}.db")).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_no_path_and_no_default_port() {
        for good in [
            "https://shop.example",
            "http://localhost:5173",
            "capacitor://localhost",
            "chrome-extension://abcdef",
        ] {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        for bad in [
            "*",
            "null",
            "shop.example",
            "https://shop.example/",
            "https://shop.example:443",
            "https://*.shop.example",
            "capacitor://localhost/app",
            "capacitor://",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_without_a_scheme_shows_none_of_it() {
        assert_eq!(scheme_of("nats://token@host"), "nats");
        assert_eq!(scheme_of("token@host:4222"), "(no scheme)");
    }
}
