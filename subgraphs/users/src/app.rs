//! Operations on accounts and sessions. Permissions are checked here.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::SqlErr;
use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::UserId;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::error::CommonError;
use stoa_service::page::{PageRequest, Slice};

use crate::domain::{self, Account, MAX_PASSWORD, Problem, ProblemCode};
use crate::error::Error;
use crate::password::Hasher;
use crate::store;
use crate::token::{SigningKey, hash_refresh_token, new_refresh_token};

pub const ACCESS_TTL: Duration = Duration::from_secs(15 * 60);
pub const REFRESH_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Two browser tabs may refresh at the same moment; a second use within this
/// time is refused, but is not treated as theft.
const REUSE_GRACE: Duration = Duration::from_secs(10);
const TOKEN_PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// The users service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    key: SigningKey,
    hasher: Hasher,
}

/// The data of a new account.
#[derive(Debug, Clone)]
pub struct Registration {
    pub email: String,
    pub password: String,
    pub first_name: String,
    pub last_name: String,
}

/// The tokens of a signed-in client.
#[derive(Debug, Clone)]
pub struct Session {
    pub access_token: String,
    pub expires_at: Micros,
    pub refresh_token: String,
}

impl App {
    pub fn new(database: Database, clock: Clock, key: SigningKey) -> Self {
        Self {
            database,
            clock,
            key,
            hasher: Hasher::new(),
        }
    }

    /// Creates an account and signs in to it.
    pub async fn account_register(
        &self,
        registration: Registration,
    ) -> Result<(Account, Session), Error> {
        let account = self.account_create(registration, Role::Customer).await?;
        let session = self.session_open(&account).await?;
        Ok((account, session))
    }

