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
    #[error("only an administrator may do this")]
    Forbidden,
    /// What the client can mend; answered as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("the search has more than {max} words")]
    TooManyWords { max: usize },
    #[error("the database is not available at the moment; try again")]
    DatabaseAway(DbErr),
    #[error(transparent)]
    Database(DbErr),
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
            Self::Invalid(_) | Self::Page(_) | Self::TooManyWords { .. } => BAD_USER_INPUT,
            Self::DatabaseAway(_) => UNAVAILABLE,
            Self::Database(_) | Self::Corrupt(_) => INTERNAL,
        }
    }
}
