//! What can go wrong here, whatever the transport.

use sea_orm::DbErr;
use stoa_kit::database::is_unavailable;
use stoa_kit::graphql::{BAD_USER_INPUT, Coded, FORBIDDEN, INTERNAL, UNAUTHENTICATED, UNAVAILABLE};
use stoa_kit::page::PageError;

use crate::domain::Problem;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sign in first")]
    Unauthenticated,
    #[error("only the user or an administrator may see this")]
    Forbidden,
    /// What the client can mend; answered as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("too many people sign in at this moment; try again in a second")]
    Busy,
    #[error("the database is not available at the moment; try again")]
    DatabaseAway(DbErr),
    #[error(transparent)]
    Database(DbErr),
    #[error("a password could not be hashed")]
    Hashing,
    #[error("a token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
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
            Self::Busy | Self::DatabaseAway(_) => UNAVAILABLE,
            Self::Database(_) | Self::Hashing | Self::Signing(_) | Self::Corrupt(_) => INTERNAL,
        }
    }
}
