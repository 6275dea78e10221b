//! The errors of the service, independent of the transport.

use stoa_service::error::{BAD_USER_INPUT, CodedError, CommonError, INTERNAL, UNAVAILABLE};
use stoa_service::peer::PeerError;

use crate::domain::Problem;
use crate::payment::NoResponse;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Common(#[from] CommonError),
    /// What the client can fix; returned as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    /// Another service did not respond; nothing was decided, and a retry is safe.
    #[error("stock cannot be reserved at the moment; retry with the same idempotency key")]
    PeerUnavailable(#[from] PeerError),
    #[error(transparent)]
    Payment(NoResponse),
    #[error("cannot create an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
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
            Self::PeerUnavailable(_) => UNAVAILABLE,
            Self::Payment(_) | Self::Http(_) => INTERNAL,
        }
    }
}
