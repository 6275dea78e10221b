//! The use cases of ordering, including authorization; transactions begin here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`order`] | reading orders |
//! | [`place`] | placing an order, from a request or from a cart |
//! | [`fulfilment`] | cancelling, shipping, delivering and refunding an order |
//! | [`job`] | the jobs of the background worker |
//! | [`saga`] | the steps from a placed order to a confirmed one, or back |
//! | [`payment`] | events from the payment provider |
//! | [`stock`] | units that go back to stock |
//! | [`cart`] | carts of customers and guests |
//! | [`discount`] | discount codes |
//! | [`wakeup`] | what is woken after a commit |

pub mod cart;
pub mod discount;
pub mod fulfilment;
pub mod job;
pub mod order;
pub mod payment;
pub mod place;
pub mod saga;
pub mod stock;
pub mod wakeup;

use std::sync::Arc;

use stoa_runtime::clock::Clock;
use stoa_service::database::Database;
use stoa_service::outbox::Relay;
use stoa_service::peer::Peers;

use crate::domain::Rates;
use crate::payment::{FreeOrderProvider, PaymentProvider};
use cart::Carts;
use discount::Discounts;
use order::Orders;
use saga::Saga;
use wakeup::Wakeup;

/// The orders service, independent of any transport: each part has what it needs.
#[derive(Clone)]
pub struct App {
    pub carts: Carts,
    pub discounts: Discounts,
    pub orders: Orders,
    pub saga: Saga,
}

impl App {
    pub fn new(
        database: Database,
        peers: Peers,
        provider: Arc<dyn PaymentProvider>,
        rates: Arc<dyn Rates>,
        relay: Relay,
        clock: Clock,
    ) -> Self {
        let provider: Arc<dyn PaymentProvider> = Arc::new(FreeOrderProvider(provider));
        let wakeup = Wakeup::new(relay);
        let carts = Carts {
            database: database.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
        };
        let discounts = Discounts {
            database: database.clone(),
            clock: clock.clone(),
        };
        Self {
            orders: Orders {
                database: database.clone(),
                peers: peers.clone(),
                provider: provider.clone(),
                rates,
                clock: clock.clone(),
                wakeup: wakeup.clone(),
                carts: carts.clone(),
                discounts: discounts.clone(),
            },
            saga: Saga {
                database,
                peers,
                provider,
                clock,
                wakeup,
            },
            carts,
            discounts,
        }
    }

    /// The same service with another clock, to create past orders.
    pub fn with_clock(&self, clock: Clock) -> Self {
        let mut past = self.clone();
        past.carts.clock = clock.clone();
        past.discounts.clock = clock.clone();
        past.orders.carts.clock = clock.clone();
        past.orders.discounts.clock = clock.clone();
        past.orders.clock = clock.clone();
        past.saga.clock = clock;
        past
    }
}
