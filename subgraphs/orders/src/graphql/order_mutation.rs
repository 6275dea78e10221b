//! Placing and changing orders.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{AddressInput, call_context, idempotent, to_graphql_error};

use super::app;
use super::order::Order;
use super::problem::OrderUserError;
use crate::app::fulfilment::{OrderAction, ShipmentRequest};
use crate::domain::{self, LineQuantity, RefundLineRequest, RefundRequest, Request, RequestLine};
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
    /// At most 50; quantities of the same product on several lines are added up.
    pub lines: Vec<OrderLineInput>,
    pub shipping_address: AddressInput,
    /// In the sandbox: sandbox_approve, sandbox_decline (at the authorisation),
    /// sandbox_decline_capture, sandbox_slow (five seconds), sandbox_timeout
    /// (captured, but the response is lost), or sandbox_webhook_first,
    /// sandbox_webhook_thrice, sandbox_webhook_disorder.
    pub payment_method: String,
    /// Not case-sensitive.
    pub discount_code: Option<String>,
}

/// What to ship.
#[derive(Debug, Default, InputObject)]
pub struct ShipmentInput {
    /// At most 100 characters.
    pub carrier: Option<String>,
    /// At most 100 characters.
    pub tracking_number: Option<String>,
    /// The units to ship; if omitted, everything that is left.
    pub lines: Option<Vec<OrderLineInput>>,
}

/// What to refund.
#[derive(Debug, Default, InputObject)]
pub struct RefundInput {
    /// If omitted, everything that is left, including shipping.
    pub lines: Option<Vec<RefundLineInput>>,
    /// Whether to refund what is left of the shipping cost, too.
    #[graphql(default)]
    pub shipping: bool,
}

#[derive(Debug, InputObject)]
pub struct RefundLineInput {
    pub product_id: ID,
    pub quantity: i32,
    /// Whether shipped units have been returned and can be sold again.
    #[graphql(default)]
    pub restock: bool,
}

fn line_quantities(lines: Vec<OrderLineInput>) -> Vec<LineQuantity> {
    let to_request = |line: OrderLineInput| LineQuantity {
        product_id: line.product_id.0,
        quantity: i64::from(line.quantity),
    };
    lines.into_iter().map(to_request).collect()
}

/// The result of placing or changing an order.
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
    verb: OrderAction,
    order_id: &ID,
    key: &ID,
    reason: Option<String>,
) -> Result<OrderPayload> {
    let done = app(ctx)?
        .orders
        .order_change(&call_context(ctx)?.caller, &verb, order_id, reason, key)
        .await;
    payload(done)
}

#[Object]
impl OrderMutation {
    /// Reserves the units and starts the payment. The order is PENDING until the
    /// payment settles, about a second later.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn place_order(
        &self,
        ctx: &Context<'_>,
        input: PlaceOrderInput,
        #[graphql(desc = "One per order, chosen by the client; a retry returns the same order.")]
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
            .orders
            .order_place(call_context(ctx)?, &request, &idempotency_key)
            .await;
        payload(done)
    }

    /// Cancels an order of which nothing has been shipped; the payment is voided
    /// or refunded, and the units go back to stock.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn cancel_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        reason: Option<String>,
    ) -> Result<OrderPayload> {
        change(
            ctx,
            OrderAction::Cancel,
            &order_id,
            &idempotency_key,
            reason,
        )
        .await
    }

    /// Ships the given units, or everything that is left. Once all units are
    /// shipped the order is SHIPPED. For administrators.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn ship_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        #[graphql(desc = "Recorded in the order's history.")] reason: Option<String>,
        shipment: Option<ShipmentInput>,
    ) -> Result<OrderPayload> {
        let shipment = shipment.unwrap_or_default();
        let verb = OrderAction::Ship(ShipmentRequest {
            carrier: shipment.carrier,
            tracking_number: shipment.tracking_number,
            lines: shipment.lines.map(line_quantities),
        });
        change(ctx, verb, &order_id, &idempotency_key, reason).await
    }

    /// Marks a shipped order as delivered. For administrators.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn deliver_order(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: ID,
        reason: Option<String>,
    ) -> Result<OrderPayload> {
        change(
            ctx,
            OrderAction::Deliver,
            &order_id,
            &idempotency_key,
            reason,
        )
        .await
    }

    /// Refunds the given lines, or everything that is left. Units that were not
    /// shipped are cancelled and go back to stock. Once the refunds add up to the
    /// whole payment the order is REFUNDED. For administrators.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
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
            let to_request = |line: RefundLineInput| RefundLineRequest {
                units: LineQuantity {
                    product_id: line.product_id.0,
                    quantity: i64::from(line.quantity),
                },
                restock: line.restock,
            };
            lines.into_iter().map(to_request).collect()
        });
        let verb = OrderAction::Refund(RefundRequest {
            lines,
            shipping: refund.shipping,
        });
        change(ctx, verb, &order_id, &idempotency_key, reason).await
    }
}
