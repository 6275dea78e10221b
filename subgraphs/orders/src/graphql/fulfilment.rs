//! An order line by line: what was bought, shipped and refunded.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use stoa_schema::money::Currency;
use stoa_schema::{Money, OrderId};
use stoa_service::graphql::{DateTime, MoneyObject, to_graphql_error};

use super::loader;
use super::loader::{RefundsKey, ShipmentsKey};
use crate::domain::{self, Actor};

/// Who changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Actor")]
pub enum OrderActor {
    Customer,
    Admin,
    /// The shop itself: a payment was confirmed or declined.
    System,
}

/// One product of an order. Name, SKU and price are those at the time of the order.
pub struct OrderLine {
    pub order: OrderId,
    pub line: domain::Line,
}

#[Object]
impl OrderLine {
    /// The product as it is now, if it still exists.
    async fn product(&self) -> Option<Product> {
        Some(Product {
            id: ID(self.line.product_id.to_string()),
        })
    }

    async fn name(&self) -> &str {
        &self.line.name
    }

    async fn sku(&self) -> &str {
        &self.line.sku
    }

    async fn unit_price(&self) -> MoneyObject {
        self.line.unit_price.into()
    }

    async fn quantity(&self) -> i32 {
        count(self.line.quantity)
    }

    /// Units that have been shipped.
    async fn shipped_quantity(&self, ctx: &Context<'_>) -> Result<i32> {
        let key = ShipmentsKey(self.order.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let units = found.iter().flatten().flat_map(|one| &one.lines);
        let ours = units.filter(|(product, _)| *product == self.line.product_id);
        Ok(count(ours.map(|(_, units)| units).sum()))
    }

    /// Units that have been refunded, including refunds still in progress.
    async fn refunded_quantity(&self, ctx: &Context<'_>) -> Result<i32> {
        let key = RefundsKey(self.order.clone());
        let found = loader(ctx)?.load_one(key).await.map_err(to_graphql_error)?;
        let lines = found.iter().flatten().flat_map(|one| &one.lines);
        let ours = lines.filter(|line| line.product_id == self.line.product_id);
        Ok(count(ours.map(|line| line.quantity).sum()))
    }

    /// Unit price times quantity.
    async fn subtotal(&self) -> MoneyObject {
        self.line.subtotal.into()
    }

    /// The line's share of the order's discount.
    async fn discount(&self) -> MoneyObject {
        self.money(self.line.discount)
    }

    async fn tax(&self) -> MoneyObject {
        self.money(self.line.tax)
    }

    /// Subtotal, less discount, plus tax.
    async fn total(&self) -> MoneyObject {
        self.money(self.line.total())
    }
}

impl OrderLine {
    fn money(&self, amount: i64) -> MoneyObject {
        Money::new(amount, self.line.subtotal.currency).into()
    }
}

#[derive(SimpleObject)]
#[graphql(unresolvable)]
pub struct Product {
    pub id: ID,
}

/// A shipment of some or all units of an order.
#[derive(SimpleObject)]
pub struct Shipment {
    id: ID,
    carrier: Option<String>,
    tracking_number: Option<String>,
    lines: Vec<ShipmentLine>,
    shipped_at: DateTime,
}

#[derive(SimpleObject)]
pub struct ShipmentLine {
    product: Option<Product>,
    quantity: i32,
}

impl From<domain::Shipment> for Shipment {
    fn from(shipment: domain::Shipment) -> Self {
        let lines = shipment.lines.into_iter();
        Self {
            id: ID(shipment.id),
            carrier: shipment.carrier,
            tracking_number: shipment.tracking_number,
            lines: lines
                .map(|(product, units)| ShipmentLine {
                    product: Some(Product {
                        id: ID(product.to_string()),
                    }),
                    quantity: count(units),
                })
                .collect(),
            shipped_at: DateTime(shipment.at),
        }
    }
}

/// A refund of some or all of an order's payment.
#[derive(SimpleObject)]
pub struct Refund {
    id: ID,
    amount: MoneyObject,
    /// The part of the amount that is for shipping and its tax.
    shipping: MoneyObject,
    /// Whether the payment provider has returned it.
    done: bool,
    actor: OrderActor,
    reason: Option<String>,
    /// The refunded lines; empty for a cancelled order.
    lines: Vec<RefundLine>,
    created_at: DateTime,
}

#[derive(SimpleObject)]
pub struct RefundLine {
    product: Option<Product>,
    quantity: i32,
    /// Of these, the units that go back on sale.
    returned_to_stock: i32,
    amount: MoneyObject,
}

impl Refund {
    pub fn new(refund: domain::Refund, currency: Currency) -> Self {
        let money = |amount| MoneyObject::from(Money::new(amount, currency));
        let lines = refund.lines.into_iter();
        Self {
            id: ID(refund.id),
            amount: money(refund.amount),
            shipping: money(refund.shipping),
            done: refund.done,
            actor: refund.actor.into(),
            reason: refund.reason,
            lines: lines
                .map(|line| RefundLine {
                    product: Some(Product {
                        id: ID(line.product_id.to_string()),
                    }),
                    quantity: count(line.quantity),
                    returned_to_stock: count(line.called_off + line.restocked),
                    amount: money(line.amount),
                })
                .collect(),
            created_at: DateTime(refund.at),
        }
    }
}

fn count(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}
