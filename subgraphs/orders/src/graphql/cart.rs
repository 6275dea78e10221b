//! Carts and checking out.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_schema::Money;
use stoa_schema::peer::ProductOffer;
use stoa_service::graphql::{AddressInput, DateTime, MoneyObject, to_graphql_error};
use tokio::sync::OnceCell;

use super::lines::Product;
use super::mutation::{OrderPayload, payload};
use super::types::OrderUserError;
use super::{app, call};
use crate::app::cart::{Edit, Opened};
use crate::domain::{self, CartRef, CheckoutRequest, UnitsWish, WarningCode};
use crate::error::Error;

/// What somebody means to buy. Nothing is reserved for it.
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

    /// What its products cost now, and how many there are: asked once.
    async fn offers(&self, ctx: &Context<'_>) -> Result<&[ProductOffer]> {
        let load = async || {
            let lines = self.cart.lines.iter();
            let ids: Vec<_> = lines.map(|line| line.product_id.clone()).collect();
            let context = call(ctx)?;
            let offers = app(ctx)?.offers(&context.correlation_id, &ids).await;
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

    /// Counts every change. Whoever sets or removes lines names the version
    /// that they have seen.
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

    /// How many units are in it.
    async fn total_quantity(&self) -> i32 {
        let units: u32 = self.cart.lines.iter().map(|line| line.quantity).sum();
        i32::try_from(units).unwrap_or(i32::MAX)
    }

    /// The sum of the lines at the prices of now; null while it is empty, or
    /// holds several currencies. Discount, shipping and tax come with the order.
    async fn subtotal(&self, ctx: &Context<'_>) -> Result<Option<MoneyObject>> {
        let offers = self.offers(ctx).await?;
        let lines = self.cart.lines.iter();
        let mut lines = lines.map(|line| times(price_of(line, offers), line.quantity));
        let first = lines.next();
        let sum = first.and_then(|first| lines.try_fold(first, Money::checked_add));
        Ok(sum.map(Into::into))
    }

    /// What has changed since the lines were put in.
    async fn warnings(&self, ctx: &Context<'_>) -> Result<Vec<CartWarning>> {
        let warnings = self.cart.warnings(self.offers(ctx).await?).into_iter();
        Ok(warnings
            .map(|warning| CartWarning {
                code: warning.code,
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

/// A price never comes near the largest number; an order of it is refused.
fn times(price: Money, quantity: u32) -> Money {
    let product = price.checked_mul(quantity);
    product.unwrap_or(Money::new(i64::MAX, price.currency))
}

#[derive(SimpleObject)]
pub struct CartLine {
    product: Option<Product>,
    quantity: i32,
    /// As it is now.
    unit_price: MoneyObject,
    subtotal: MoneyObject,
}

/// Something that a customer should know before they order.
#[derive(SimpleObject)]
pub struct CartWarning {
    code: WarningCode,
    product: Option<Product>,
    /// For developers, in English.
    message: String,
}

#[derive(Debug, InputObject)]
pub struct CartLineInput {
    pub product_id: ID,
    /// Between 1 and 1,000; an update takes the line out with 0.
    pub quantity: i32,
}

#[derive(Debug, InputObject)]
pub struct CheckoutInput {
    pub shipping_address: AddressInput,
    /// As for placeOrder.
    pub payment_method: String,
    /// Case does not count.
    pub discount_code: Option<String>,
}

/// What became of a cart. After a problem it is the cart as it is now.
#[derive(SimpleObject)]
pub struct CartPayload {
    cart: Option<Cart>,
    /// Opens a guest's cart; told once, when the cart is made.
    token: Option<String>,
    user_errors: Vec<OrderUserError>,
}

async fn cart_payload(
    ctx: &Context<'_>,
    at: &CartRef,
    done: Result<Opened, Error>,
) -> Result<CartPayload> {
    match done {
        Ok(opened) => Ok(CartPayload {
            cart: Some(Cart::new(opened.cart)),
            token: opened.token,
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => {
            let cart = app(ctx)?.cart_fetch(&call(ctx)?.caller, at).await;
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

fn wishes(lines: Vec<CartLineInput>) -> Vec<UnitsWish> {
    let wish = |line: CartLineInput| UnitsWish {
        product_id: line.product_id.0,
        quantity: i64::from(line.quantity),
    };
    lines.into_iter().map(wish).collect()
}

#[derive(Default)]
pub struct CartQuery;

#[Object]
impl CartQuery {
    /// An open cart: one's own, or a guest's by identifier and token.
    async fn cart(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        token: Option<String>,
    ) -> Result<Option<Cart>> {
        let found = app(ctx)?
            .cart_fetch(&call(ctx)?.caller, &at(id, token))
            .await;
        Ok(found.map_err(to_graphql_error)?.map(Cart::new))
    }
}

#[derive(Default)]
pub struct CartMutation;

#[Object]
impl CartMutation {
    /// Puts units in a cart, beside what is there. Without an identifier it is
    /// one's own cart, which is made if there is none; a guest is given a new
    /// one, with its token.
    async fn cart_lines_add(
        &self,
        ctx: &Context<'_>,
        lines: Vec<CartLineInput>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "Refused if the cart has another; not needed to put something in.")]
        version: Option<i32>,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let (lines, version) = (wishes(lines), version.map(i64::from));
        let done = app(ctx)?
            .cart_edit(call(ctx)?, &at, Edit::Add, &lines, version)
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Sets the units of lines, and accepts what they cost now.
    async fn cart_lines_update(
        &self,
        ctx: &Context<'_>,
        lines: Vec<CartLineInput>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "As the caller has seen it: with another the update is refused.")]
        version: i32,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let (lines, version) = (wishes(lines), Some(i64::from(version)));
        let done = app(ctx)?
            .cart_edit(call(ctx)?, &at, Edit::Update, &lines, version)
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Takes products out.
    async fn cart_lines_remove(
        &self,
        ctx: &Context<'_>,
        product_ids: Vec<ID>,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "As the caller has seen it: with another the change is refused.")]
        version: i32,
    ) -> Result<CartPayload> {
        let at = at(cart_id, token);
        let products: Vec<_> = product_ids.into_iter().map(|id| id.0).collect();
        let done = app(ctx)?
            .cart_remove(call(ctx)?, &at, &products, i64::from(version))
            .await;
        cart_payload(ctx, &at, done).await
    }

    /// Makes a guest's cart part of one's own, as after signing in.
    async fn cart_merge(
        &self,
        ctx: &Context<'_>,
        cart_id: ID,
        token: String,
    ) -> Result<CartPayload> {
        let at = at(Some(cart_id), Some(token));
        let done = app(ctx)?.cart_merge(&call(ctx)?.caller, &at).await;
        cart_payload(ctx, &CartRef::default(), done).await
    }

    /// Orders what is in a cart, at the prices that the customer has seen.
    async fn checkout(
        &self,
        ctx: &Context<'_>,
        input: CheckoutInput,
        cart_id: Option<ID>,
        token: Option<String>,
        #[graphql(desc = "The cart as the customer has seen it.")] version: i32,
        #[graphql(desc = "Chosen by the client, one an order: a repeat answers the same order.")]
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
            .checkout(call(ctx)?, &checkout, &idempotency_key)
            .await;
        payload(done)
    }
}
