//! Placing and changing orders.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{AddressInput, to_graphql_error};

use super::types::{Order, OrderUserError};
use super::{app, call};
use crate::app::{ShipmentRequest, Verb};
use crate::domain::{self, RefundRequest, RefundWish, Request, RequestLine, UnitsWish};
use crate::error::Error;

#[derive(Default)]
pub struct OrderMutation;

#[derive(Debug, InputObject)]
pub struct OrderLineInput {
    pub product_id: ID,
    /// Between 1 and 1,000.
    pub quantity: i32,
}

#[derive(Debug, InputObject)]
pub struct PlaceOrderInput {
    /// At most 50; the same product on several lines is added up.
    pub lines: Vec<OrderLineInput>,
    pub shipping_address: AddressInput,
    /// Of the sandbox: sandbox_approve, sandbox_decline (at the authorisation),
    /// sandbox_decline_capture, sandbox_slow (five seconds), sandbox_timeout
    /// (the money comes, the answer is lost), or sandbox_webhook_first,
    /// sandbox_webhook_thrice, sandbox_webhook_disorder.
    pub payment_method: String,
    /// Case does not count.
    pub discount_code: Option<String>,
}

/// A parcel.
#[derive(Debug, Default, InputObject)]
pub struct ShipmentInput {
    /// At most 100 characters.
    pub carrier: Option<String>,
    /// At most 100 characters.
    pub tracking_number: Option<String>,
    /// What is in it; everything that is left, if not given.
    pub lines: Option<Vec<OrderLineInput>>,
}

/// What is to be refunded.
#[derive(Debug, Default, InputObject)]
pub struct RefundInput {
    /// Everything that is left, shipping and all, if not given.
    pub lines: Option<Vec<RefundLineInput>>,
    /// What is left of the shipping, too.
    #[graphql(default)]
    pub shipping: bool,
}

#[derive(Debug, InputObject)]
pub struct RefundLineInput {
    pub product_id: ID,
    pub quantity: i32,
    /// Units that were shipped have come back, and can be sold again.
    #[graphql(default)]
    pub restock: bool,
}

fn wishes(lines: Vec<OrderLineInput>) -> Vec<UnitsWish> {
    let wish = |line: OrderLineInput| UnitsWish {
        product_id: line.product_id.0,
        quantity: i64::from(line.quantity),
    };
    lines.into_iter().map(wish).collect()
}

/// What became of an order.
#[derive(SimpleObject)]
pub struct OrderPayload {
    pub order: Option<Order>,
    pub user_errors: Vec<OrderUserError>,
}

pub(super) fn payload(done: Result<domain::Order, Error>) -> Result<OrderPayload> {
    match done {
        Ok(order) => Ok(OrderPayload {
            order: Some(Order(order)),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(OrderPayload {
            order: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

async fn change(
    ctx: &Context<'_>,
    verb: Verb,
    order_id: &ID,
    key: &ID,
    reason: Option<String>,
) -> Result<OrderPayload> {
    let done = app(ctx)?
        .order_change(&call(ctx)?.caller, &verb, order_id, reason, key)
        .await;
    payload(done)
}

#[Object]
impl OrderMutation {
    /// Reserves the units and starts the payment. The order is PENDING until
    /// that settles, about a second later.
    async fn place_order(
        &self,
        ctx: &Context<'_>,
        input: PlaceOrderInput,
        #[graphql(desc = "Chosen by the client, one an order: a repeat answers the same order.")]
        idempotency_key: ID,
    ) -> Result<OrderPayload> {
        let request = Request {
            lines: input
                .lines
                .into_iter()
                .map(|line| RequestLine {
                    product_id: line.product_id.0,
                    quantity: i64::from(line.quantity),
                })
                .collect(),
            shipping_address: input.shipping_address.into(),
            payment_method: input.payment_method,
            discount_code: input.discount_code,
        };
        let done = app(ctx)?
            .order_place(call(ctx)?, &request, &idempotency_key)
            .await;
        payload(done)
    }

    /// Calls off an order that is not shipped; money and units go back.
    async fn cancel_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        reason: Option<String>,
    ) -> Result<OrderPayload> {
        change(ctx, Verb::Cancel, &order_id, &idempotency_key, reason).await
    }

    /// Sends a parcel: what is named, or everything that is left. With the last
    /// of its units the order is shipped. For administrators.
    async fn ship_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        #[graphql(desc = "Kept in the order's history.")] reason: Option<String>,
        shipment: Option<ShipmentInput>,
    ) -> Result<OrderPayload> {
        let shipment = shipment.unwrap_or_default();
        let verb = Verb::Ship(ShipmentRequest {
            carrier: shipment.carrier,
            tracking_number: shipment.tracking_number,
            lines: shipment.lines.map(wishes),
        });
        change(ctx, verb, &order_id, &idempotency_key, reason).await
    }

    /// For administrators.
    async fn deliver_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        reason: Option<String>,
    ) -> Result<OrderPayload> {
        change(ctx, Verb::Deliver, &order_id, &idempotency_key, reason).await
    }

    /// Returns money: for what is named, or everything that is left. Units that
    /// were not shipped are called off and go back to stock. Once all the money
    /// is back the order is refunded. For administrators.
    async fn refund_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        reason: Option<String>,
        refund: Option<RefundInput>,
    ) -> Result<OrderPayload> {
        let refund = refund.unwrap_or_default();
        let lines = refund.lines.map(|lines| {
            let wish = |line: RefundLineInput| RefundWish {
                units: UnitsWish {
                    product_id: line.product_id.0,
                    quantity: i64::from(line.quantity),
                },
                restock: line.restock,
            };
            lines.into_iter().map(wish).collect()
        });
        let verb = Verb::Refund(RefundRequest {
            lines,
            shipping: refund.shipping,
        });
        change(ctx, verb, &order_id, &idempotency_key, reason).await
    }
}
