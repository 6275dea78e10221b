//! Signing in, refreshing and signing out.

use sea_orm::ConnectionTrait;
use stoa_runtime::clock::{Micros, micros};
use stoa_runtime::identity::Role;

use super::App;
use super::account::lock_active_account;
use crate::domain::{
    self, ACCESS_TTL, Account, MAX_PASSWORD, Problem, ProblemCode, REFRESH_TTL, REUSE_GRACE,
    Registration, Session,
};
use crate::error::Error;
use crate::store::{account, session};
use crate::token::{hash_refresh_token, new_refresh_token};

impl App {
    /// Creates an account and signs in to it.
    pub async fn account_register(
        &self,
        registration: Registration,
    ) -> Result<(Account, Session), Error> {
        let account = self.account_create(registration, Role::Customer).await?;
        let session = self.session_open(&account).await?;
        Ok((account, session))
    }

    /// Signs in. Neither the error nor the time it takes reveals whether the
    /// address or the password was wrong.
    pub async fn session_login(
        &self,
        email: &str,
        password: &str,
    ) -> Result<(Account, Session), Error> {
        let email = domain::normalize_email(email);
        let refused = || {
            Error::from(Problem::new(
                &["input"],
                ProblemCode::InvalidCredentials,
                "no account has this e-mail address and password",
            ))
        };
        // PostgreSQL rejects text with a NUL; no address contains one.
        if password.chars().count() > MAX_PASSWORD || email.contains('\0') {
            return Err(refused());
        }
        let account = account::account_fetch_by_email(self.database.read(), &email)
            .await?
            .filter(|account| account.is_active);
        let hash = account
            .as_ref()
            .map(|account| account.password_hash.as_str());
        let fits = self.hasher.verify(password, hash).await?;
        let account = account.filter(|_| fits).ok_or_else(refused)?;
        let session = self.session_open(&account).await?;
        Ok((account, session))
    }

    async fn session_open(&self, account: &Account) -> Result<Session, Error> {
        let now = self.clock.now();
        let id = stoa_schema::ids::new_id();
        let txn = self.database.begin().await?;
        // The account may have been deleted while the password was verified.
        lock_active_account(&txn, &account.id).await?;
        session::session_insert_in_txn(&txn, &id, &account.id, now).await?;
        let session = self.issue_tokens_in_txn(&txn, account, &id, now).await?;
        txn.commit().await?;
        Ok(session)
    }

    async fn issue_tokens_in_txn<C: ConnectionTrait>(
        &self,
        txn: &C,
        account: &Account,
        session_id: &str,
        now: Micros,
    ) -> Result<Session, Error> {
        let refresh = new_refresh_token();
        session::refresh_token_insert_in_txn(
            txn,
            &hash_refresh_token(&refresh),
            session_id,
            now + micros(REFRESH_TTL),
        )
        .await?;
        let expires_at = now + micros(ACCESS_TTL);
        Ok(Session {
            access_token: self.key.access_token(
                &account.id,
                account.role,
                session_id,
                now,
                expires_at,
            )?,
            expires_at,
            refresh_token: refresh,
        })
    }

    /// Exchanges a refresh token for new tokens. Each can be used once; using
    /// one again ends its session, because one of the two clients that used it
    /// must have stolen it.
    pub async fn session_refresh(&self, token: &str) -> Result<(Account, Session), Error> {
        let refused = || {
            Error::from(Problem::new(
                &["refreshToken"],
                ProblemCode::InvalidRefreshToken,
                "is unknown, expired or was used before; sign in again",
            ))
        };
        let hash = hash_refresh_token(token);
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let known = session::refresh_token_fetch(&txn, &hash)
            .await?
            .filter(|known| !known.session_revoked && known.expires_at > now)
            .ok_or_else(refused)?;
        if !session::refresh_token_use_in_txn(&txn, &hash, now).await? {
            if known
                .used_at
                .is_some_and(|at| at + micros(REUSE_GRACE) < now)
            {
                session::session_revoke_in_txn(&txn, &known.session_id, now).await?;
                txn.commit().await?;
                tracing::warn!(user_id = %known.account_id, "a refresh token was used twice; its session is revoked");
            }
            return Err(refused());
        }
        let account = account::account_fetch_many(&txn, std::slice::from_ref(&known.account_id))
            .await?
            .remove(&known.account_id)
            .filter(|account| account.is_active)
            .ok_or_else(refused)?;
        let session = self
            .issue_tokens_in_txn(&txn, &account, &known.session_id, now)
            .await?;
        txn.commit().await?;
        Ok((account, session))
    }

    /// Ends the session of a refresh token; an unknown token is ignored.
    pub async fn session_logout(&self, token: &str) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        if let Some(known) = session::refresh_token_fetch(&txn, &hash_refresh_token(token)).await? {
            session::session_revoke_in_txn(&txn, &known.session_id, self.clock.now()).await?;
            txn.commit().await?;
        }
        Ok(())
    }

    /// Deletes expired refresh tokens.
    pub async fn tokens_purge_expired(&self) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        session::refresh_token_delete_expired_in_txn(&txn, self.clock.now()).await?;
        txn.commit().await?;
        Ok(())
    }
}
