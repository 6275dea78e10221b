//! Address books: each account has its own.

use std::collections::HashMap;

use sea_orm::ConnectionTrait;
use stoa_runtime::identity::Caller;
use stoa_schema::UserId;
use stoa_schema::address::Address;
use stoa_service::context::CallerExt;

use super::App;
use super::account::lock_active_account;
use crate::domain::{MAX_ADDRESSES, Problem, ProblemCode, SavedAddress};
use crate::error::Error;
use crate::store::address as rows;

impl App {
    /// The addresses of accounts, oldest first. Does not check permissions:
    /// the caller of this function must.
    pub async fn address_fetch_many(
        &self,
        accounts: &[UserId],
    ) -> Result<HashMap<UserId, Vec<SavedAddress>>, Error> {
        rows::address_fetch_many(self.database.read(), accounts).await
    }

    /// Adds an address to the caller's address book; the first becomes the default.
    pub async fn address_add(
        &self,
        caller: &Caller,
        address: Address,
        is_default: bool,
    ) -> Result<SavedAddress, Error> {
        let account = &caller.signed_in()?;
        validate_address(&address)?;
        let txn = self.database.begin().await?;
        // Locks the account, so that concurrent additions cannot exceed the limit.
        lock_active_account(&txn, account).await?;
        let book = fetch_address_book(&txn, account).await?;
        if book.len() >= MAX_ADDRESSES {
            let message = format!("an account keeps at most {MAX_ADDRESSES} addresses");
            return Err(Problem::new(&["input"], ProblemCode::Invalid, message).into());
        }
        let saved = SavedAddress {
            id: stoa_schema::ids::new_id(),
            address,
            is_default: is_default || book.is_empty(),
        };
        if saved.is_default {
            rows::address_clear_default_in_txn(&txn, account).await?;
        }
        rows::address_insert_in_txn(&txn, account, &saved, self.clock.now()).await?;
        txn.commit().await?;
        Ok(saved)
    }

    /// Changes one of the caller's addresses; `None` leaves a value unchanged.
    pub async fn address_update(
        &self,
        caller: &Caller,
        id: &str,
        address: Option<Address>,
        is_default: Option<bool>,
    ) -> Result<SavedAddress, Error> {
        let account = &caller.signed_in()?;
        if let Some(address) = &address {
            validate_address(address)?;
        }
        let txn = self.database.begin().await?;
        lock_active_account(&txn, account).await?;
        let mut saved = find_own_address(&txn, account, id).await?;
        if let Some(address) = address {
            saved.address = address;
        }
        if let Some(is_default) = is_default {
            saved.is_default = is_default;
        }
        if saved.is_default {
            rows::address_clear_default_in_txn(&txn, account).await?;
        }
        rows::address_update_in_txn(&txn, &saved).await?;
        txn.commit().await?;
        Ok(saved)
    }

    /// Removes an address from the caller's address book and returns it.
    pub async fn address_remove(&self, caller: &Caller, id: &str) -> Result<SavedAddress, Error> {
        let account = &caller.signed_in()?;
        let txn = self.database.begin().await?;
        lock_active_account(&txn, account).await?;
        let saved = find_own_address(&txn, account, id).await?;
        rows::address_delete_in_txn(&txn, account, Some(id)).await?;
        txn.commit().await?;
        Ok(saved)
    }
}

async fn fetch_address_book<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
) -> Result<Vec<SavedAddress>, Error> {
    let mut found = rows::address_fetch_many(txn, std::slice::from_ref(account)).await?;
    Ok(found.remove(account).unwrap_or_default())
}

/// One of the account's addresses; another account's address is not found.
async fn find_own_address<C: ConnectionTrait>(
    txn: &C,
    account: &UserId,
    id: &str,
) -> Result<SavedAddress, Error> {
    let found = fetch_address_book(txn, account)
        .await?
        .into_iter()
        .find(|saved| saved.id == id);
    let none = || Problem::new(&["id"], ProblemCode::NotFound, "there is no such address");
    Ok(found.ok_or_else(none)?)
}

fn validate_address(address: &Address) -> Result<(), Error> {
    let problems: Vec<_> = address
        .problems()
        .into_iter()
        .map(|(field, message)| Problem::new(&["input", field], ProblemCode::Invalid, message))
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(problems))
    }
}
