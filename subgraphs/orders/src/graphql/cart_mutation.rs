//! Changing carts and checking out.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{AddressInput, call_context, idempotent, to_graphql_error};

use super::app;
use super::cart::{Cart, at};
use super::order_mutation::{OrderPayload, payload};
use super::problem::OrderUserError;
use crate::app::cart::{CartWithToken, Edit};
use crate::domain::{CartRef, CheckoutRequest, LineQuantity};
use crate::error::Error;

#[derive(Debug, InputObject)]
pub struct CartLineInput {
    pub product_id: ID,
    /// Between 1 and 1,000; in an update, 0 removes the line.
    pub quantity: i32,
}

#[derive(Debug, InputObject)]
pub struct CheckoutInput {
    pub shipping_address: AddressInput,
    /// See `PlaceOrderInput.paymentMethod`.
    pub payment_method: String,
    /// Not case-sensitive.
    pub discount_code: Option<String>,
}

/// The result of a cart change. If there are user errors, it has the current cart.
#[derive(SimpleObject)]
pub struct CartPayload {
    cart: Option<Cart>,
    /// Gives access to a guest's cart; returned only once, when the cart is created.
    token: Option<String>,
    user_errors: Vec<OrderUserError>,
}

async fn cart_payload(
    ctx: &Context<'_>,
    at: &CartRef,
    done: Result<CartWithToken, Error>,
) -> Result<CartPayload> {
    match done {
        Ok(opened) => Ok(CartPayload {
            cart: Some(Cart::new(opened.cart)),
            token: opened.token,
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => {
            let cart = app(ctx)?
                .carts
                .cart_fetch(&call_context(ctx)?.caller, at)
                .await;
            Ok(CartPayload {
                cart: cart.map_err(to_graphql_error)?.map(Cart::new),
                token: None,
                user_errors: problems.into_iter().map(Into::into).collect(),
            })
        }
        Err(error) => Err(to_graphql_error(error)),
    }
}

fn line_quantities(lines: Vec<CartLineInput>) -> Vec<LineQuantity> {
    let to_line_quantity = |line: CartLineInput| LineQuantity {
        product_id: line.product_id.0,
        quantity: i64::from(line.quantity),
    };
    lines.into_iter().map(to_line_quantity).collect()
}

#[derive(Default)]
pub struct CartMutation;

#[Object]
impl CartMutation {
    /// Adds units to a cart. Without `cartId` it is the caller's own cart, which
    /// is created if there is none; a guest gets a new cart and its token.
    async fn cart_lines_add(
        &self,
        ctx: &Context<'_>,
        lines: Vec<CartLineInput>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "Optional; the change is refused if the cart has a different version.")]
        version: Option<i32>,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let (lines, version) = (line_quantities(lines), version.map(i64::from));
        let done = app(ctx)?
            .carts
            .cart_edit(call_context(ctx)?, &at, Edit::Add, &lines, version)
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Sets the quantities of lines, and accepts their current prices.
    async fn cart_lines_update(
        &self,
        ctx: &Context<'_>,
        lines: Vec<CartLineInput>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "The version that the caller has seen; refused if it has changed.")]
        version: i32,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let (lines, version) = (line_quantities(lines), Some(i64::from(version)));
        let done = app(ctx)?
            .carts
            .cart_edit(call_context(ctx)?, &at, Edit::Update, &lines, version)
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Removes products from a cart.
    async fn cart_lines_remove(
        &self,
        ctx: &Context<'_>,
        product_ids: Vec<ID>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "The version that the caller has seen; refused if it has changed.")]
        version: i32,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let products: Vec<_> = product_ids.into_iter().map(|id| id.0).collect();
        let done = app(ctx)?
            .carts
            .cart_remove(call_context(ctx)?, &at, &products, i64::from(version))
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Merges a guest's cart into the caller's own, for example after signing in.
    async fn cart_merge(
        &self,
        ctx: &Context<'_>,
        cart_id: ID,
        token: String,
    ) -> Result<CartPayload> {
        let at = at(Some(cart_id), Some(token));
        let done = app(ctx)?
            .carts
            .cart_merge(&call_context(ctx)?.caller, &at)
            .await;
        cart_payload(ctx, &CartRef::default(), done).await
    }

    /// Places an order for a cart, at the prices that the customer has seen.
    #[graphql(directive = idempotent::apply("idempotencyKey".to_owned()))]
    async fn checkout(
        &self,
        ctx: &Context<'_>,
        input: CheckoutInput,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "The cart version that the customer has seen.")] version: i32,
        #[graphql(desc = "One per order, chosen by the client; a retry returns the same order.")]
        idempotency_key: ID,
    ) -> Result<OrderPayload> {
        let checkout = CheckoutRequest {
            cart: at(cart_id, token),
            version: i64::from(version),
            shipping_address: input.shipping_address.into(),
            payment_method: input.payment_method,
            discount_code: input.discount_code,
        };
        let done = app(ctx)?
            .orders
            .checkout(call_context(ctx)?, &checkout, &idempotency_key)
            .await;
        payload(done)
    }
}
