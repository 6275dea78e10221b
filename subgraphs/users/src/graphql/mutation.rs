//! Accounts and sessions.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{AddressInput, to_graphql_error};

use super::types::{AccountUserError, SavedAddress, Session, User};
use super::{SecureCookies, app, call};
use crate::app::{self, REFRESH_TTL, Registration};
use crate::domain::{self, Account, Problem, ProblemCode};
use crate::error::Error;

/// The cookie that holds a browser's refresh token.
pub const COOKIE: &str = "stoa_refresh";

pub struct Mutation;

#[derive(InputObject)]
pub struct RegisterInput {
    pub email: String,
    /// At least 10 characters.
    pub password: String,
    pub first_name: String,
    pub last_name: String,
}

#[derive(InputObject)]
pub struct LoginInput {
    pub email: String,
    pub password: String,
}

/// Fields that are not given stay unchanged.
#[derive(InputObject)]
pub struct UpdateProfileInput {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

/// The result of a registration, a sign-in or a session refresh.
#[derive(SimpleObject)]
pub struct SessionPayload {
    pub user: Option<User>,
    pub session: Option<Session>,
    pub user_errors: Vec<AccountUserError>,
}

/// The result of a sign-out.
#[derive(SimpleObject)]
pub struct LogoutPayload {
    pub user_errors: Vec<AccountUserError>,
}

/// The result of a change to an account.
#[derive(SimpleObject)]
pub struct UserPayload {
    pub user: Option<User>,
    pub user_errors: Vec<AccountUserError>,
}

/// The result of a change to the caller's address book.
#[derive(SimpleObject)]
pub struct AddressPayload {
    pub address: Option<SavedAddress>,
    pub user_errors: Vec<AccountUserError>,
}

fn address_payload(done: Result<domain::SavedAddress, Error>) -> Result<AddressPayload> {
    match done {
        Ok(saved) => Ok(AddressPayload {
            address: Some(saved.into()),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(AddressPayload {
            address: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

fn session_payload(
    ctx: &Context<'_>,
    done: Result<(Account, app::Session), Error>,
) -> Result<SessionPayload> {
    match done {
        Ok((account, session)) => {
            set_cookie(ctx, &session.refresh_token, REFRESH_TTL.as_secs());
            Ok(SessionPayload {
                user: Some(User::own(account)),
                session: Some(session.into()),
                user_errors: Vec::new(),
            })
        }
        Err(Error::Invalid(problems)) => Ok(SessionPayload {
            user: None,
            session: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
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

fn set_cookie(ctx: &Context<'_>, value: &str, max_age: u64) {
    let secure = if ctx.data::<SecureCookies>().is_ok_and(|secure| secure.0) {
        "; Secure"
    } else {
        ""
    };
    ctx.append_http_header(
        "set-cookie",
        format!(
            "{COOKIE}={value}; Path=/graphql; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"
        ),
    );
}

/// The token of the argument, else of the browser's cookie.
fn argument_or_cookie_token(ctx: &Context<'_>, argument: Option<String>) -> Result<Option<String>> {
    Ok(match argument {
        Some(token) => Some(token),
        None => call(ctx)?.cookies.get(COOKIE).cloned(),
    })
}

#[Object]
impl Mutation {
    /// Creates an account and signs in to it.
    async fn register(&self, ctx: &Context<'_>, input: RegisterInput) -> Result<SessionPayload> {
        let registration = Registration {
            email: input.email,
            password: input.password,
            first_name: input.first_name,
            last_name: input.last_name,
        };
        session_payload(ctx, app(ctx)?.account_register(registration).await)
    }

    /// Signs in with an e-mail address and a password.
    async fn login(&self, ctx: &Context<'_>, input: LoginInput) -> Result<SessionPayload> {
        let done = app(ctx)?.session_login(&input.email, &input.password).await;
        session_payload(ctx, done)
    }

    /// Exchanges a refresh token, from the argument or the cookie, for new
    /// tokens.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        refresh_token: Option<String>,
    ) -> Result<SessionPayload> {
        let done = match argument_or_cookie_token(ctx, refresh_token)? {
            Some(token) => app(ctx)?.session_refresh(&token).await,
            None => Err(Error::from(Problem::new(
                &["refreshToken"],
                ProblemCode::InvalidRefreshToken,
                "is neither in the arguments nor in a cookie; sign in first",
            ))),
        };
        session_payload(ctx, done)
    }

    /// Ends the session of a refresh token, from the argument or the cookie.
    async fn logout(
        &self,
        ctx: &Context<'_>,
        refresh_token: Option<String>,
    ) -> Result<LogoutPayload> {
        if let Some(token) = argument_or_cookie_token(ctx, refresh_token)? {
            app(ctx)?
                .session_logout(&token)
                .await
                .map_err(to_graphql_error)?;
        }
        set_cookie(ctx, "", 0);
        Ok(LogoutPayload {
            user_errors: Vec::new(),
        })
    }

    /// Changes the caller's name.
    async fn update_profile(
        &self,
        ctx: &Context<'_>,
        input: UpdateProfileInput,
    ) -> Result<UserPayload> {
        let done = app(ctx)?
            .account_rename(&call(ctx)?.caller, input.first_name, input.last_name)
            .await;
        user_payload(done)
    }

    /// Deletes the caller's account and erases its personal data. Orders keep
    /// what an invoice needs, including their address.
    async fn delete_account(&self, ctx: &Context<'_>) -> Result<UserPayload> {
        let done = app(ctx)?.account_delete(&call(ctx)?.caller).await;
        if done.is_ok() {
            set_cookie(ctx, "", 0);
        }
        user_payload(done)
    }

    /// Adds an address to the caller's address book, which holds at most 20.
    /// The first one becomes the default.
    async fn add_address(
        &self,
        ctx: &Context<'_>,
        input: AddressInput,
        #[graphql(desc = "Whether it replaces the current default address.")] is_default: Option<
            bool,
        >,
    ) -> Result<AddressPayload> {
        let caller = &call(ctx)?.caller;
        address_payload(
            app(ctx)?
                .address_add(caller, input.into(), is_default.unwrap_or(false))
                .await,
        )
    }

    /// Changes one of the caller's addresses; arguments that are not given
    /// leave it unchanged.
    async fn update_address(
        &self,
        ctx: &Context<'_>,
        id: ID,
        input: Option<AddressInput>,
        is_default: Option<bool>,
    ) -> Result<AddressPayload> {
        let caller = &call(ctx)?.caller;
        let input = input.map(Into::into);
        address_payload(
            app(ctx)?
                .address_update(caller, &id, input, is_default)
                .await,
        )
    }

    /// Removes an address from the caller's address book. Orders keep their own
    /// copy.
    async fn remove_address(&self, ctx: &Context<'_>, id: ID) -> Result<AddressPayload> {
        address_payload(app(ctx)?.address_remove(&call(ctx)?.caller, &id).await)
    }
}
