//! What can go wrong here, whatever the transport.

use sea_orm::DbErr;
use stoa_kit::database::is_unavailable;
use stoa_kit::graphql::{BAD_USER_INPUT, Coded, FORBIDDEN, INTERNAL, UNAUTHENTICATED, UNAVAILABLE};
use stoa_kit::page::PageError;
use stoa_kit::peer::PeerError;

use crate::domain::Problem;
use crate::payment::NoAnswer;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sign in first")]
    Unauthenticated,
    #[error("this belongs to somebody else")]
    Forbidden,
    /// What the client can mend; answered as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    Page(#[from] PageError),
    /// A peer did not answer; nothing was decided, and a repeat is safe.
    #[error("stock cannot be reserved at the moment; repeat with the same idempotency key")]
    PeerUnavailable(#[from] PeerError),
    #[error("the database is not available at the moment; try again")]
    DatabaseAway(DbErr),
    #[error(transparent)]
    Database(DbErr),
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Payment(NoAnswer),
    #[error("cannot make an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_unavailable(&error) {
            Self::DatabaseAway(error)
        } else {
            Self::Database(error)
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => UNAUTHENTICATED,
            Self::Forbidden => FORBIDDEN,
            Self::Invalid(_) | Self::Page(_) => BAD_USER_INPUT,
            Self::PeerUnavailable(_) | Self::DatabaseAway(_) => UNAVAILABLE,
            Self::Database(_) | Self::Corrupt(_) | Self::Payment(_) | Self::Http(_) => INTERNAL,
        }
    }
}
