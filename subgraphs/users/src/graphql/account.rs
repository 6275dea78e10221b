//! Accounts: reading, changing and deleting them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::UserId;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::graphql::{
    Connection, DateTime, call_context, list_size, page_arguments, page_fields, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::address::SavedAddress;
use super::cookie::set_cookie;
use super::loader::AddressBookKey;
use super::problem::AccountUserError;
use super::{app, loader};
use crate::domain::Account;
use crate::error::Error;

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
        let allowed = match call_context(ctx) {
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
        if !self.is_self && !call_context(ctx)?.caller.may_see(&self.account.id) {
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

#[derive(Default)]
pub struct AccountQuery;

#[Object]
impl AccountQuery {
    /// The signed-in user; null for an anonymous request.
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match call_context(ctx)?.caller.user_id() {
            Some(id) => load_user(ctx, id.clone()).await,
            None => Ok(None),
        }
    }

    /// Any user, by id. Requires a signed-in caller.
    async fn user(&self, ctx: &Context<'_>, id: ID) -> Result<Option<User>> {
        if call_context(ctx)?.caller == Caller::Anonymous {
            return Err(to_graphql_error(CommonError::Unauthenticated));
        }
        match UserId::parse(&id) {
            Some(id) => load_user(ctx, id).await,
            None => Ok(None),
        }
    }

    /// All users, newest first. Administrators only.
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
    ) -> Result<Option<Connection<User>>> {
        let app = app(ctx)?;
        let slice = app
            .account_list(&call_context(ctx)?.caller, &PageRequest { first, after })
            .await
            .map_err(to_graphql_error)?;
        let counter = app.clone();
        let count = move || {
            let app = counter.clone();
            Box::pin(async move { app.account_count().await.map_err(to_graphql_error) }) as _
        };
        Ok(Some(Connection::new(
            slice,
            |account| account.id.to_string(),
            User::new,
            Arc::new(count),
        )))
    }

    #[graphql(entity)]
    async fn find_user_by_id(&self, ctx: &Context<'_>, id: ID) -> Result<Option<User>> {
        match UserId::parse(&id) {
            Some(id) => load_user(ctx, id).await,
            None => Ok(None),
        }
    }
}

async fn load_user(ctx: &Context<'_>, id: UserId) -> Result<Option<User>> {
    let found = loader(ctx)?.load_one(id).await.map_err(to_graphql_error)?;
    Ok(found.map(User::new))
}

/// Fields that are not given stay unchanged.
#[derive(InputObject)]
pub struct UpdateProfileInput {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

/// The result of a change to an account.
#[derive(SimpleObject)]
pub struct UserPayload {
    pub user: Option<User>,
    pub user_errors: Vec<AccountUserError>,
}

fn user_payload(done: Result<Account, Error>) -> Result<UserPayload> {
    match done {
        Ok(account) => Ok(UserPayload {
            user: Some(User::own(account)),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(UserPayload {
            user: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Changes the caller's name.
    async fn update_profile(
        &self,
        ctx: &Context<'_>,
        input: UpdateProfileInput,
    ) -> Result<UserPayload> {
        let done = app(ctx)?
            .account_rename(
                &call_context(ctx)?.caller,
                input.first_name,
                input.last_name,
            )
            .await;
        user_payload(done)
    }

    /// Deletes the caller's account and erases its personal data. Orders keep
    /// what an invoice needs, including their address.
    async fn delete_account(&self, ctx: &Context<'_>) -> Result<UserPayload> {
        let done = app(ctx)?.account_delete(&call_context(ctx)?.caller).await;
        if done.is_ok() {
            set_cookie(ctx, "", 0);
        }
        user_payload(done)
    }
}
