//! The rules of accounts and sessions: pure decisions about values, without I/O.

mod account;
mod address;
mod session;

pub use account::{
    Account, MAX_NAME, MAX_PASSWORD, Registration, email_problem, name_problem, normalize_email,
    password_problem,
};
pub use address::{MAX_ADDRESSES, SavedAddress};
pub use session::{ACCESS_TTL, REFRESH_TTL, REUSE_GRACE, RefreshToken, Session};

/// What is wrong with a client's input.
pub type Problem = stoa_service::problem::Problem<ProblemCode>;

/// Why a registration, a sign-in or a change to an account was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemCode {
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
