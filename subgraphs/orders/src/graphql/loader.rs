//! Batches row lookups of one request, or of several concurrent ones, into one query.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader;
use stoa_schema::OrderId;

use crate::app::App;
use crate::app::order::Progress;
use crate::domain::{Change, Line, Order, Refund, Shipment};
use crate::error::Error;

pub struct Loader(pub App);

impl dataloader::Loader<OrderId> for Loader {
    type Value = Order;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Order>, Arc<Error>> {
        self.0.orders.order_fetch_many(ids).await.map_err(Arc::new)
    }
}

/// Loaders for data that belongs to an order, each with its own key type.
macro_rules! order_loaders {
    ($($(#[$doc:meta])* $key:ident => $value:ty, $fetch:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $key(pub OrderId);

        impl dataloader::Loader<$key> for Loader {
            type Value = $value;
            type Error = Arc<Error>;

            async fn load(&self, keys: &[$key]) -> Result<HashMap<$key, $value>, Arc<Error>> {
                let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
                let found = self.0.orders.$fetch(&ids).await.map_err(Arc::new)?;
                Ok(found.into_iter().map(|(id, value)| ($key(id), value)).collect())
            }
        }
    )+};
}

order_loaders! {
    /// The lines of an order.
    LinesKey => Vec<Line>, line_fetch_many;
    /// Its state changes.
    HistoryKey => Vec<Change>, history_fetch_many;
    /// Its shipments.
    ShipmentsKey => Vec<Shipment>, shipment_fetch_many;
    /// Its refunds.
    RefundsKey => Vec<Refund>, refund_fetch_many;
    /// Steps still to be done for it.
    ProgressKey => Vec<Progress>, progress_fetch_many;
}
