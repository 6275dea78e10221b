//! All settings, typed: everything is parsed and checked before anything opens,
//! and everything that is wrong is reported at once.
//!
//! | module | what it holds |
//! |---|---|
//! | [`table`] | every setting, as `--help` and `docs/configuration.md` show it |
//! | [`file`] | the settings file |
//! | [`check`] | `stoa config check` |

pub mod check;
pub mod file;
pub mod table;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use stoa_orders::Payments;
use stoa_orders::domain::TableRates;
use stoa_orders::payment::stripe::{self, StripeOptions};
use stoa_router::{Config, HeaderRules, Limits, RateLimits};
use stoa_runtime::clock::Clock;
use stoa_runtime::health::Check;
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::redis::Redis;
use stoa_runtime::secret;
use stoa_runtime::settings::{Environment, Problems, SettingError, SettingErrors, data_dir, read};
use stoa_runtime::telemetry::LogSettings;
use stoa_service::cache::Cache;
use stoa_service::database::PoolOptions;
use stoa_service::nats_bus::NatsOptions;
use stoa_service::signing;
use stoa_users::token::{SigningKey, generate_signing_key};

use crate::Error;
use crate::service_name::ServiceName;

const INTERNAL_SECRET: &str = "STOA_INTERNAL_SECRET";
const CURSOR_SECRET: &str = "STOA_CURSOR_SECRET";
const SIGNING_KEY: &str = "STOA_SIGNING_KEY";
const SIGNING_KEY_FILE: &str = "STOA_SIGNING_KEY_FILE";
/// The cookie of the users service; it is sent to no other service.
const REFRESH_COOKIE: &str = "stoa_refresh";
/// Mutations through which secrets could be guessed.
const GUARDED_FIELDS: [&str; 3] = ["login", "register", "refreshSession"];

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
    fn runs(self, service: ServiceName) -> bool {
        self == Self::Up || self == Self::Subgraph(service)
    }
}

/// The settings that the roles share.
#[derive(Clone)]
pub struct Settings {
    pub environment: Environment,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub log: LogSettings,
    pub bus: BusUrl,
    /// Shares cached values and rate counts; without it they stay in the process.
    pub redis: Option<Redis>,
    pub pool: PoolOptions,
    /// The share of calls that fail on purpose, in development.
    pub fault_rate: f64,
    /// Where `stoa router` finds the keys that verify access tokens.
    pub jwks_url: Option<String>,
    /// The base URL of product images; else the process that serves them.
    pub products_public_url: Option<String>,
    databases: HashMap<ServiceName, String>,
    peers: HashMap<ServiceName, String>,
    secrets: Secrets,
    payments: PaymentSettings,
    rates: TableRates,
    router: RouterSettings,
}

/// Secrets that were given; in development a missing one is generated when it is
/// first used.
#[derive(Clone, Default)]
struct Secrets {
    internal: Option<SecretString>,
    cursor: Option<SecretString>,
    /// The private key of access tokens, as PEM.
    signing_key: Option<SecretString>,
}

#[derive(Clone)]
enum PaymentSettings {
    Sandbox,
    Stripe(StripeOptions),
}

#[derive(Clone, Default)]
struct RouterSettings {
    batch_limit: usize,
    cors_origins: Vec<String>,
    override_labels: Vec<String>,
    is_rate_limited: bool,
    trusted_proxies: Vec<IpNet>,
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

impl Settings {
    /// Reads and checks all settings; opens nothing and writes nothing.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(purpose: Purpose, data: Option<PathBuf>) -> Result<Self, SettingErrors> {
        let mut problems = Problems::default();
        // Without a valid environment nothing can be said of what it demands.
        let environment = Environment::read()?;
        let data_dir = data.unwrap_or_else(data_dir);
        let log = LogSettings::read(&mut problems);
        let bus = bus(&mut problems);
        let redis = problems.check(redis());
        let pool = problems.check(pool());
        let fault_rate = problems.check(fault_rate(environment));
        let jwks_url = url(&mut problems, "STOA_JWKS_URL");
        let products_public_url = url(&mut problems, "STOA_PRODUCTS_PUBLIC_URL");
        let databases = databases(&mut problems);
        let peers = peers(&mut problems);
        let secrets = secrets(&mut problems, environment, purpose, jwks_url.is_some());
        let payments = payments(
            &mut problems,
            environment,
            purpose.runs(ServiceName::Orders),
        );
        let rates = problems.check(rates());
        let router = router(&mut problems, environment);
        let settings = (|| {
            Some(Self {
                environment,
                data_dir,
                clock: Clock::system(),
                log: log?,
                bus: bus?,
                redis: redis?,
                pool: pool?,
                fault_rate: fault_rate?,
                jwks_url,
                products_public_url,
                databases,
                peers,
                secrets,
                payments: payments?,
                rates: rates?,
                router: router?,
            })
        })();
        problems.finish(settings)
    }

