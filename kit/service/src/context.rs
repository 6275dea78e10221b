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
