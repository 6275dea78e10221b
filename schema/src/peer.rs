//! Messages that one service sends another directly, signed with a service
//! identity. They are never part of the public graph.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, ProductId, UserId};
use crate::money::Money;

/// A request to a peer: which service handles it, and the type of the response.
pub trait PeerRequest: Serialize + DeserializeOwned + Send + Sync {
    const SERVICE: &'static str;
    const METHOD: &'static str;
    type Response: Serialize + DeserializeOwned + Send;
}

/// Takes units out of stock for an order, all lines or none. Idempotent by
/// order: a repeated call returns what the first one did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReserveStock {
    pub order_id: OrderId,
    /// One entry per product.
    pub lines: Vec<StockLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    pub product_id: ProductId,
    pub quantity: u32,
}

/// The outcome of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ReserveOutcome {
    /// Reserved; each product as it was at that moment.
    Ok { products: Vec<ProductSnapshot> },
    /// Nothing was reserved.
    Refused { problems: Vec<StockProblem> },
    /// The reservation existed but has been released since.
    Released,
}

/// The product data that an order line stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSnapshot {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub price: Money,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockProblem {
    pub product_id: ProductId,
    pub reason: StockProblemReason,
    /// How many units could be sold.
    pub available: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StockProblemReason {
    /// No such product, or not for sale.
    Unknown,
    Insufficient,
}

impl PeerRequest for ReserveStock {
    const SERVICE: &'static str = "products";
    const METHOD: &'static str = "reserve_stock";
    type Response = ReserveOutcome;
}

/// Makes a reservation permanent. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommitStock {
    pub order_id: OrderId,
}

/// Whether the reservation is now permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// False if the reservation had expired or been released.
    pub committed: bool,
}

impl PeerRequest for CommitStock {
    const SERVICE: &'static str = "products";
    const METHOD: &'static str = "commit_stock";
    type Response = Committed;
}

/// Puts an order's units back, reserved or committed. Idempotent; an order
/// that never reserved anything can never reserve afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseStock {
    pub order_id: OrderId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

impl PeerRequest for ReleaseStock {
    const SERVICE: &'static str = "products";
    const METHOD: &'static str = "release_stock";
    type Response = Empty;
}

/// Puts back some of the units of an order that was paid. Idempotent by
/// `return_id`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReturnStock {
    pub return_id: String,
    pub order_id: OrderId,
    /// One entry per product.
    pub lines: Vec<ReturnLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnLine {
    pub product_id: ProductId,
    /// Units that were never shipped: the reservation shrinks by these.
    pub called_off: u32,
    /// Units that were shipped and have come back: they are added to the stock.
    pub restocked: u32,
}

impl PeerRequest for ReturnStock {
    const SERVICE: &'static str = "products";
    const METHOD: &'static str = "return_stock";
    type Response = Empty;
}

/// Asks for the current prices and available units of products.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LookUpProducts {
    pub product_ids: Vec<ProductId>,
}

/// The products that are for sale.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProductOffers {
    pub offers: Vec<ProductOffer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductOffer {
    pub product: ProductSnapshot,
    /// Units that can be sold.
    pub available: u32,
}

impl PeerRequest for LookUpProducts {
    const SERVICE: &'static str = "products";
    const METHOD: &'static str = "look_up_products";
    type Response = ProductOffers;
}

/// Asks which customer an order belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetOrderOwner {
    pub order_id: OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOwnerResponse {
    /// `None` if there is no such order.
    pub customer_id: Option<UserId>,
}

impl PeerRequest for GetOrderOwner {
    const SERVICE: &'static str = "orders";
    const METHOD: &'static str = "order_owner";
    type Response = OrderOwnerResponse;
}
