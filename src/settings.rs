//! What every role reads from the environment.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use stoa_orders::Payments;
use stoa_orders::domain::TableRates;
use stoa_orders::payment::stripe::{self, StripeOptions};
use stoa_router::{Config, HeaderRules, Limits, RateLimits};
use stoa_runtime::clock::Clock;
use stoa_runtime::health::Check;
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::redis::Redis;
use stoa_runtime::secret;
use stoa_runtime::settings::{Environment, SettingError, read};
use stoa_service::cache::Cache;
use stoa_service::database::PoolOptions;
use stoa_service::fault_injection;
use stoa_service::nats_bus::NatsOptions;
use stoa_service::signing;

use crate::Error;
use crate::service_name::ServiceName;

/// The cookie of the users service; it goes there and nowhere else.
const REFRESH_COOKIE: &str = "stoa_refresh";
/// Mutations that could be used to guess secrets: their rate limit is tighter.
const GUARDED_FIELDS: [&str; 3] = ["login", "register", "refreshSession"];

/// Settings that the roles share.
#[derive(Clone)]
pub struct Settings {
    pub environment: Environment,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub bus: BusUrl,
    /// Shares cached values and rate-limit counts between processes; without it they
    /// stay in the process.
    pub redis: Option<Redis>,
    pub pool: PoolOptions,
}

/// Where the event bus is.
#[derive(Clone)]
pub enum BusUrl {
    /// In the data folder.
    Embedded,
    Nats {
        url: String,
        options: NatsOptions,
    },
}

impl BusUrl {
    fn from_env() -> Result<Self, SettingError> {
        const NAME: &str = "STOA_BUS_URL";
        let Some(url) = read(NAME).filter(|url| url != "embedded:") else {
            return Ok(Self::Embedded);
        };
        if !["nats://", "tls://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(SettingError::new(
                NAME,
                "is neither embedded: nor nats://HOST:PORT nor tls://HOST:PORT",
            ));
        }
        Ok(Self::Nats {
            url,
            options: NatsOptions {
                credentials_file: read("STOA_BUS_CREDENTIALS_FILE").map(Into::into),
                ca_file: read("STOA_BUS_CA_FILE").map(Into::into),
                replicas: number("STOA_BUS_REPLICAS", 1, 1..=5)?,
            },
        })
    }
}

/// From `STOA_CACHE_URL`: `memory:` (default) or `redis://`, `rediss://`.
fn redis() -> Result<Option<Redis>, SettingError> {
    const NAME: &str = "STOA_CACHE_URL";
    let Some(url) = read(NAME).filter(|url| url != "memory:") else {
        return Ok(None);
    };
    let ca_file = read("STOA_CACHE_CA_FILE").map(PathBuf::from);
    Redis::open(NAME, &url, ca_file.as_deref()).map(Some)
}

/// Makes a share of the calls between services and to the sandbox fail, from
/// `STOA_FAULT_RATE`.
fn fault_rate(environment: Environment) -> Result<(), SettingError> {
    const NAME: &str = "STOA_FAULT_RATE";
    let rate = number(NAME, 0.0, 0.0..=0.5)?;
    if rate > 0.0 && !environment.is_development() {
        return Err(SettingError::new(
            NAME,
            "is for development only: it makes calls fail on purpose",
        ));
    }
    fault_injection::set_rate(rate);
    Ok(())
}

/// Connections to each PostgreSQL database, from `STOA_DATABASE_POOL`.
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
                    "\"{text}\" is not a number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })
}

impl Settings {
    /// # Errors
    /// If a setting has a wrong value.
    pub fn from_env(data_dir: PathBuf) -> Result<Self, Error> {
        let environment = Environment::from_env()?;
        fault_rate(environment)?;
        Ok(Self {
            environment,
            bus: BusUrl::from_env()?,
            redis: redis()?,
            pool: pool()?,
            data_dir,
            clock: Clock::system(),
        })
    }

    /// Everything embedded, in a folder.
    pub fn embedded(environment: Environment, data_dir: PathBuf) -> Self {
        Self {
            environment,
            data_dir,
            clock: Clock::system(),
            bus: BusUrl::Embedded,
            redis: None,
            pool: PoolOptions::default(),
        }
    }

    /// The key that signs identities between our own processes.
    ///
    /// # Errors
    /// If the secret is missing in production, or invalid.
    pub fn identity_key(&self) -> Result<IdentityKey, Error> {
        let secret = self.secret("STOA_INTERNAL_SECRET")?;
        Ok(IdentityKey::new(&secret, self.clock.clone()))
    }

    /// # Errors
    /// If the secret is missing in production, or invalid.
    pub fn secret(&self, name: &str) -> Result<String, Error> {
        Ok(secret::load(name, self.environment, &self.data_dir)?)
    }

    /// The payment provider, from `STOA_PAYMENTS`: `sandbox` or `stripe`. In
    /// production one of them must be chosen.
    ///
    /// # Errors
    /// If it is neither, or a secret is missing.
    pub fn payments(&self, own_url: String) -> Result<Payments, Error> {
        const NAME: &str = "STOA_PAYMENTS";
        let chosen = read(NAME);
        match chosen.as_deref() {
            Some("stripe") => Ok(Payments::Stripe(StripeOptions {
                url: read("STOA_STRIPE_URL").unwrap_or_else(|| stripe::URL.to_owned()),
                secret_key: secret::load_external("STOA_STRIPE_SECRET_KEY")?,
                webhook_secret: secret::load_external("STOA_STRIPE_WEBHOOK_SECRET")?,
            })),
            Some("sandbox") => self.sandbox(own_url),
            None if self.environment.is_development() => self.sandbox(own_url),
            None => Err(SettingError::new(
                NAME,
                "not set; in production say stripe, or sandbox for a trial in which no money moves",
            )
            .into()),
            Some(other) => Err(SettingError::new(
                NAME,
                format!("\"{other}\" is neither \"sandbox\" nor \"stripe\""),
            )
            .into()),
        }
    }

