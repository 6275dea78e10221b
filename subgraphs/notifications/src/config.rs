//! What the service needs from outside.

use std::sync::Arc;

use secrecy::SecretString;
use stoa_runtime::clock::Clock;
use stoa_service::bus::Bus;
use stoa_service::database::Database;
use stoa_service::peer::Peers;

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub bus: Arc<dyn Bus>,
    pub peers: Peers,
    pub clock: Clock,
    /// Signs cursors; all replicas share it.
    pub cursor_secret: SecretString,
}
