//! What can go wrong here, whatever the transport.

use sea_orm::DbErr;
use stoa_kit::bus::BusError;
use stoa_kit::consume::Failure;
use stoa_kit::database::is_unavailable;
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
    #[error("the database is not available at the moment; try again")]
    DatabaseAway(DbErr),
    #[error(transparent)]
    Database(DbErr),
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
}

impl Error {
    /// Whether an event that met this is worth trying again.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::DatabaseAway(cause) => Failure::Unavailable(cause.to_string()),
            Self::Bus(cause) => Failure::Unavailable(cause.to_string()),
            other => Failure::Failed(other.to_string()),
        }
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
            Self::NoSuchOrder | Self::NoSuchNotification => "NOT_FOUND",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::CursorExpired => "CURSOR_EXPIRED",
            Self::ResumeRequired { .. } => "RESUME_REQUIRED",
            Self::TooManySubscribers
            | Self::PeerUnavailable(_)
            | Self::Bus(_)
            | Self::DatabaseAway(_) => UNAVAILABLE,
            Self::Page(_) => BAD_USER_INPUT,
            Self::Database(_) | Self::Corrupt(_) => INTERNAL,
        }
    }
}
