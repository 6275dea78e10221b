//! What the service needs from outside.

use stoa_runtime::clock::Clock;
use stoa_service::cache::Cache;
use stoa_service::database::Database;

/// The dependencies and settings of the service.
pub struct Config {
    pub database: Database,
    pub cache: Cache,
    pub clock: Clock,
    /// The URL prefix of product images: empty where the router serves them.
    pub image_base: String,
}
