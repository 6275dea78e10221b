//! Batches the row lookups of one request, or of several at once, into one query.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader;
use stoa_schema::UserId;

use crate::app::App;
use crate::domain::{Account, SavedAddress};
use crate::error::Error;

pub struct Loader(pub App);

impl dataloader::Loader<UserId> for Loader {
    type Value = Account;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[UserId]) -> Result<HashMap<UserId, Account>, Arc<Error>> {
        self.0.account_fetch_many(ids).await.map_err(Arc::new)
    }
}

/// The key of an account's address book.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressBookKey(pub UserId);

impl dataloader::Loader<AddressBookKey> for Loader {
    type Value = Vec<SavedAddress>;
    type Error = Arc<Error>;

    async fn load(
        &self,
        keys: &[AddressBookKey],
    ) -> Result<HashMap<AddressBookKey, Vec<SavedAddress>>, Arc<Error>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.address_fetch_many(&ids).await.map_err(Arc::new)?;
        let found = found.into_iter();
        Ok(found.map(|(id, book)| (AddressBookKey(id), book)).collect())
    }
}
