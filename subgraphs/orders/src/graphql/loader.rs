//! One query for all the rows that one request, or several at once, ask for.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader;
use stoa_schema::OrderId;

use crate::app::{App, Progress};
use crate::domain::{Change, Line, Order, Refund, Shipment};
use crate::error::Error;

pub struct Loader(pub App);

impl dataloader::Loader<OrderId> for Loader {
    type Value = Order;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Order>, Arc<Error>> {
        self.0.order_fetch_many(ids).await.map_err(Arc::new)
    }
}

/// What belongs to orders, each by a key of its own.
macro_rules! of_orders {
    ($($(#[$doc:meta])* $key:ident => $value:ty, $fetch:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $key(pub OrderId);

        impl dataloader::Loader<$key> for Loader {
            type Value = $value;
            type Error = Arc<Error>;

            async fn load(&self, keys: &[$key]) -> Result<HashMap<$key, $value>, Arc<Error>> {
                let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
                let found = self.0.$fetch(&ids).await.map_err(Arc::new)?;
                Ok(found.into_iter().map(|(id, value)| ($key(id), value)).collect())
            }
        }
    )+};
}

of_orders! {
    /// The lines of an order.
    LinesOf => Vec<Line>, line_fetch_many;
    /// Its changes of state.
    HistoryOf => Vec<Change>, history_fetch_many;
    /// Its parcels.
    ShipmentsOf => Vec<Shipment>, shipment_fetch_many;
    /// Its refunds.
    RefundsOf => Vec<Refund>, refund_fetch_many;
    /// What is still to be done for it.
    ProgressOf => Vec<Progress>, progress_fetch_many;
}
