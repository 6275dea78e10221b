//! Sessions and their tokens.

use std::time::Duration;

use stoa_runtime::clock::Micros;
use stoa_schema::UserId;

pub const ACCESS_TTL: Duration = Duration::from_secs(15 * 60);
pub const REFRESH_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Two browser tabs may refresh at the same moment; a second use within this
/// time is refused, but is not treated as theft.
pub const REUSE_GRACE: Duration = Duration::from_secs(10);

/// The tokens of a signed-in client.
#[derive(Debug, Clone)]
pub struct Session {
    pub access_token: String,
    pub expires_at: Micros,
    pub refresh_token: String,
}

/// A refresh token with the session that it belongs to.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    pub session_id: String,
    pub account_id: UserId,
    pub expires_at: Micros,
    pub used_at: Option<Micros>,
    pub session_revoked: bool,
}
