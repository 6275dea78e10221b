//! Sessions: registering, signing in, refreshing and signing out.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{DateTime, to_graphql_error};

use super::account::User;
use super::app;
use super::cookie::{cookie_token, set_cookie};
use super::problem::AccountUserError;
use crate::domain::{self, Account, Problem, ProblemCode, REFRESH_TTL, Registration};
use crate::error::Error;

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

impl From<domain::Session> for Session {
    fn from(session: domain::Session) -> Self {
        Self {
            access_token: session.access_token,
            expires_at: DateTime(session.expires_at),
            refresh_token: session.refresh_token,
        }
    }
}

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

fn session_payload(
    ctx: &Context<'_>,
    done: Result<(Account, domain::Session), Error>,
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

/// The token of the argument, else of the browser's cookie.
fn argument_or_cookie_token(ctx: &Context<'_>, argument: Option<String>) -> Result<Option<String>> {
    Ok(match argument {
        Some(token) => Some(token),
        None => cookie_token(ctx)?,
    })
}

#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
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
}
