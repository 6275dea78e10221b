//! What can go wrong here, whatever the transport.

use stoa_service::error::{BAD_USER_INPUT, Coded, CommonError, INTERNAL, UNAVAILABLE};
use stoa_service::peer::PeerError;

use crate::domain::Problem;
use crate::payment::NoAnswer;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Common(#[from] CommonError),
    /// What the client can mend; answered as `userErrors`.
    #[error("the input is not valid")]
    Invalid(Vec<Problem>),
    /// A peer did not answer; nothing was decided, and a repeat is safe.
    #[error("stock cannot be reserved at the moment; repeat with the same idempotency key")]
    PeerUnavailable(#[from] PeerError),
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

stoa_service::service_error!(Error);

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Common(error) => error.code(),
            Self::Invalid(_) => BAD_USER_INPUT,
            Self::PeerUnavailable(_) => UNAVAILABLE,
            Self::Payment(_) | Self::Http(_) => INTERNAL,
        }
    }
}
