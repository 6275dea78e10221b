//! All settings, typed: everything is parsed and checked before anything opens,
//! and everything that is wrong is reported at once.
//!
//! | module | what it holds |
//! |---|---|
//! | [`parse`] | how each setting is read and checked |
//! | `row` | what is said of each setting |
//! | [`table`] | every setting, as `--help` and `docs/configuration.md` show it |
//! | [`subgraphs`] | how the router reaches subgraphs |
//! | [`mod@file`] | the settings file |
//! | [`check`] | `stoa config check` |

pub mod check;
pub mod file;
mod parse;
mod row;
pub mod subgraphs;
pub mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use stoa_orders::Payments;
use stoa_orders::domain::TableRates;
use stoa_router::{Config, HeaderRules, Limits, RateLimits};
use stoa_runtime::clock::Clock;
use stoa_runtime::health::Check;
use stoa_runtime::identity::IdentityKey;
use stoa_runtime::redis::Redis;
use stoa_runtime::secret;
use stoa_runtime::settings::{Environment, Problems, SettingError, SettingErrors, data_dir};
use stoa_runtime::telemetry::LogSettings;
use stoa_service::cache::Cache;
use stoa_service::database::PoolOptions;
use stoa_service::signing;
use stoa_users::token::{SigningKey, generate_signing_key};

pub use parse::{BusUrl, Purpose};

use crate::Error;
use crate::service_name::ServiceName;
use crate::settings::parse::{
    CURSOR_SECRET, INTERNAL_SECRET, PaymentSettings, RouterSettings, SIGNING_KEY, SIGNING_KEY_FILE,
    Secrets,
};
use crate::settings::subgraphs::SubgraphSettings;

/// The cookie of the users service; it is sent to no other service.
const REFRESH_COOKIE: &str = "stoa_refresh";
/// Mutations through which secrets could be guessed.
const GUARDED_FIELDS: [&str; 3] = ["login", "register", "refreshSession"];

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
    /// How the router reaches subgraphs in other processes.
    pub subgraphs: SubgraphSettings,
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
        let bus = parse::bus(&mut problems);
        let redis = problems.check(parse::redis());
        let pool = problems.check(parse::pool());
        let fault_rate = problems.check(parse::fault_rate(environment));
        let jwks_url = parse::url(&mut problems, "STOA_JWKS_URL");
        let products_public_url = parse::base_url(&mut problems, "STOA_PRODUCTS_PUBLIC_URL");
        let databases = parse::databases(&mut problems);
        let peers = parse::peers(&mut problems);
        let secrets = parse::secrets(&mut problems, environment, purpose, jwks_url.is_some());
        let takes_payments = purpose.runs(ServiceName::Orders);
        let payments = parse::payments(&mut problems, environment, takes_payments);
        let rates = problems.check(parse::rates(takes_payments));
        let router = parse::router(&mut problems, environment);
        let subgraphs = subgraphs::load(&mut problems);
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
                subgraphs: subgraphs?,
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
            subgraphs: SubgraphSettings::default(),
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
        known.unwrap_or_else(|| parse::sqlite_url(&self.data_dir, service.as_str()))
    }

    pub fn bus_database_url(&self) -> String {
        parse::sqlite_url(&self.data_dir, "bus")
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
                cost: self.router.cost,
                ..Limits::default()
            },
            cors_origins: self.router.cors_origins.clone(),
            expose_plans: self.environment.is_development(),
            override_labels: self.router.override_labels.iter().cloned().collect(),
            ..Config::default()
        }
    }
}
