//! Creating, reading and deleting accounts.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, SqlErr};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::UserId;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::page::{PageRequest, Slice};

use super::App;
use crate::domain::{self, Account, Problem, ProblemCode, Registration};
use crate::error::Error;
use crate::store::{account, address, session};

impl App {
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
        let known = account::account_fetch_by_email(self.database.read(), &email).await?;
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
        account::account_insert_in_txn(&txn, &account)
            .await
            .map_err(|error| match error.sql_err() {
                Some(SqlErr::UniqueConstraintViolation(_)) => email_taken().into(),
                _ => Error::from(error),
            })?;
        txn.commit().await?;
        Ok(account)
    }

    /// Whether an active account has this address and this password.
    pub async fn password_matches(&self, email: &str, password: &str) -> Result<bool, Error> {
        let found = account::account_fetch_by_email(self.database.read(), email)
            .await?
            .filter(|account| account.is_active);
        match found {
            None => Ok(false),
            Some(account) => {
                self.hasher
                    .verify(password, Some(&account.password_hash))
                    .await
            }
        }
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
        account::account_update_in_txn(&txn, &account).await?;
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
        account::account_update_in_txn(&txn, &account).await?;
        session::session_revoke_all_in_txn(&txn, id, now).await?;
        address::address_delete_in_txn(&txn, id, None).await?;
        txn.commit().await?;
        Ok(account)
    }

    pub async fn account_fetch_many(
        &self,
        ids: &[UserId],
    ) -> Result<HashMap<UserId, Account>, Error> {
        account::account_fetch_many(self.database.read(), ids).await
    }

    pub async fn account_fetch_by_email(&self, email: &str) -> Result<Option<Account>, Error> {
        account::account_fetch_by_email(self.database.read(), email).await
    }

    /// A page of accounts, newest first. Administrators only.
    pub async fn account_list(
        &self,
        caller: &Caller,
        request: &PageRequest,
    ) -> Result<Slice<Account>, Error> {
        caller.require_admin()?;
        let page = request.check::<String>()?;
        let rows = account::account_list(self.database.read(), &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn account_count(&self) -> Result<u64, Error> {
        Ok(account::account_count(self.database.read()).await?)
    }
}

/// Reads an account that is not deleted, and locks it for this transaction.
pub(super) async fn lock_active_account<C: ConnectionTrait>(
    txn: &C,
    id: &UserId,
) -> Result<Account, Error> {
    account::account_lock_in_txn(txn, id)
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
