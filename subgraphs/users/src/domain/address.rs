//! Address books.

use stoa_schema::address::Address;

/// The most addresses that one account can have.
pub const MAX_ADDRESSES: usize = 20;

/// An address in a user's address book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAddress {
    pub id: String,
    pub address: Address,
    /// Whether it is the default address; at most one is.
    pub is_default: bool,
}