    /// Everything embedded, in a folder.
    pub fn embedded(environment: Environment, data_dir: PathBuf) -> Self {
        Self {
            environment,
            data_dir,
            clock: Clock::system(),
            log: LogSettings::default(),
            bus: BusUrl::Embedded,
            redis: None,
            pool: PoolOptions::default(),
            fault_rate: 0.0,
            jwks_url: None,
            products_public_url: None,
            databases: HashMap::new(),
            peers: HashMap::new(),
            secrets: Secrets::default(),
            payments: PaymentSettings::Sandbox,
            rates: TableRates::default(),
            router: RouterSettings::default(),
        }
    }

    /// The same settings with the data in another folder.
    pub fn in_folder(self, data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            ..self
        }
    }

    /// The key that signs identities between our own processes.
    ///
    /// # Errors
    /// If it cannot be generated.
    pub fn identity_key(&self) -> Result<IdentityKey, Error> {
        let secret = self.internal_secret()?;
        Ok(IdentityKey::new(secret.expose_secret(), self.clock.clone()))
    }

    fn internal_secret(&self) -> Result<SecretString, Error> {
        self.secret(INTERNAL_SECRET, &self.secrets.internal)
    }

    /// The secret that signs subscription cursors.
    ///
    /// # Errors
    /// If it cannot be generated.
    pub fn cursor_secret(&self) -> Result<SecretString, Error> {
        self.secret(CURSOR_SECRET, &self.secrets.cursor)
    }

    fn secret(&self, name: &str, given: &Option<SecretString>) -> Result<SecretString, Error> {
        Ok(match given {
            Some(secret) => secret.clone(),
            // Production has been asked for what it needs.
            None => secret::generated(name, &self.data_dir).map_err(SettingErrors::from)?,
        })
    }

    /// The key that signs access tokens.
    ///
    /// # Errors
    /// If it cannot be generated.
    pub fn signing_key(&self) -> Result<SigningKey, Error> {
        let wrong = |problem| SettingErrors::from(SettingError::new(SIGNING_KEY_FILE, problem));
        let generated;
        let pem = match &self.secrets.signing_key {
            Some(pem) => pem.expose_secret(),
            None => {
                generated =
                    secret::load_or_generate(SIGNING_KEY, &self.data_dir, generate_signing_key)
                        .map_err(SettingErrors::from)?;
                &generated
            }
        };
        Ok(SigningKey::from_pem(pem).map_err(wrong)?)
    }

    /// The payment provider. `own_url` is where this process listens.
    ///
    /// # Errors
    /// If a secret cannot be generated.
    pub fn payments(&self, own_url: String) -> Result<Payments, Error> {
        match &self.payments {
            PaymentSettings::Stripe(options) => Ok(Payments::Stripe(options.clone())),
            PaymentSettings::Sandbox => {
                let internal = self.internal_secret()?;
                let purpose = "the sandbox's webhooks";
                let secret = signing::derived_secret(internal.expose_secret(), purpose);
                Ok(Payments::Sandbox {
                    own_url,
                    secret: secret.into(),
                })
            }
        }
    }

    /// Tax and shipping.
    pub fn rates(&self) -> TableRates {
        self.rates.clone()
    }

    /// The cache's health check; a process stays ready without the cache.
    pub fn cache_check(&self) -> Option<Check> {
        let redis = self.redis.clone()?;
        Some(Check::optional("cache", move || {
            let redis = redis.clone();
            async move { redis.is_ready().await }
        }))
    }

    pub fn cache(&self) -> Cache {
        match &self.redis {
            Some(redis) => Cache::Redis(redis.clone()),
            None => Cache::memory(),
        }
    }

    /// The URL of a service's database.
    pub fn database_url(&self, service: ServiceName) -> String {
        let known = self.databases.get(&service).cloned();
        known.unwrap_or_else(|| sqlite_url(&self.data_dir, service.as_str()))
    }

    pub fn bus_database_url(&self) -> String {
        sqlite_url(&self.data_dir, "bus")
    }

    /// The base URL of another service.
    pub fn peer_url(&self, peer: ServiceName) -> String {
        let known = self.peers.get(&peer).cloned();
        known.unwrap_or_else(|| format!("http://127.0.0.1:{}", peer.default_port()))
    }

    /// The configuration of the shop's router.
    pub fn router_config(&self) -> Config {
        let users = ServiceName::Users.as_str().to_owned();
        let rate_limits = self.router.is_rate_limited.then(|| RateLimits {
            guarded_fields: GUARDED_FIELDS.map(str::to_owned).to_vec(),
            shared: self.redis.clone(),
            trusted_proxies: self.router.trusted_proxies.clone(),
            ..RateLimits::default()
        });
        Config {
            rate_limits,
            headers: HeaderRules {
                request: Vec::new(),
                cookies: vec![(REFRESH_COOKIE.to_owned(), users.clone())],
                response: vec![(axum::http::header::SET_COOKIE, users)],
            },
            ..self.open_router_config()
        }
    }

    /// The configuration of a router over any graph.
    pub fn open_router_config(&self) -> Config {
        Config {
            limits: Limits {
                batch: self.router.batch_limit,
                ..Limits::default()
            },
            cors_origins: self.router.cors_origins.clone(),
            expose_plans: self.environment.is_development(),
            override_labels: self.router.override_labels.iter().cloned().collect(),
            ..Config::default()
        }
    }
}

