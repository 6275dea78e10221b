//! What can go wrong here, whatever the transport.

use sea_orm::DbErr;
use stoa_kit::bus::BusError;
use stoa_kit::graphql::{BAD_USER_INPUT, Coded, FORBIDDEN, INTERNAL, UNAUTHENTICATED, UNAVAILABLE};
use stoa_kit::page::PageError;
use stoa_kit::peer::PeerError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sign in first")]
    Unauthenticated,
    #[error("this belongs to somebody else")]
    Forbidden,
    #[error("there is no such order")]
    NoSuchOrder,
    #[error("there is no such notification")]
    NoSuchNotification,
    #[error("the cursor is not one that this service made")]
    CursorInvalid,
    #[error(
        "the cursor is too old, or of another stream; read the current state and subscribe without it"
    )]
    CursorExpired,
    /// The subscriber read too slowly; nothing was skipped.
    #[error("the client reads too slowly; resume after the cursor in extensions.cursor")]
    ResumeRequired { cursor: Option<String> },
    #[error("this server has as many subscribers as it can take")]
    TooManySubscribers,
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("the order's owner cannot be asked for at the moment")]
    PeerUnavailable(#[from] PeerError),
    #[error("live updates are not available at the moment")]
    Bus(#[from] BusError),
    #[error(transparent)]
    Database(#[from] DbErr),
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => UNAUTHENTICATED,
            Self::Forbidden => FORBIDDEN,
            Self::NoSuchOrder | Self::NoSuchNotification => "NOT_FOUND",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::CursorExpired => "CURSOR_EXPIRED",
            Self::ResumeRequired { .. } => "RESUME_REQUIRED",
            Self::TooManySubscribers | Self::PeerUnavailable(_) | Self::Bus(_) => UNAVAILABLE,
            Self::Page(_) => BAD_USER_INPUT,
            Self::Database(_) | Self::Corrupt(_) => INTERNAL,
        }
    }
}
