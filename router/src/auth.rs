//! Access tokens: JWTs verified once, here, against a JWK set.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use stoa_federation::Grants;
use stoa_runtime::clock::{Clock, Micros};
use stoa_runtime::identity::{Caller, Role};
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;

/// The largest clock difference between two machines that is tolerated.
const LEEWAY_SECONDS: i64 = 5;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A token with an unknown key makes us fetch the keys again, at most this often.
const REFETCH_AFTER: Duration = Duration::from_secs(10);
/// Asymmetric only: a public key must never serve as a shared secret.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// The caller of a request, as its access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub caller: Caller,
    /// When the token expires; subscriptions opened with it end then.
    pub expires_at: Option<Micros>,
    /// What the token grants; `None` without a token.
    pub grants: Option<Arc<Grants>>,
}

impl Principal {
    pub const ANONYMOUS: Self = Self {
        caller: Caller::Anonymous,
        expires_at: None,
        grants: None,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("the Authorization header is not of the form \"Bearer TOKEN\"")]
    Malformed,
    #[error("the access token does not verify; sign in again")]
    Invalid,
    #[error("the access token has expired; refresh the session")]
    Expired,
    #[error("the keys that verify access tokens cannot be fetched at the moment")]
    NoKeys,
}

impl AuthError {
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Invalid => "INVALID_TOKEN",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NoKeys => "UNAVAILABLE",
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    role: Option<String>,
    /// Separated by spaces (RFC 8693, section 4.2).
    #[serde(default)]
    scope: String,
    #[serde(default)]
    policies: BTreeSet<String>,
}

/// Verifies access tokens.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<RwLock<JwkSet>>,
    /// When the keys were last fetched, and whether that succeeded.
    last_fetch: Arc<Mutex<Option<(Instant, bool)>>>,
    source: Option<(reqwest::Client, Arc<str>)>,
    clock: Clock,
}

impl Verifier {
    /// A verifier with fixed keys.
    pub fn with_keys(set: JwkSet, clock: Clock) -> Self {
        Self {
            keys: Arc::new(RwLock::new(set)),
            last_fetch: Arc::default(),
            source: None,
            clock,
        }
    }

    /// A verifier that fetches its keys when they are first needed, and again
    /// when a token names an unknown key.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn from_url(url: &str, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            keys: Arc::new(RwLock::new(JwkSet { keys: Vec::new() })),
            last_fetch: Arc::default(),
            source: Some((client, url.into())),
            clock,
        })
    }

    /// The caller of a request with these headers; anonymous without a token.
    ///
    /// # Errors
    /// If there is a token and it is not valid.
    pub async fn principal(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        match headers.get(header::AUTHORIZATION) {
            None => Ok(Principal::ANONYMOUS),
            Some(value) => {
                let value = value.to_str().map_err(|_| AuthError::Malformed)?;
                self.bearer(value).await
            }
        }
    }

    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// If it is not a bearer token, or not a valid one.
    pub async fn bearer(&self, value: &str) -> Result<Principal, AuthError> {
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(AuthError::Malformed)?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(AuthError::Invalid);
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.validate_aud = false;
        // The time comes from our clock, not from the library's.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|_| AuthError::Invalid)?
            .claims;
        let now = self.clock.now().div_euclid(1_000_000);
        let until = claims.exp.saturating_add(LEEWAY_SECONDS);
        if until <= now {
            return Err(AuthError::Expired);
        }
        let role = claims.role.as_deref().and_then(|role| role.parse().ok());
        Ok(Principal {
            caller: Caller::User {
                id: claims.sub,
                role: role.unwrap_or(Role::Customer),
            },
            expires_at: Some(until.saturating_mul(1_000_000)),
            grants: Some(Arc::new(Grants {
                authenticated: true,
                scopes: claims.scope.split_whitespace().map(str::to_owned).collect(),
                policies: claims.policies,
            })),
        })
    }

    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, AuthError> {
        if let Some(key) = find(&*self.keys.read().await, id)? {
            return Ok(key);
        }
        self.refetch().await?;
        find(&*self.keys.read().await, id)?.ok_or(AuthError::Invalid)
    }

    /// Fetches the keys, unless another request did so just now.
    async fn refetch(&self) -> Result<(), AuthError> {
        let Some((client, url)) = &self.source else {
            return Ok(());
        };
        // One fetch at a time: a request that waited for the lock uses the result of
        // the fetch before it. The wait is bounded by the fetch's time-out.
        let mut last_fetch = self.last_fetch.lock().await;
        if let Some((at, succeeded)) = *last_fetch
            && at.elapsed() < REFETCH_AFTER
        {
            return if succeeded {
                Ok(())
            } else {
                Err(AuthError::NoKeys)
            };
        }
        let fetched = async {
            client
                .get(&**url)
                .send()
                .await?
                .error_for_status()?
                .json::<JwkSet>()
                .await
        };
        let fetched = fetched.await;
        // Recorded after the fetch: if the client disconnects meanwhile, nothing is
        // recorded, and the next request fetches.
        *last_fetch = Some((Instant::now(), fetched.is_ok()));
        match fetched {
            Ok(set) => {
                *self.keys.write().await = set;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot fetch the keys that verify access tokens");
                Err(AuthError::NoKeys)
            }
        }
    }
}

fn find(set: &JwkSet, id: Option<&str>) -> Result<Option<DecodingKey>, AuthError> {
    let jwk = match id {
        Some(id) => set.find(id),
        None => set.keys.first().filter(|_| set.keys.len() == 1),
    };
    jwk.map(DecodingKey::from_jwk)
        .transpose()
        .map_err(|_| AuthError::Invalid)
}
