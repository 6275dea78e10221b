//! The catalogue of error codes, and the errors that every service can meet.

use std::fmt::Display;
use std::sync::Arc;

use sea_orm::DbErr;

use crate::database::is_unavailable;
use crate::page::PageError;

pub const INTERNAL: &str = "INTERNAL";
pub const BAD_USER_INPUT: &str = "BAD_USER_INPUT";
pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
pub const FORBIDDEN: &str = "FORBIDDEN";
pub const UNAVAILABLE: &str = "UNAVAILABLE";

/// A domain error with an error code.
pub trait CodedError: Display {
    /// The value of `extensions.code`.
    fn code(&self) -> &'static str;

    /// An internal error: logged where it is handled, and not shown to clients.
    fn is_internal(&self) -> bool {
        self.code() == INTERNAL
    }
}

/// A data loader's error is shared by all callers that waited for the batch.
impl<E: CodedError> CodedError for Arc<E> {
    fn code(&self) -> &'static str {
        self.as_ref().code()
    }
}

impl CodedError for PageError {
    fn code(&self) -> &'static str {
        BAD_USER_INPUT
    }
}

/// What can go wrong in any service; each service's `Error` holds it as its
/// variant `Common`, by [`service_error!`](crate::service_error).
#[derive(Debug, thiserror::Error)]
pub enum CommonError {
    #[error("sign in first")]
    Unauthenticated,
    #[error("only the owner or an administrator may do this")]
    NotOwner,
    #[error("only an administrator may do this")]
    NotAdmin,
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("the database is not available at the moment; try again")]
    DatabaseUnavailable(DbErr),
    #[error(transparent)]
    Database(DbErr),
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
}

impl From<DbErr> for CommonError {
    fn from(error: DbErr) -> Self {
        if is_unavailable(&error) {
            Self::DatabaseUnavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

impl CodedError for CommonError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => UNAUTHENTICATED,
            Self::NotOwner | Self::NotAdmin => FORBIDDEN,
            Self::Page(_) => BAD_USER_INPUT,
            Self::DatabaseUnavailable(_) => UNAVAILABLE,
            Self::Database(_) | Self::Corrupt(_) => INTERNAL,
        }
    }
}

/// Gives a service's `Error`, which has a variant `Common(CommonError)`, the
/// conversions that `?` needs, and `Error::corrupt`.
#[macro_export]
macro_rules! service_error {
    ($error:ident) => {
        impl From<sea_orm::DbErr> for $error {
            fn from(error: sea_orm::DbErr) -> Self {
                Self::Common(error.into())
            }
        }

        impl From<$crate::page::PageError> for $error {
            fn from(error: $crate::page::PageError) -> Self {
                Self::Common(error.into())
            }
        }

        impl $error {
            /// A stored value that cannot be read.
            pub fn corrupt(reason: impl Into<String>) -> Self {
                Self::Common($crate::error::CommonError::Corrupt(reason.into()))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnAcquireErr;

    use super::*;

    #[test]
    fn every_common_error_has_its_code() {
        let timeout = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        let cases = [
            (CommonError::Unauthenticated, UNAUTHENTICATED),
            (CommonError::NotOwner, FORBIDDEN),
            (CommonError::NotAdmin, FORBIDDEN),
            (PageError::Cursor.into(), BAD_USER_INPUT),
            (timeout.into(), UNAVAILABLE),
            (DbErr::Custom("a bad statement".into()).into(), INTERNAL),
            (CommonError::Corrupt("role X".into()), INTERNAL),
        ];
        for (error, code) in cases {
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(error.is_internal(), code == INTERNAL, "{error}");
            // As a data loader shares it.
            assert_eq!(Arc::new(error).code(), code);
        }
    }
}
