//! The requests that other services may send.

use async_trait::async_trait;
use serde_json::Value;
use stoa_schema::peer::{GetOrderOwner, OrderOwnerResponse, PeerRequest};
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler, handle_request};

use crate::app::App;

/// Looks up the owner of an order.
pub struct Peer(pub App);

#[async_trait]
impl PeerHandler for Peer {
    async fn call(
        &self,
        _context: &CallContext,
        method: &str,
        message: Value,
    ) -> Result<Value, PeerError> {
        match method {
            GetOrderOwner::METHOD => {
                handle_request(message, async |request: GetOrderOwner| {
                    let id = request.order_id;
                    let found = self
                        .0
                        .orders
                        .order_fetch_many(std::slice::from_ref(&id))
                        .await;
                    match found {
                        Ok(mut orders) => Ok(OrderOwnerResponse {
                            customer_id: orders.remove(&id).map(|order| order.customer_id),
                        }),
                        Err(error) => {
                            tracing::error!(%error, "the owner of an order could not be looked up");
                            Err(PeerError::Failed {
                                service: "orders".to_owned(),
                            })
                        }
                    }
                })
                .await
            }
            other => Err(PeerError::UnknownMethod(other.to_owned())),
        }
    }
}
