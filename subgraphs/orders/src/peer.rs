//! What other services may ask.

use async_trait::async_trait;
use serde_json::Value;
use stoa_schema::peer::{OrderOwner, Owner, PeerRequest};
use stoa_service::context::CallContext;
use stoa_service::peer::{PeerError, PeerHandler, answer};

use crate::app::App;

/// Tells whose an order is.
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
            OrderOwner::METHOD => {
                answer(message, async |request: OrderOwner| {
                    let id = request.order_id;
                    let found = self.0.order_fetch_many(std::slice::from_ref(&id)).await;
                    match found {
                        Ok(mut orders) => Ok(Owner {
                            customer_id: orders.remove(&id).map(|order| order.customer_id),
                        }),
                        Err(error) => {
                            tracing::error!(%error, "an owner could not be looked up");
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
