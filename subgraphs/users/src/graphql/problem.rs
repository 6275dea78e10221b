//! What is wrong with a request, as clients see it.

use async_graphql::{Enum, SimpleObject};

use crate::domain::{Problem, ProblemCode};

/// Why a registration, a sign-in or a change to an account was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "ProblemCode")]
pub enum AccountErrorCode {
    /// A value is missing, too long or malformed.
    Invalid,
    /// Another account has this e-mail address.
    EmailTaken,
    /// The password is too short, too long or too easy to guess.
    WeakPassword,
    /// No active account has this e-mail address and password.
    InvalidCredentials,
    /// The token is unknown, expired or was used before.
    InvalidRefreshToken,
    /// The caller has no such address.
    NotFound,
}

/// Why a registration, a sign-in or a change to an account was refused.
#[derive(Debug, Clone, SimpleObject)]
pub struct AccountUserError {
    /// The path of the argument that is wrong.
    pub field: Option<Vec<String>>,
    pub code: AccountErrorCode,
    /// For developers, in English.
    pub message: String,
}

impl From<Problem> for AccountUserError {
    fn from(problem: Problem) -> Self {
        Self {
            field: Some(problem.field),
            code: problem.code.into(),
            message: problem.message,
        }
    }
}
