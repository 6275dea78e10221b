//! The errors of this service, independent of the transport.

use stoa_service::error::{BAD_USER_INPUT, CodedError, CommonError, INTERNAL, UNAVAILABLE};

use crate::domain::Problem;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Common(#[from] CommonError),
    /// What the client can fix; returned as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    #[error("too many sign-ins at this moment; try again in a second")]
    Busy,
    #[error("a password could not be hashed")]
    Hashing,
    #[error("a token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

stoa_service::service_error!(Error);

impl CodedError for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Common(error) => error.code(),
            Self::Invalid(_) => BAD_USER_INPUT,
            Self::Busy => UNAVAILABLE,
            Self::Hashing | Self::Signing(_) => INTERNAL,
        }
    }
}