    /// Creates an account of any role: for seeding and the command line.
    pub async fn account_create(
        &self,
        registration: Registration,
        role: Role,
    ) -> Result<Account, Error> {
        let email = domain::normalize_email(&registration.email);
        let problems: Vec<_> = [
            domain::email_problem(&email),
            domain::password_problem(&registration.password, &email),
            domain::name_problem("firstName", &registration.first_name),
            domain::name_problem("lastName", &registration.last_name),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        // Checked first, so that an address already taken does not cost a hash;
        // the unique index still decides.
        let known = store::account_fetch_by_email(self.database.read(), &email).await?;
        if known.is_some() {
            return Err(email_taken().into());
        }
        let now = self.clock.now();
        let account = Account {
            id: UserId::new(),
            email,
            password_hash: self.hasher.hash(&registration.password).await?,
            first_name: registration.first_name.trim().to_owned(),
            last_name: registration.last_name.trim().to_owned(),
            role,
            is_active: true,
            created_at: now,
            updated_at: now,
        };
        let txn = self.database.begin().await?;
        store::account_insert_in_txn(&txn, &account)
            .await
            .map_err(|error| match error.sql_err() {
                Some(SqlErr::UniqueConstraintViolation(_)) => email_taken().into(),
                _ => Error::from(error),
            })?;
        txn.commit().await?;
        Ok(account)
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
        let account = store::account_fetch_by_email(self.database.read(), &email)
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

    /// Whether an active account has this address and this password.
    pub async fn password_matches(&self, email: &str, password: &str) -> Result<bool, Error> {
        let account = store::account_fetch_by_email(self.database.read(), email)
            .await?
            .filter(|account| account.is_active);
        match account {
            None => Ok(false),
            Some(account) => {
                self.hasher
                    .verify(password, Some(&account.password_hash))
                    .await
            }
        }
    }

    async fn session_open(&self, account: &Account) -> Result<Session, Error> {
        let now = self.clock.now();
        let id = stoa_schema::ids::new_id();
        let txn = self.database.begin().await?;
        // The account may have been deleted while the password was verified.
        lock_active_account(&txn, &account.id).await?;
        store::session_insert_in_txn(&txn, &id, &account.id, now).await?;
        let session = self.issue_tokens_in_txn(&txn, account, &id, now).await?;
        txn.commit().await?;
        Ok(session)
    }

    async fn issue_tokens_in_txn<C: sea_orm::ConnectionTrait>(
        &self,
        txn: &C,
        account: &Account,
        session_id: &str,
        now: Micros,
    ) -> Result<Session, Error> {
        let refresh = new_refresh_token();
        store::refresh_token_insert_in_txn(
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
        let known = store::refresh_token_fetch(&txn, &hash)
            .await?
            .filter(|known| !known.session_revoked && known.expires_at > now)
            .ok_or_else(refused)?;
        if !store::refresh_token_use_in_txn(&txn, &hash, now).await? {
            if known
                .used_at
                .is_some_and(|at| at + micros(REUSE_GRACE) < now)
            {
                store::session_revoke_in_txn(&txn, &known.session_id, now).await?;
                txn.commit().await?;
                tracing::warn!(user_id = %known.account_id, "a refresh token was used twice; its session is revoked");
            }
            return Err(refused());
        }
        let account = store::account_fetch_many(&txn, std::slice::from_ref(&known.account_id))
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
        if let Some(known) = store::refresh_token_fetch(&txn, &hash_refresh_token(token)).await? {
            store::session_revoke_in_txn(&txn, &known.session_id, self.clock.now()).await?;
            txn.commit().await?;
        }
        Ok(())
    }

    pub async fn account_rename(
        &self,
        caller: &Caller,
        first_name: Option<String>,
        last_name: Option<String>,
    ) -> Result<Account, Error> {
        let id = &caller.signed_in()?;
        let problems: Vec<_> = [("firstName", &first_name), ("lastName", &last_name)]
            .into_iter()
            .filter_map(|(field, name)| domain::name_problem(field, name.as_deref()?))
            .collect();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let txn = self.database.begin().await?;
        let mut account = lock_active_account(&txn, id).await?;
        if let Some(name) = first_name {
            account.first_name = name.trim().to_owned();
        }
        if let Some(name) = last_name {
            account.last_name = name.trim().to_owned();
        }
        account.updated_at = self.clock.now();
        store::account_update_in_txn(&txn, &account).await?;
        txn.commit().await?;
        Ok(account)
    }

    /// Deletes an account: its personal data is erased and every session ends.
    /// Orders keep what an invoice needs.
    pub async fn account_delete(&self, caller: &Caller) -> Result<Account, Error> {
        let id = &caller.signed_in()?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let mut account = lock_active_account(&txn, id).await?;
        account.email = format!("{}@deleted.invalid", stoa_schema::ids::new_id());
        // Not a valid hash, so no password matches it.
        account.password_hash = "!".to_owned();
        account.first_name = "Deleted".to_owned();
        account.last_name = "account".to_owned();
        account.is_active = false;
        account.updated_at = now;
        store::account_update_in_txn(&txn, &account).await?;
        store::session_revoke_all_in_txn(&txn, id, now).await?;
        store::address::address_delete_in_txn(&txn, id, None).await?;
        txn.commit().await?;
        Ok(account)
    }

    pub async fn account_fetch_many(
        &self,
        ids: &[UserId],
    ) -> Result<HashMap<UserId, Account>, Error> {
        store::account_fetch_many(self.database.read(), ids).await
    }

    pub async fn account_fetch_by_email(&self, email: &str) -> Result<Option<Account>, Error> {
        store::account_fetch_by_email(self.database.read(), email).await
    }

    /// A page of accounts, newest first. Administrators only.
    pub async fn account_list(
        &self,
        caller: &Caller,
        request: &PageRequest,
    ) -> Result<Slice<Account>, Error> {
        caller.require_admin()?;
        let page = request.check::<String>()?;
        let rows = store::account_list(self.database.read(), &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn account_count(&self) -> Result<u64, Error> {
        Ok(store::account_count(self.database.read()).await?)
    }
}

/// Reads an account that is not deleted, and locks it for this transaction.
pub(crate) async fn lock_active_account<C: sea_orm::ConnectionTrait>(
    txn: &C,
    id: &UserId,
) -> Result<Account, Error> {
    store::account_lock_in_txn(txn, id)
        .await?
        .filter(|account| account.is_active)
        .ok_or_else(|| CommonError::Unauthenticated.into())
}

fn email_taken() -> Problem {
    Problem::new(
        &["input", "email"],
        ProblemCode::EmailTaken,
        "another account has this e-mail address",
    )
}

/// Deletes expired refresh tokens until the process ends.
pub async fn run_token_purge(app: App) {
    loop {
        let cleaned = async {
            let txn = app.database.begin().await?;
            store::refresh_token_delete_expired_in_txn(&txn, app.clock.now()).await?;
            txn.commit().await
        };
        if let Err(error) = cleaned.await {
            tracing::warn!(%error, "cannot delete expired tokens");
        }
        tokio::time::sleep(TOKEN_PURGE_INTERVAL).await;
    }
}
