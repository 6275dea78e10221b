//! What the service needs from outside.

use std::sync::Arc;

use secrecy::SecretString;
use stoa_runtime::clock::Clock;
use stoa_service::bus::Bus;
use stoa_service::database::Database;
use stoa_service::peer::Peers;

use crate::domain::Rates;
use crate::payment::stripe::StripeOptions;

/// The dependencies of the service.
pub struct Config {
    pub database: Database,
    pub bus: Arc<dyn Bus>,
    pub peers: Peers,
    pub clock: Clock,
    pub payments: Payments,
    /// The rates for tax and shipping.
    pub rates: Arc<dyn Rates>,
}

/// The payment provider to use.
pub enum Payments {
    /// The embedded provider, which moves no money.
    Sandbox {
        /// The URL of this service, to which the sandbox sends its webhooks.
        own_url: String,
        /// The secret that signs them.
        secret: SecretString,
    },
    Stripe(StripeOptions),
}
