//! What the service needs from outside.

use stoa_runtime::clock::Clock;
use stoa_service::database::Database;

use crate::token::SigningKey;

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub clock: Clock,
    pub key: SigningKey,
    /// Whether cookies are sent over TLS only.
    pub secure_cookies: bool,
}
