//! Requests from other services.

use async_trait::async_trait;
use serde_json::Value;
use stoa_schema::peer::{
    CommitStock, Done, LookUpProducts, PeerRequest, ProductOffers, ReleaseStock, ReserveStock,
    ReturnStock,
};
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler, answer};

use crate::app::App;
use crate::error::Error;

/// Handles requests about products and stock.
pub struct Peer(pub App);

#[async_trait]
impl PeerHandler for Peer {
    async fn call(
        &self,
        _context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        let app = &self.0;
        match method {
            ReserveStock::METHOD => {
                answer(message, async |request: ReserveStock| {
                    app.stock_reserve(&request).await.map_err(failed)
                })
                .await
            }
            CommitStock::METHOD => {
                answer(message, async |request: CommitStock| {
                    app.stock_commit(&request.order_id).await.map_err(failed)
                })
                .await
            }
            ReleaseStock::METHOD => {
                answer(message, async |request: ReleaseStock| {
                    app.stock_release(&request.order_id).await.map_err(failed)?;
                    Ok(Done {})
                })
                .await
            }
            ReturnStock::METHOD => {
                answer(message, async |request: ReturnStock| {
                    app.stock_return(&request).await.map_err(failed)?;
                    Ok(Done {})
                })
                .await
            }
            LookUpProducts::METHOD => {
                answer(message, async |request: LookUpProducts| {
                    let offers = app.product_offers(&request.product_ids).await;
                    Ok(ProductOffers {
                        offers: offers.map_err(failed)?,
                    })
                })
                .await
            }
            other => Err(PeerError::UnknownMethod(other.to_owned())),
        }
    }
}

fn failed(error: Error) -> PeerError {
    tracing::error!(%error, "a request from another service failed");
    PeerError::Failed {
        service: "products".to_owned(),
    }
}
