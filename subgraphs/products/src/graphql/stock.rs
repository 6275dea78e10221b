//! Adjusting stock.

use async_graphql::{Context, ID, InputObject, Object, Result};
use stoa_service::graphql::{call_context, idempotent};

use super::app;
use super::product::{ProductPayload, product_payload};
use crate::domain::Adjustment;

#[derive(Debug, InputObject)]
pub struct AdjustStockInput {
    pub product_id: ID,
    /// Units to add; negative to remove.
    pub delta: i32,
    pub reason: String,
}

#[derive(Default)]
pub struct StockMutation;

#[Object]
impl StockMutation {
    /// Adds or removes units, once per idempotency key, and records the reason.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn adjust_stock(
        &self,
        ctx: &Context<'_>,
        input: AdjustStockInput,
        idempotency_key: ID,
    ) -> Result<ProductPayload> {
        let adjustment = Adjustment {
            product_id: input.product_id.0,
            delta: i64::from(input.delta),
            reason: input.reason,
        };
        let done = app(ctx)?
            .stock_adjust(&call_context(ctx)?.caller, adjustment, &idempotency_key)
            .await;
        product_payload(done)
    }
}
