//! What every role reads from the environment.

use std::path::{Path, PathBuf};

use stoa_kit::clock::Clock;
use stoa_kit::identity::IdentityKey;
use stoa_kit::secret;
use stoa_kit::settings::{Environment, SettingError, read};
use stoa_router::{Config, HeaderRules, RateLimits};

use crate::Error;
use crate::services::ServiceName;

/// The cookie of the users service; it goes there and nowhere else.
const REFRESH_COOKIE: &str = "stoa_refresh";
/// Mutations that guess at secrets.
const GUARDED_FIELDS: [&str; 3] = ["login", "register", "refreshSession"];

/// Settings that the roles share.
#[derive(Debug, Clone)]
pub struct Shared {
    pub environment: Environment,
    pub data_dir: PathBuf,
    pub clock: Clock,
}

impl Shared {
    /// # Errors
    /// If a setting has a wrong value, or names a backend that this version
    /// does not speak.
    pub fn from_env(data_dir: PathBuf) -> Result<Self, Error> {
        for (name, known) in [("STOA_BUS_URL", "embedded:"), ("STOA_CACHE_URL", "memory:")] {
            if let Some(url) = read(name)
                && url != known
            {
                return Err(
                    SettingError::new(name, format!("this version speaks {known} only")).into(),
                );
            }
        }
        Ok(Self::new(Environment::from_env()?, data_dir))
    }

    pub fn new(environment: Environment, data_dir: PathBuf) -> Self {
        Self {
            environment,
            data_dir,
            clock: Clock::system(),
        }
    }

    /// The key that signs identities between our own processes.
    ///
    /// # Errors
    /// If the secret is missing in production, or unfit.
    pub fn identity_key(&self) -> Result<IdentityKey, Error> {
        let secret = self.secret("STOA_INTERNAL_SECRET")?;
        Ok(IdentityKey::new(&secret, self.clock.clone()))
    }

    /// # Errors
    /// If the secret is missing in production, or unfit.
    pub fn secret(&self, name: &str) -> Result<String, Error> {
        Ok(secret::load(name, self.environment, &self.data_dir)?)
    }

    /// The key that signs access tokens.
    ///
    /// # Errors
    /// If it is missing in production, or no Ed25519 key.
    pub fn signing_key(&self) -> Result<stoa_users::token::SigningKey, Error> {
        const NAME: &str = "STOA_SIGNING_KEY";
        let bad =
            |problem: String| Error::from(SettingError::new("STOA_SIGNING_KEY_FILE", problem));
        let pem = match read("STOA_SIGNING_KEY_FILE") {
            Some(path) => std::fs::read_to_string(&path)
                .map_err(|error| bad(format!("cannot read {path}: {error}")))?,
            None if self.environment.is_development() => {
                secret::stored(NAME, &self.data_dir, stoa_users::token::generate)?
            }
            None => {
                return Err(bad(
                    "not set; in production give a key's path (try: openssl genpkey -algorithm ed25519)"
                        .to_owned(),
                ));
            }
        };
        stoa_users::token::SigningKey::from_pem(&pem).map_err(bad)
    }

    /// A service's database URL: as set, else a file in the data folder.
    pub fn database_url(&self, service: ServiceName) -> String {
        let name = format!("STOA_{}_DATABASE_URL", service.as_str().to_uppercase());
        read(&name).unwrap_or_else(|| sqlite_url(&self.data_dir, service.as_str()))
    }

    pub fn bus_database_url(&self) -> String {
        sqlite_url(&self.data_dir, "bus")
    }

    /// The rules of the shop's router.
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
            cors_origins: cors_origins(),
            ..Config::default()
        })
    }
}

/// From `STOA_CORS_ORIGINS`, separated by commas.
pub fn cors_origins() -> Vec<String> {
    read("STOA_CORS_ORIGINS")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .map(str::to_owned)
        .collect()
}

fn sqlite_url(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(format!("{name}.db")).display())
}
