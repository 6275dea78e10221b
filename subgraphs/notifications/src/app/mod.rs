//! The use cases of inboxes and live updates, including authorization;
//! transactions begin here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`notification`] | inboxes: filling and reading them |
//! | [`live`] | live updates: subscriptions that can be resumed |

pub mod live;
pub mod notification;

use stoa_runtime::clock::Clock;
use stoa_service::database::Database;
use stoa_service::outbox::Relay;
use stoa_service::peer::Peers;

use crate::cursor::CursorKey;
use crate::hub::Hub;

/// The notifications service, independent of any transport.
#[derive(Clone)]
pub struct App {
    database: Database,
    peers: Peers,
    relay: Relay,
    clock: Clock,
    hub: Hub,
    cursors: CursorKey,
}

impl App {
    pub fn new(
        database: Database,
        peers: Peers,
        relay: Relay,
        clock: Clock,
        hub: Hub,
        cursors: CursorKey,
    ) -> Self {
        Self {
            database,
            peers,
            relay,
            clock,
            hub,
            cursors,
        }
    }
}
