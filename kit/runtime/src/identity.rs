//! The caller's identity. The router verifies a client's token once and passes a signed
//! identity that lives for a minute; services sign one for calls to peers. A
//! service trusts nothing else.

use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::clock::{Clock, Micros};

/// The header that carries the signed identity between our own processes.
pub const IDENTITY_HEADER: &str = "x-stoa-identity";

const LIFETIME_SECONDS: i64 = 60;
/// The clock skew between machines that is tolerated.
const LEEWAY_SECONDS: i64 = 30;
const ISSUER: &str = "stoa";

/// What a user may do beyond their own data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum Role {
    Customer,
    Admin,
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Caller {
    Anonymous,
    User {
        /// The user's id, as the token's subject has it.
        id: String,
        role: Role,
    },
    /// Another service, or this one's own background work.
    Service {
        name: String,
    },
}

impl Caller {
    /// The signed-in user's id.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::User { id, .. } => Some(id),
            _ => None,
        }
    }

    pub fn is_admin(&self) -> bool {
        matches!(
            self,
            Self::User {
                role: Role::Admin,
                ..
            }
        )
    }

    pub fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    #[serde(flatten)]
    caller: Caller,
}

/// Why an identity header was refused.
#[derive(Debug, thiserror::Error)]
#[error("the identity header does not verify")]
pub struct InvalidIdentity;

/// Signs and verifies identities with the secret that all processes share.
#[derive(Clone)]
pub struct IdentityKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    clock: Clock,
}

impl IdentityKey {
    pub fn new(secret: &str, clock: Clock) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            clock,
        }
    }

    /// The header's value for a caller; `None` for an anonymous one, who needs
    /// no header.
    pub fn sign(&self, caller: &Caller) -> Option<HeaderValue> {
        if *caller == Caller::Anonymous {
            return None;
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            exp: seconds(self.clock.now()) + LIFETIME_SECONDS,
            caller: caller.clone(),
        };
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).ok()?;
        HeaderValue::from_str(&token).ok()
    }

    /// Reads the caller from a request's headers; without one it is anonymous.
    ///
    /// # Errors
    /// If there is a header and it is forged, foreign or expired.
    pub fn verify(&self, headers: &HeaderMap) -> Result<Caller, InvalidIdentity> {
        let Some(value) = headers.get(IDENTITY_HEADER) else {
            return Ok(Caller::Anonymous);
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.validate_aud = false;
        // Expiry is checked below, with our clock instead of the library's.
        validation.validate_exp = false;
        let token = value.to_str().map_err(|_| InvalidIdentity)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| InvalidIdentity)?
            .claims;
        if claims.exp + LEEWAY_SECONDS < seconds(self.clock.now()) {
            return Err(InvalidIdentity);
        }
        Ok(claims.caller)
    }
}

fn seconds(at: Micros) -> i64 {
    at.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_fresh_identity_of_our_own_is_believed() {
        let clock = Clock::manual(1_700_000_000_000_000);
        let key = IdentityKey::new("a secret of more than thirty-two bytes", clock.clone());
        let caller = Caller::User {
            id: uuid::Uuid::now_v7().to_string(),
            role: Role::Customer,
        };
        let mut headers = HeaderMap::new();
        assert_eq!(key.verify(&headers).unwrap(), Caller::Anonymous);
        headers.insert(IDENTITY_HEADER, key.sign(&caller).unwrap());
        assert_eq!(key.verify(&headers).unwrap(), caller);
        let other = IdentityKey::new("another secret of thirty-two bytes!", clock.clone());
        assert!(other.verify(&headers).is_err());
        clock.advance(Duration::from_secs(91));
        assert!(key.verify(&headers).is_err());
        headers.insert(IDENTITY_HEADER, HeaderValue::from_static("nonsense"));
        assert!(key.verify(&headers).is_err());
    }

    fn clock() -> Clock {
        Clock::manual(1_700_000_000_000_000)
    }

    fn key(clock: &Clock) -> IdentityKey {
        IdentityKey::new("a secret of more than thirty-two bytes", clock.clone())
    }

    fn user(role: Role) -> Caller {
        let id = "a user's id".to_owned();
        Caller::User { id, role }
    }

    fn service() -> Caller {
        let name = "orders".to_owned();
        Caller::Service { name }
    }

    fn verified(key: &IdentityKey, value: HeaderValue) -> Option<Caller> {
        let headers = HeaderMap::from_iter([(IDENTITY_HEADER.parse().unwrap(), value)]);
        key.verify(&headers).ok()
    }

    #[test]
    fn every_caller_arrives_as_it_was_signed() {
        let key = key(&clock());
        assert_eq!(key.sign(&Caller::Anonymous), None, "no header says it");
        for caller in [user(Role::Customer), user(Role::Admin), service()] {
            let signed = key.sign(&caller).unwrap();
            assert_eq!(verified(&key, signed), Some(caller));
        }
    }

    #[test]
    fn an_identity_lasts_for_a_minute_and_the_tolerated_clock_skew() {
        let clock = clock();
        let key = key(&clock);
        let signed = key.sign(&service()).unwrap();
        clock.advance(Duration::from_secs(90));
        assert_eq!(verified(&key, signed.clone()), Some(service()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(verified(&key, signed), None);
    }

    #[test]
    fn an_identity_is_of_our_issuer_and_algorithm() {
        let key = key(&clock());
        let signed = |iss: &str, algorithm| {
            let claims = Claims {
                iss: iss.to_owned(),
                exp: 1_700_000_060,
                caller: user(Role::Admin),
            };
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key.encoding);
            HeaderValue::from_str(&token.unwrap()).unwrap()
        };
        let ours = signed(ISSUER, Algorithm::HS256);
        assert_eq!(verified(&key, ours), Some(user(Role::Admin)));
        assert_eq!(verified(&key, signed("other", Algorithm::HS256)), None);
        assert_eq!(verified(&key, signed(ISSUER, Algorithm::HS384)), None);
    }

    #[test]
    fn only_an_administrator_is_one() {
        // The subject, and whether it is an administrator or a service.
        let cases = [
            (Caller::Anonymous, None, false, false),
            (user(Role::Customer), Some("a user's id"), false, false),
            (user(Role::Admin), Some("a user's id"), true, false),
            (service(), None, false, true),
        ];
        for (caller, subject, is_admin, is_service) in cases {
            assert_eq!(caller.subject(), subject, "{caller:?}");
            assert_eq!(caller.is_admin(), is_admin, "{caller:?}");
            assert_eq!(caller.is_service(), is_service, "{caller:?}");
        }
    }

    #[test]
    fn a_role_has_one_text_in_tokens_and_in_rows() {
        for (role, text) in [(Role::Customer, "CUSTOMER"), (Role::Admin, "ADMIN")] {
            assert_eq!(role.into_str(), text);
            assert_eq!(text.parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), text);
        }
        for bad in ["", "admin", "Admin", "ROOT"] {
            assert!(bad.parse::<Role>().is_err(), "{bad}");
            assert!(serde_json::from_value::<Role>(bad.into()).is_err(), "{bad}");
        }
    }
}
