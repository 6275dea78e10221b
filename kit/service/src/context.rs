//! What is known of a call before its content.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, header};
use stoa_runtime::identity::{Caller, IdentityKey, InvalidIdentity};
use stoa_runtime::telemetry::correlation_id;
use stoa_schema::UserId;

use crate::error::CommonError;

/// What a request's headers say: the caller, the correlation id and the cookies.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub caller: Caller,
    pub correlation_id: Arc<str>,
    /// The cookies that the router lets through to this service.
    pub cookies: HashMap<String, String>,
}

impl Default for CallContext {
    fn default() -> Self {
        Self {
            caller: Caller::Anonymous,
            correlation_id: "".into(),
            cookies: HashMap::new(),
        }
    }
}

impl CallContext {
    /// Reads a request's headers.
    ///
    /// # Errors
    /// If they hold an identity that does not verify.
    pub fn from_headers(headers: &HeaderMap, key: &IdentityKey) -> Result<Self, InvalidIdentity> {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            caller: key.verify(headers)?,
            correlation_id: correlation_id(headers).into(),
            cookies,
        })
    }
}

/// What the shop asks of a caller. The identity itself knows no shop.
pub trait CallerExt {
    /// The signed-in user.
    fn user_id(&self) -> Option<UserId>;

    /// Whether the caller is this user.
    fn is_user(&self, id: &UserId) -> bool;

    /// Whether the caller may see what belongs to `owner`: it is the owner, or
    /// an administrator.
    fn may_see(&self, owner: &UserId) -> bool;

    /// # Errors
    /// [`CommonError::Unauthenticated`] if no user is signed in.
    fn signed_in(&self) -> Result<UserId, CommonError>;

    /// # Errors
    /// [`CommonError::NotOwner`] if the caller may not see what belongs to
    /// `owner`.
    fn require_access_to(&self, owner: &UserId) -> Result<(), CommonError>;

    /// # Errors
    /// [`CommonError::NotAdmin`], or [`CommonError::Unauthenticated`] for an
    /// anonymous caller.
    fn require_admin(&self) -> Result<(), CommonError>;
}

impl CallerExt for Caller {
    fn user_id(&self) -> Option<UserId> {
        self.subject().map(UserId::trusted)
    }

    fn is_user(&self, id: &UserId) -> bool {
        self.subject() == Some(id.as_str())
    }

    fn may_see(&self, owner: &UserId) -> bool {
        self.is_admin() || self.is_user(owner)
    }

    fn signed_in(&self) -> Result<UserId, CommonError> {
        self.user_id().ok_or(CommonError::Unauthenticated)
    }

    fn require_access_to(&self, owner: &UserId) -> Result<(), CommonError> {
        if self.may_see(owner) {
            Ok(())
        } else {
            Err(CommonError::NotOwner)
        }
    }

    fn require_admin(&self) -> Result<(), CommonError> {
        match self {
            _ if self.is_admin() => Ok(()),
            Self::Anonymous => Err(CommonError::Unauthenticated),
            _ => Err(CommonError::NotAdmin),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use stoa_runtime::clock::Clock;
    use stoa_runtime::identity::{IDENTITY_HEADER, Role};
    use stoa_runtime::telemetry::CORRELATION_HEADER;

    use super::*;

    fn user(id: &UserId, role: Role) -> Caller {
        let id = id.to_string();
        Caller::User { id, role }
    }

    fn key() -> IdentityKey {
        let clock = Clock::manual(1_800_000_000_000_000);
        IdentityKey::new("a secret of more than thirty-two bytes", clock)
    }

    #[test]
    fn owners_and_administrators_see_what_belongs_to_a_user() {
        let (owner, stranger) = (UserId::new(), UserId::new());
        let name = owner.to_string();
        let cases = [
            (Caller::Anonymous, false),
            (user(&owner, Role::Customer), true),
            (user(&owner, Role::Admin), true),
            (user(&stranger, Role::Customer), false),
            (user(&stranger, Role::Admin), true),
            (Caller::Service { name }, false),
        ];
        for (caller, sees) in cases {
            assert_eq!(caller.may_see(&owner), sees, "{caller:?}");
            match caller.require_access_to(&owner) {
                Ok(()) => assert!(sees, "{caller:?}"),
                Err(error) => {
                    assert!(matches!(error, CommonError::NotOwner), "{error:?}");
                    assert!(!sees, "{caller:?}");
                }
            }
        }
    }

    #[test]
    fn an_anonymous_caller_must_sign_in_and_a_customer_is_no_administrator() {
        let id = UserId::new();
        let name = "orders".to_owned();
        // The user; what is missing for what administrators do.
        let cases = [
            (Caller::Anonymous, None, Some("sign in")),
            (Caller::Service { name }, None, Some("administrator")),
            (user(&id, Role::Customer), Some(&id), Some("administrator")),
            (user(&id, Role::Admin), Some(&id), None),
        ];
        for (caller, signed_in, missing) in cases {
            assert_eq!(caller.is_user(&id), signed_in.is_some(), "{caller:?}");
            match (caller.signed_in(), signed_in) {
                (Ok(found), Some(id)) => assert_eq!(found, *id),
                (found, None) => assert!(matches!(found, Err(CommonError::Unauthenticated))),
                (found, _) => panic!("{caller:?}: {found:?}"),
            }
            let found = match caller.require_admin() {
                Ok(()) => None,
                Err(CommonError::Unauthenticated) => Some("sign in"),
                Err(CommonError::NotAdmin) => Some("administrator"),
                Err(error) => panic!("{caller:?}: {error}"),
            };
            assert_eq!(found, missing, "{caller:?}");
        }
    }

    #[test]
    fn a_context_is_read_from_the_headers() {
        let caller = user(&UserId::new(), Role::Customer);
        let mut headers = HeaderMap::new();
        headers.insert(IDENTITY_HEADER, key().sign(&caller).unwrap());
        headers.insert(CORRELATION_HEADER, HeaderValue::from_static("a-request-1"));
        let cookies = ["a=1; b = 2;c=x=y; nonsense", "d="];
        for value in cookies {
            headers.append(header::COOKIE, HeaderValue::from_static(value));
        }
        let context = CallContext::from_headers(&headers, &key()).unwrap();
        assert_eq!(context.caller, caller);
        assert_eq!(&*context.correlation_id, "a-request-1");
        let mut cookies: Vec<_> = context
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        cookies.sort();
        assert_eq!(cookies, ["a=1", "b = 2", "c=x=y", "d="]);

        headers.insert(IDENTITY_HEADER, HeaderValue::from_static("forged"));
        assert!(CallContext::from_headers(&headers, &key()).is_err());
    }
}
