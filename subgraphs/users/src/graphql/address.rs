//! Address books.

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use stoa_service::graphql::{AddressInput, AddressObject, call_context, to_graphql_error};

use super::app;
use super::problem::AccountUserError;
use crate::domain;
use crate::error::Error;

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

#[derive(Default)]
pub struct AddressMutation;

#[Object]
impl AddressMutation {
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
        let caller = &call_context(ctx)?.caller;
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
        let caller = &call_context(ctx)?.caller;
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
        address_payload(
            app(ctx)?
                .address_remove(&call_context(ctx)?.caller, &id)
                .await,
        )
    }
}
