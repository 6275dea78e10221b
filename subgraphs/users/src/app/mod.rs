//! The use cases of accounts and sessions, including authorization; transactions
//! begin here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`account`] | creating, reading and deleting accounts |
//! | [`session`] | signing in, refreshing and signing out |
//! | [`address`] | address books |

pub mod account;
pub mod address;
pub mod session;

use stoa_runtime::clock::Clock;
use stoa_service::database::Database;

use crate::password::Hasher;
use crate::token::SigningKey;

/// The users service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    key: SigningKey,
    hasher: Hasher,
}

impl App {
    pub fn new(database: Database, clock: Clock, key: SigningKey) -> Self {
        Self {
            database,
            clock,
            key,
            hasher: Hasher::new(),
        }
    }
}
