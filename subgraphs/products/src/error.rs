//! The errors of this service, independent of the transport.

use stoa_service::error::{BAD_USER_INPUT, CodedError, CommonError};

use crate::domain::Problem;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Common(#[from] CommonError),
    /// What the client can fix; returned as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    #[error("the search has more than {max} words")]
    TooManyWords { max: usize },
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
            Self::Invalid(_) | Self::TooManyWords { .. } => BAD_USER_INPUT,
        }
    }
}
