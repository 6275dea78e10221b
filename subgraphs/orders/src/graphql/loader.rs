//! One query for all the rows that one request, or several at once, ask for.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_schema::OrderId;

use crate::app::App;
use crate::domain::{Change, Line, Order};
use crate::error::Error;
use crate::store::task::DuePayment;

pub struct Loader(pub App);

/// The lines of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinesOf(pub OrderId);

/// The history of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HistoryOf(pub OrderId);

/// What an order's payment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProgressOf(pub OrderId);

impl async_graphql::dataloader::Loader<OrderId> for Loader {
    type Value = Order;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Order>, Arc<Error>> {
        self.0.order_fetch_many(ids).await.map_err(Arc::new)
    }
}

impl async_graphql::dataloader::Loader<LinesOf> for Loader {
    type Value = Vec<Line>;
    type Error = Arc<Error>;

    async fn load(&self, keys: &[LinesOf]) -> Result<HashMap<LinesOf, Vec<Line>>, Arc<Error>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.line_fetch_many(&ids).await.map_err(Arc::new)?;
        Ok(found
            .into_iter()
            .map(|(id, lines)| (LinesOf(id), lines))
            .collect())
    }
}

impl async_graphql::dataloader::Loader<HistoryOf> for Loader {
    type Value = Vec<Change>;
    type Error = Arc<Error>;

    async fn load(
        &self,
        keys: &[HistoryOf],
    ) -> Result<HashMap<HistoryOf, Vec<Change>>, Arc<Error>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.history_fetch_many(&ids).await.map_err(Arc::new)?;
        Ok(found
            .into_iter()
            .map(|(id, history)| (HistoryOf(id), history))
            .collect())
    }
}

impl async_graphql::dataloader::Loader<ProgressOf> for Loader {
    type Value = DuePayment;
    type Error = Arc<Error>;

    async fn load(
        &self,
        keys: &[ProgressOf],
    ) -> Result<HashMap<ProgressOf, DuePayment>, Arc<Error>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.payment_fetch_many(&ids).await.map_err(Arc::new)?;
        Ok(found
            .into_iter()
            .map(|(id, due)| (ProgressOf(id), due))
            .collect())
    }
}
