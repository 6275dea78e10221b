//! Users and sessions as clients see them.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_runtime::identity::Role;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::graphql::{AddressObject, DateTime, to_graphql_error};

use super::{AddressBookKey, call, loader};
use crate::app;
use crate::domain::{self, Account, ProblemCode};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum UserRole {
    /// Places orders.
    Customer,
    /// Manages the catalogue and all orders.
    Admin,
}

/// An account as clients see it.
pub struct User {
    account: Account,
    /// True right after a sign-in: the user sees their own data, although the
    /// request was anonymous.
    is_self: bool,
}

impl User {
    pub fn new(account: Account) -> Self {
        Self {
            account,
            is_self: false,
        }
    }

    pub fn own(account: Account) -> Self {
        Self {
            account,
            is_self: true,
        }
    }
}

#[Object]
impl User {
    async fn id(&self) -> ID {
        ID(self.account.id.to_string())
    }

    /// Visible only to the user and to administrators.
    async fn email(&self, ctx: &Context<'_>) -> Option<Result<&str>> {
        let allowed = match call(ctx) {
            Ok(call) => self.is_self || call.caller.may_see(&self.account.id),
            Err(error) => return Some(Err(error)),
        };
        Some(if allowed {
            Ok(&self.account.email)
        } else {
            Err(to_graphql_error(CommonError::NotOwner))
        })
    }

    async fn first_name(&self) -> &str {
        &self.account.first_name
    }

    async fn last_name(&self) -> &str {
        &self.account.last_name
    }

    async fn role(&self) -> UserRole {
        match self.account.role {
            Role::Customer => UserRole::Customer,
            Role::Admin => UserRole::Admin,
        }
    }

    /// The user's address book. Visible only to the user and to administrators.
    async fn addresses(&self, ctx: &Context<'_>) -> Result<Option<Vec<SavedAddress>>> {
        if !self.is_self && !call(ctx)?.caller.may_see(&self.account.id) {
            return Err(to_graphql_error(CommonError::NotOwner));
        }
        let key = AddressBookKey(self.account.id.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let book = found.unwrap_or_default().into_iter();
        Ok(Some(book.map(Into::into).collect()))
    }

    /// False once the account is deleted.
    async fn is_active(&self) -> bool {
        self.account.is_active
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.account.created_at)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.account.updated_at)
    }
}

/// The tokens of a signed-in client.
#[derive(SimpleObject)]
pub struct Session {
    /// To be sent in the header `Authorization: Bearer ...`.
    access_token: String,
    /// When the access token expires: 15 minutes after it was issued.
    expires_at: DateTime,
    /// Valid for one `refreshSession` within seven days. It is also set as an
    /// httpOnly cookie.
    refresh_token: String,
}

impl From<app::Session> for Session {
    fn from(session: app::Session) -> Self {
        Self {
            access_token: session.access_token,
            expires_at: DateTime(session.expires_at),
            refresh_token: session.refresh_token,
        }
    }
}

/// Why a registration, a sign-in or a change to an account was refused.
#[derive(Debug, Clone, SimpleObject)]
pub struct AccountUserError {
    /// The path of the argument that is wrong.
    pub field: Option<Vec<String>>,
    pub code: ProblemCode,
    /// For developers, in English.
    pub message: String,
}

impl From<domain::Problem> for AccountUserError {
    fn from(problem: domain::Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code,
            message: problem.message,
        }
    }
}

/// An address in a user's address book.
#[derive(SimpleObject)]
pub struct SavedAddress {
    id: ID,
    address: AddressObject,
    /// Whether it is the default address; at most one is.
    is_default: bool,
}

impl From<domain::SavedAddress> for SavedAddress {
    fn from(saved: domain::SavedAddress) -> Self {
        Self {
            id: ID(saved.id),
            address: saved.address.into(),
            is_default: saved.is_default,
        }
    }
}