fn bus(problems: &mut Problems) -> Option<BusUrl> {
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

fn redis() -> Result<Option<Redis>, SettingError> {
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
    url.split_once(':').map_or(url, |(scheme, _)| scheme)
}

/// The share of calls between services and to the payment sandbox that fail.
fn fault_rate(environment: Environment) -> Result<f64, SettingError> {
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

fn pool() -> Result<PoolOptions, SettingError> {
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
fn url(problems: &mut Problems, name: &str) -> Option<String> {
    let text = read(name)?;
    let parsed = reqwest::Url::parse(&text).ok();
    let fits = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
    problems.check(match fits {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(SettingError::new(
            name,
            format!("\"{text}\" is not a URL such as https://host.example:443"),
        )),
    })
}

/// The databases that are not in the data folder.
fn databases(problems: &mut Problems) -> HashMap<ServiceName, String> {
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

fn peers(problems: &mut Problems) -> HashMap<ServiceName, String> {
    let all = ServiceName::ALL.into_iter();
    all.filter_map(|service| {
        let name = format!("STOA_{}_URL", service.as_str().to_uppercase());
        Some((service, url(problems, &name)?))
    })
    .collect()
}

fn secrets(
    problems: &mut Problems,
    environment: Environment,
    purpose: Purpose,
    verifies_tokens: bool,
) -> Secrets {
    let internal = match purpose {
        Purpose::Up | Purpose::Subgraph(_) => true,
        Purpose::Router => verifies_tokens,
        Purpose::Command => false,
    };
    let mut given = |name, is_needed| {
        let checked = secret::check(name, environment, is_needed);
        problems.check(checked).flatten()
    };
    let internal = given(INTERNAL_SECRET, internal);
    let cursor = given(CURSOR_SECRET, purpose.runs(ServiceName::Notifications));
    let key = signing_key(environment, purpose.runs(ServiceName::Users));
    Secrets {
        internal,
        cursor,
        signing_key: problems.check(key).flatten(),
    }
}

fn signing_key(
    environment: Environment,
    is_needed: bool,
) -> Result<Option<SecretString>, SettingError> {
    let wrong = |problem: String| SettingError::new(SIGNING_KEY_FILE, problem);
    let Some(path) = read(SIGNING_KEY_FILE) else {
        if environment.is_development() || !is_needed {
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

fn payments(
    problems: &mut Problems,
    environment: Environment,
    is_needed: bool,
) -> Option<PaymentSettings> {
    const NAME: &str = "STOA_PAYMENTS";
    let chosen = read(NAME);
    match chosen.as_deref() {
        Some("stripe") => {
            let url = url(problems, "STOA_STRIPE_URL");
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

fn rates() -> Result<TableRates, SettingError> {
    const NAME: &str = "STOA_RATES_FILE";
    let Some(path) = read(NAME) else {
        return Ok(TableRates::default());
    };
    let wrong = |problem: String| SettingError::new(NAME, format!("{path}: {problem}"));
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    TableRates::parse(&text).map_err(wrong)
}

fn router(problems: &mut Problems, environment: Environment) -> Option<RouterSettings> {
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
    let cors_origins = problems.check(comma_separated("STOA_CORS_ORIGINS", origin));
    let override_labels = problems.check(comma_separated("STOA_OVERRIDE_LABELS", |label| {
        Ok(label.to_owned())
    }));
    let trusted_proxies = problems.check(comma_separated("STOA_TRUSTED_PROXIES", network));
    Some(RouterSettings {
        batch_limit: batch_limit?,
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
    if text == "*" {
        return Err(
            "\"*\" is not allowed: pages of any origin could then call; name the origins"
                .to_owned(),
        );
    }
    let parsed = reqwest::Url::parse(text).ok();
    let fits = parsed.is_some_and(|url| url.origin().ascii_serialization() == text);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "\"{text}\" is not an origin such as https://shop.example: scheme, host and port, without a path"
        )),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("\"{text}\" is no address and no network such as 10.0.0.0/8"))
}

fn sqlite_url(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(format!("{name}.db")).display())
}
