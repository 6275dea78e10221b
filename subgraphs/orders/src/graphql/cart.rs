//! Carts and checking out.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_schema::Money;
use stoa_schema::peer::ProductOffer;
use stoa_service::graphql::{DateTime, MoneyObject, call_context, to_graphql_error};
use tokio::sync::OnceCell;

use super::app;
use super::fulfilment::Product;
use crate::domain::{self, CartRef, WarningCode};

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

pub(super) fn at(id: Option<ID>, token: Option<String>) -> CartRef {
    CartRef {
        id: id.map(|id| id.0),
        token,
    }
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