    fn sandbox(&self, own_url: String) -> Result<Payments, Error> {
        let internal = self.secret("STOA_INTERNAL_SECRET")?;
        let secret = signing::derived_secret(&internal, "the sandbox's webhooks");
        Ok(Payments::Sandbox { own_url, secret })
    }

    /// Tax and shipping, from the table in `STOA_RATES_FILE`; without one there
    /// is neither.
    ///
    /// # Errors
    /// If the file cannot be read, or is not such a table.
    pub fn rates(&self) -> Result<TableRates, Error> {
        const NAME: &str = "STOA_RATES_FILE";
        let Some(path) = read(NAME) else {
            return Ok(TableRates::default());
        };
        let bad = |problem: String| SettingError::new(NAME, format!("{path}: {problem}"));
        let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        Ok(TableRates::parse(&text).map_err(bad)?)
    }

    /// The key that signs access tokens.
    ///
    /// # Errors
    /// If it is missing in production, or not an Ed25519 key.
    pub fn signing_key(&self) -> Result<stoa_users::token::SigningKey, Error> {
        const NAME: &str = "STOA_SIGNING_KEY";
        let bad =
            |problem: String| Error::from(SettingError::new("STOA_SIGNING_KEY_FILE", problem));
        let pem = match read("STOA_SIGNING_KEY_FILE") {
            Some(path) => std::fs::read_to_string(&path)
                .map_err(|error| bad(format!("cannot read {path}: {error}")))?,
            None if self.environment.is_development() => secret::load_or_generate(
                NAME,
                &self.data_dir,
                stoa_users::token::generate_signing_key,
            )?,
            None => {
                return Err(bad(
                    "not set; in production give a key's path (try: openssl genpkey -algorithm ed25519)"
                        .to_owned(),
                ));
            }
        };
        stoa_users::token::SigningKey::from_pem(&pem).map_err(bad)
    }

    /// The cache is optional: without it the process runs degraded.
    pub fn cache_check(&self) -> Option<Check> {
        let redis = self.redis.clone()?;
        Some(Check::optional("cache", move || {
            let redis = redis.clone();
            async move { redis.is_ready().await }
        }))
    }

    /// A service's database URL: as set, else a file in the data folder.
    pub fn database_url(&self, service: ServiceName) -> String {
        let name = format!("STOA_{}_DATABASE_URL", service.as_str().to_uppercase());
        read(&name).unwrap_or_else(|| sqlite_url(&self.data_dir, service.as_str()))
    }

    pub fn cache(&self) -> Cache {
        match &self.redis {
            Some(redis) => Cache::Redis(redis.clone()),
            None => Cache::memory(),
        }
    }

    pub fn bus_database_url(&self) -> String {
        sqlite_url(&self.data_dir, "bus")
    }

    /// The configuration of the shop's router.
    ///
    /// # Errors
    /// If rate limits are switched off in production.
    pub fn router_config(&self) -> Result<Config, Error> {
        let rate_limits = match read("STOA_RATE_LIMIT").as_deref() {
            Some("off") if self.environment.is_development() => None,
            Some("off") => {
                return Err(SettingError::new(
                    "STOA_RATE_LIMIT",
                    "rate limits cannot be switched off in production",
                )
                .into());
            }
            None | Some("on") => Some(RateLimits {
                guarded_fields: GUARDED_FIELDS.map(str::to_owned).to_vec(),
                shared: self.redis.clone(),
                trusted_proxies: trusted_proxies()?,
                ..RateLimits::default()
            }),
            Some(other) => {
                return Err(SettingError::new(
                    "STOA_RATE_LIMIT",
                    format!("\"{other}\" is neither \"on\" nor \"off\""),
                )
                .into());
            }
        };
        let users = ServiceName::Users.as_str().to_owned();
        Ok(Config {
            rate_limits,
            headers: HeaderRules {
                request: Vec::new(),
                cookies: vec![(REFRESH_COOKIE.to_owned(), users.clone())],
                response: vec![(axum::http::header::SET_COOKIE, users)],
            },
            ..self.open_router_config()?
        })
    }

    /// The configuration of a router over any graph.
    ///
    /// # Errors
    /// If `STOA_BATCH_LIMIT` is not a number.
    pub fn open_router_config(&self) -> Result<Config, SettingError> {
        const BATCH: &str = "STOA_BATCH_LIMIT";
        let batch = match read(BATCH) {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                SettingError::new(BATCH, format!("\"{text}\" is not a number of requests"))
            })?,
        };
        Ok(Config {
            limits: Limits {
                batch,
                ..Limits::default()
            },
            cors_origins: comma_separated("STOA_CORS_ORIGINS").collect(),
            expose_plans: self.environment.is_development(),
            override_labels: comma_separated("STOA_OVERRIDE_LABELS").collect(),
            ..Config::default()
        })
    }
}

/// The items that a variable lists, separated by commas.
fn comma_separated(name: &str) -> impl Iterator<Item = String> {
    let text = read(name).unwrap_or_default();
    let items: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    items.into_iter()
}

/// From `STOA_TRUSTED_PROXIES`: addresses and networks, separated by commas.
fn trusted_proxies() -> Result<Vec<IpNet>, SettingError> {
    const NAME: &str = "STOA_TRUSTED_PROXIES";
    comma_separated(NAME)
        .map(|text| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    SettingError::new(NAME, format!("\"{text}\" is no IP address or network"))
                })
        })
        .collect()
}

fn sqlite_url(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(format!("{name}.db")).display())
}
