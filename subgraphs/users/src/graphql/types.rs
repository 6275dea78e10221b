//! Users and sessions as clients see them.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_runtime::identity::Role;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::graphql::{AddressObject, DateTime, to_graphql_error};

use super::{AddressesOf, call, loader};
use crate::app;
use crate::domain::{self, Account, ProblemCode};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum UserRole {
    /// Buys.
    Customer,
    /// Keeps the catalogue and moves everybody's orders.
    Admin,
}

/// Somebody with an account.
pub struct User {
    account: Account,
    /// Who just signed in sees themselves, although the request was anonymous.
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

    /// For the user themselves and administrators.
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

    /// The user's address book: for themselves and administrators.
    async fn addresses(&self, ctx: &Context<'_>) -> Result<Option<Vec<SavedAddress>>> {
        if !self.is_self && !call(ctx)?.caller.may_see(&self.account.id) {
            return Err(to_graphql_error(CommonError::NotOwner));
        }
        let key = AddressesOf(self.account.id.clone());
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

/// What a signed-in client holds.
#[derive(SimpleObject)]
pub struct Session {
    /// Goes into the header `Authorization: Bearer ...`.
    access_token: String,
    /// When the access token ends: 15 minutes from now.
    expires_at: DateTime,
    /// Good for one refreshSession within seven days. Browsers hold it in an
    /// httpOnly cookie as well.
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

/// Why an account was not made, changed or signed in to.
#[derive(Debug, Clone, SimpleObject)]
pub struct AccountUserError {
    /// Where in the arguments.
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

/// An address in somebody's book.
#[derive(SimpleObject)]
pub struct SavedAddress {
    id: ID,
    address: AddressObject,
    /// The one to begin with; there is at most one.
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
