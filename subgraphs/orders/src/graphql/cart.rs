//! Carts and checking out.

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use stoa_schema::Money;
use stoa_schema::peer::ProductOffer;
use stoa_service::graphql::{AddressInput, DateTime, MoneyObject, call_context, to_graphql_error};
use tokio::sync::OnceCell;

use super::app;
use super::fulfilment::Product;
use super::order_mutation::{OrderPayload, payload};
use super::problem::OrderUserError;
use crate::app::cart::{CartWithToken, Edit};
use crate::domain::{self, CartRef, CheckoutRequest, LineQuantity, WarningCode};
use crate::error::Error;

/// What a customer or guest intends to buy. No stock is reserved for it.
pub struct Cart {
    cart: domain::Cart,
    offers: OnceCell<Vec<ProductOffer>>,
}

impl Cart {
    pub fn new(cart: domain::Cart) -> Self {
        Self {
            cart,
            offers: OnceCell::new(),
        }
    }

    /// Current prices and stock of its products; fetched once per request.
    async fn offers(&self, ctx: &Context<'_>) -> Result<&[ProductOffer]> {
        let load = async || {
            let lines = self.cart.lines.iter();
            let ids: Vec<_> = lines.map(|line| line.product_id.clone()).collect();
            let context = call_context(ctx)?;
            let offers = app(ctx)?.carts.offers(&context.correlation_id, &ids).await;
            offers.map_err(to_graphql_error)
        };
        Ok(self.offers.get_or_try_init(load).await?)
    }
}

fn price_of(line: &domain::CartLine, offers: &[ProductOffer]) -> Money {
    let mut known = offers.iter();
    let offer = known.find(|offer| offer.product.product_id == line.product_id);
    offer.map_or(line.price, |offer| offer.product.price)
}

#[Object]
impl Cart {
    async fn id(&self) -> ID {
        ID(self.cart.id.clone())
    }

    /// Incremented with every change. Updating or removing lines requires the
    /// version that the caller has seen.
    async fn version(&self) -> i32 {
        i32::try_from(self.cart.version).unwrap_or(i32::MAX)
    }

    async fn lines(&self, ctx: &Context<'_>) -> Result<Vec<CartLine>> {
        let offers = self.offers(ctx).await?;
        let lines = self.cart.lines.iter().map(|line| {
            let price = price_of(line, offers);
            CartLine {
                product: Some(Product {
                    id: ID(line.product_id.to_string()),
                }),
                quantity: i32::try_from(line.quantity).unwrap_or(i32::MAX),
                unit_price: price.into(),
                subtotal: times(price, line.quantity).into(),
            }
        });
        Ok(lines.collect())
    }

    /// Total number of units in the cart.
    async fn total_quantity(&self) -> i32 {
        let units: u32 = self.cart.lines.iter().map(|line| line.quantity).sum();
        i32::try_from(units).unwrap_or(i32::MAX)
    }

    /// Sum of the lines at current prices; null if the cart is empty or has
    /// several currencies. Discount, shipping and tax are added with the order.
    async fn subtotal(&self, ctx: &Context<'_>) -> Result<Option<MoneyObject>> {
        let offers = self.offers(ctx).await?;
        let lines = self.cart.lines.iter();
        let mut lines = lines.map(|line| times(price_of(line, offers), line.quantity));
        let first = lines.next();
        let sum = first.and_then(|first| lines.try_fold(first, Money::checked_add));
        Ok(sum.map(Into::into))
    }

    /// What has changed since the lines were added.
    async fn warnings(&self, ctx: &Context<'_>) -> Result<Vec<CartWarning>> {
        let warnings = self.cart.warnings(self.offers(ctx).await?).into_iter();
        Ok(warnings
            .map(|warning| CartWarning {
                code: warning.code.into(),
                product: Some(Product {
                    id: ID(warning.product_id.to_string()),
                }),
                message: warning.message,
            })
            .collect())
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.cart.updated_at)
    }
}

/// On overflow, which no real price reaches, returns the largest amount: placing
/// such an order is refused.
fn times(price: Money, quantity: u32) -> Money {
    let product = price.checked_mul(quantity);
    product.unwrap_or(Money::new(i64::MAX, price.currency))
}

#[derive(SimpleObject)]
pub struct CartLine {
    product: Option<Product>,
    quantity: i32,
    /// The current price.
    unit_price: MoneyObject,
    subtotal: MoneyObject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "WarningCode")]
pub enum CartWarningCode {
    /// The price has changed since the product was added.
    PriceChanged,
    /// Fewer units are available than the line has.
    InsufficientStock,
    /// The product is no longer for sale.
    Unavailable,
}

/// Something that a customer should know before they order.
#[derive(SimpleObject)]
pub struct CartWarning {
    code: CartWarningCode,
    product: Option<Product>,
    /// For developers, in English.
    message: String,
}

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

fn at(id: Option<ID>, token: Option<String>) -> CartRef {
    CartRef {
        id: id.map(|id| id.0),
        token,
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
pub struct CartQuery;

#[Object]
impl CartQuery {
    /// An open cart: the caller's own, or a guest's by ID and token.
    async fn cart(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        token: Option<String>,
    ) -> Result<Option<Cart>> {
        let found = app(ctx)?
            .carts
            .cart_fetch(&call_context(ctx)?.caller, &at(id, token))
            .await;
        Ok(found.map_err(to_graphql_error)?.map(Cart::new))
    }
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
