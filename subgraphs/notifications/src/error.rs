//! The errors of this service, independent of the transport.

use stoa_service::bus::BusError;
use stoa_service::consume::Failure;
use stoa_service::error::{CodedError, CommonError, FORBIDDEN, UNAVAILABLE};
use stoa_service::peer::PeerError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Common(#[from] CommonError),
    #[error("there is no such order")]
    NoSuchOrder,
    #[error("there is no such notification")]
    NoSuchNotification,
    #[error("the cursor was not issued by this service")]
    CursorInvalid,
    #[error("the cursor belongs to another user or to another subscription")]
    CursorNotOwned,
    #[error(
        "the cursor is too old, or of another stream; read the current state and subscribe without it"
    )]
    CursorExpired,
    /// The subscriber read too slowly; nothing was skipped.
    #[error("the client reads too slowly; resume after the cursor in extensions.cursor")]
    ResumeRequired { cursor: Option<String> },
    #[error("this server has reached its limit of subscribers")]
    TooManySubscribers,
    #[error("the order's owner cannot be looked up at the moment")]
    PeerUnavailable(#[from] PeerError),
    #[error("live updates are not available at the moment")]
    Bus(#[from] BusError),
}

impl Error {
    /// Whether an event that failed with this should be tried again.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Common(CommonError::DatabaseUnavailable(cause)) => {
                Failure::Unavailable(cause.to_string())
            }
            Self::Bus(cause) => Failure::Unavailable(cause.to_string()),
            other => Failure::Failed(other.to_string()),
        }
    }
}

stoa_service::service_error!(Error);

impl CodedError for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Common(error) => error.code(),
            Self::NoSuchOrder | Self::NoSuchNotification => "NOT_FOUND",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::CursorNotOwned => FORBIDDEN,
            Self::CursorExpired => "CURSOR_EXPIRED",
            Self::ResumeRequired { .. } => "RESUME_REQUIRED",
            Self::TooManySubscribers | Self::PeerUnavailable(_) | Self::Bus(_) => UNAVAILABLE,
        }
    }
}
