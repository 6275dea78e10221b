//! Requests from other services.

use async_trait::async_trait;
use serde_json::Value;
use stoa_schema::peer::{
    CommitStock, Empty, LookUpProducts, PeerRequest, ProductOffers, ReleaseStock, ReserveStock,
    ReturnStock,
};
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler, handle_request};

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
                handle_request(message, async |request: ReserveStock| {
                    app.stock_reserve(&request).await.map_err(to_peer_error)
                })
                .await
            }
            CommitStock::METHOD => {
                handle_request(message, async |request: CommitStock| {
                    app.stock_commit(&request.order_id)
                        .await
                        .map_err(to_peer_error)
                })
                .await
            }
            ReleaseStock::METHOD => {
                handle_request(message, async |request: ReleaseStock| {
                    app.stock_release(&request.order_id)
                        .await
                        .map_err(to_peer_error)?;
                    Ok(Empty {})
                })
                .await
            }
            ReturnStock::METHOD => {
                handle_request(message, async |request: ReturnStock| {
                    app.stock_return(&request).await.map_err(to_peer_error)?;
                    Ok(Empty {})
                })
                .await
            }
            LookUpProducts::METHOD => {
                handle_request(message, async |request: LookUpProducts| {
                    let offers = app.product_offers(&request.product_ids).await;
                    Ok(ProductOffers {
                        offers: offers.map_err(to_peer_error)?,
                    })
                })
                .await
            }
            other => Err(PeerError::UnknownMethod(other.to_owned())),
        }
    }
}

fn to_peer_error(error: Error) -> PeerError {
    tracing::error!(%error, "a request from another service failed");
    PeerError::Failed {
        service: "products".to_owned(),
    }
}
