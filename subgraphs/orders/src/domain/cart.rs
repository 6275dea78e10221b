//! Carts: what a customer or guest intends to buy. Every change increments the
//! version, so that an edit from a second tab detects the edit from the first.

use serde::Serialize;
use stoa_runtime::clock::Micros;
use stoa_schema::peer::{ProductOffer, ProductSnapshot};
use stoa_schema::{Money, ProductId, UserId};

use super::{Address, MAX_LINES, MAX_QUANTITY, Problem, ProblemCode, Request, RequestLine};

#[derive(Debug, Clone, PartialEq)]
pub struct Cart {
    pub id: String,
    /// `None` for a guest's cart.
    pub customer_id: Option<UserId>,
    pub version: i64,
    pub lines: Vec<CartLine>,
    pub updated_at: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartLine {
    pub product_id: ProductId,
    pub quantity: u32,
    /// The price when the line was last changed.
    pub price: Money,
}

/// Which cart: the caller's own open one, or one by ID; a guest's needs its token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CartRef {
    pub id: Option<String>,
    pub token: Option<String>,
}

/// A request to order the contents of a cart.
#[derive(Debug, Clone, Serialize)]
pub struct CheckoutRequest {
    pub cart: CartRef,
    /// The cart version that the customer has seen.
    pub version: i64,
    pub shipping_address: Address,
    pub payment_method: String,
    pub discount_code: Option<String>,
}

impl CheckoutRequest {
    pub fn request(&self, cart: &Cart) -> Request {
        let lines = cart.lines.iter().map(|line| RequestLine {
            product_id: line.product_id.to_string(),
            quantity: i64::from(line.quantity),
        });
        Request {
            lines: lines.collect(),
            shipping_address: self.shipping_address.clone(),
            payment_method: self.payment_method.clone(),
            discount_code: self.discount_code.clone(),
        }
    }
}

/// What a customer should know about a line before ordering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub code: WarningCode,
    pub product_id: ProductId,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningCode {
    /// The price has changed since the product was added.
    PriceChanged,
    /// Fewer units are available than the line has.
    InsufficientStock,
    /// The product is no longer for sale.
    Unavailable,
}

impl Cart {
    /// Adds units to those already in the cart.
    ///
    /// # Errors
    /// If it would exceed the limits of a cart.
    pub fn add(&mut self, line: CartLine, index: usize) -> Result<(), Problem> {
        match self.line_mut(&line.product_id) {
            Some(same) => {
                let quantity = same.quantity.saturating_add(line.quantity);
                check_quantity(i64::from(quantity), index)?;
                same.quantity = quantity;
                same.price = line.price;
            }
            None => {
                check_quantity(i64::from(line.quantity), index)?;
                if self.lines.len() >= MAX_LINES {
                    return Err(Problem::new(
                        &["lines"],
                        ProblemCode::Invalid,
                        format!("a cart has at most {MAX_LINES} lines"),
                    ));
                }
                self.lines.push(line);
            }
        }
        Ok(())
    }

    /// Sets the quantity of a product in the cart; 0 removes it.
    ///
    /// # Errors
    /// If the product is not in the cart, or the quantity is too large.
    pub fn set(&mut self, line: CartLine, index: usize) -> Result<(), Problem> {
        if line.quantity == 0 {
            return self.remove(&line.product_id, index);
        }
        check_quantity(i64::from(line.quantity), index)?;
        let same = self.line_mut(&line.product_id);
        *same.ok_or_else(|| not_in_cart(index))? = line;
        Ok(())
    }

    /// # Errors
    /// If the product is not in the cart.
    pub fn remove(&mut self, product: &ProductId, index: usize) -> Result<(), Problem> {
        let place = self
            .lines
            .iter()
            .position(|line| line.product_id == *product);
        self.lines.remove(place.ok_or_else(|| not_in_cart(index))?);
        Ok(())
    }

    fn line_mut(&mut self, product: &ProductId) -> Option<&mut CartLine> {
        self.lines
            .iter_mut()
            .find(|line| line.product_id == *product)
    }

    /// What has changed since the lines were added.
    pub fn warnings(&self, offers: &[ProductOffer]) -> Vec<Warning> {
        let line_warnings = |line: &CartLine| {
            let id = &line.product_id;
            let offer = offers.iter().find(|offer| offer.product.product_id == *id);
            let mut warnings = Vec::new();
            let mut warn = |code, message: String| {
                warnings.push(Warning {
                    code,
                    product_id: id.clone(),
                    message,
                });
            };
            let Some(offer) = offer else {
                warn(WarningCode::Unavailable, "is no longer for sale".to_owned());
                return warnings;
            };
            let price = offer.product.price;
            if price != line.price {
                let message = format!("costs {price} now; it was {}", line.price);
                warn(WarningCode::PriceChanged, message);
            }
            if offer.available < line.quantity {
                let message = format!("only {} left", offer.available);
                warn(WarningCode::InsufficientStock, message);
            }
            warnings
        };
        self.lines.iter().flat_map(line_warnings).collect()
    }

    /// Checks that the lines still have the prices that the customer has seen.
    ///
    /// # Errors
    /// A problem for each line whose price has changed.
    pub fn check_prices(&self, products: &[ProductSnapshot]) -> Result<(), Vec<Problem>> {
        let changed: Vec<_> = self
            .lines
            .iter()
            .filter_map(|line| {
                let same = |product: &&ProductSnapshot| product.product_id == line.product_id;
                let product = products.iter().find(same)?;
                (product.price != line.price).then(|| {
                    Problem::new(
                        &["cartId"],
                        ProblemCode::PriceChanged,
                        format!(
                            "{} costs {} now; it was {}; set the line's quantity to accept that",
                            product.name, product.price, line.price
                        ),
                    )
                })
            })
            .collect();
        if changed.is_empty() {
            Ok(())
        } else {
            Err(changed)
        }
    }
}

/// # Errors
/// If it is out of the range that a line may have.
pub fn check_quantity(quantity: i64, index: usize) -> Result<u32, Problem> {
    let known = u32::try_from(quantity).ok();
    let fits = known.filter(|quantity| (1..=MAX_QUANTITY).contains(quantity));
    fits.ok_or_else(|| {
        Problem::new(
            &["lines", &index.to_string(), "quantity"],
            ProblemCode::Invalid,
            format!("must be between 1 and {MAX_QUANTITY}, in total per product"),
        )
    })
}

fn not_in_cart(index: usize) -> Problem {
    Problem::new(
        &["lines", &index.to_string(), "productId"],
        ProblemCode::NotFound,
        "is not in the cart",
    )
}

/// The problem that the cart has changed since the caller read it.
pub fn cart_changed_problem() -> Problem {
    Problem::new(
        &["version"],
        ProblemCode::CartChanged,
        "the cart has been changed meanwhile; reload it",
    )
}
