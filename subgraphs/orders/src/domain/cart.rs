//! Carts: what somebody means to buy. Every change counts the version on, so
//! that of two tabs the later one learns of the earlier.

use serde::Serialize;
use stoa_runtime::clock::Micros;
use stoa_schema::peer::{ProductOffer, ProductSnapshot};
use stoa_schema::{Money, ProductId, UserId};

use super::{Address, MAX_LINES, MAX_QUANTITY, Problem, ProblemCode, Request, RequestLine};

#[derive(Debug, Clone, PartialEq)]
pub struct Cart {
    pub id: String,
    /// `None` for a guest's.
    pub customer_id: Option<UserId>,
    pub version: i64,
    pub lines: Vec<CartLine>,
    pub updated_at: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartLine {
    pub product_id: ProductId,
    pub quantity: u32,
    /// As it was when the line was last changed.
    pub price: Money,
}

/// Which cart: one's own open one, or one by identifier; a guest's with its
/// token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CartRef {
    pub id: Option<String>,
    pub token: Option<String>,
}

/// An order of what is in a cart.
#[derive(Debug, Clone, Serialize)]
pub struct CheckoutRequest {
    pub cart: CartRef,
    /// The cart as the customer saw it.
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

/// What a customer should know of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub code: WarningCode,
    pub product_id: ProductId,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, async_graphql::Enum)]
#[graphql(name = "CartWarningCode")]
pub enum WarningCode {
    /// The product costs something else than when it was put in.
    PriceChanged,
    /// There are fewer units than the line has.
    InsufficientStock,
    /// The product is not for sale any more.
    Unavailable,
}

impl Cart {
    /// Puts units in, beside those that are there.
    ///
    /// # Errors
    /// If it would hold more than a cart may.
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

    /// Sets the units of a product that is in it; none takes it out.
    ///
    /// # Errors
    /// If it is not in it, or the units are too many.
    pub fn set(&mut self, line: CartLine, index: usize) -> Result<(), Problem> {
        if line.quantity == 0 {
            return self.remove(&line.product_id, index);
        }
        check_quantity(i64::from(line.quantity), index)?;
        let same = self.line_mut(&line.product_id);
        *same.ok_or_else(|| not_in_it(index))? = line;
        Ok(())
    }

    /// # Errors
    /// If it is not in it.
    pub fn remove(&mut self, product: &ProductId, index: usize) -> Result<(), Problem> {
        let place = self
            .lines
            .iter()
            .position(|line| line.product_id == *product);
        self.lines.remove(place.ok_or_else(|| not_in_it(index))?);
        Ok(())
    }

    fn line_mut(&mut self, product: &ProductId) -> Option<&mut CartLine> {
        self.lines
            .iter_mut()
            .find(|line| line.product_id == *product)
    }

    /// What has changed since the lines were put in.
    pub fn warnings(&self, offers: &[ProductOffer]) -> Vec<Warning> {
        let of_line = |line: &CartLine| {
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
                warn(
                    WarningCode::Unavailable,
                    "is not for sale any more".to_owned(),
                );
                return warnings;
            };
            let price = offer.product.price;
            if price != line.price {
                let message = format!("costs {price} now, instead of {}", line.price);
                warn(WarningCode::PriceChanged, message);
            }
            if offer.available < line.quantity {
                let message = format!("only {} left", offer.available);
                warn(WarningCode::InsufficientStock, message);
            }
            warnings
        };
        self.lines.iter().flat_map(of_line).collect()
    }

    /// Whether it costs what the customer has seen.
    ///
    /// # Errors
    /// A problem for each line that does not.
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
                            "{} costs {} now, instead of {}; set the line's quantity to accept that",
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
/// If it is no number of units that a line may have.
pub fn check_quantity(quantity: i64, index: usize) -> Result<u32, Problem> {
    let known = u32::try_from(quantity).ok();
    let fits = known.filter(|quantity| (1..=MAX_QUANTITY).contains(quantity));
    fits.ok_or_else(|| {
        Problem::new(
            &["lines", &index.to_string(), "quantity"],
            ProblemCode::Invalid,
            format!("must be between 1 and {MAX_QUANTITY}, over all units of a product"),
        )
    })
}

fn not_in_it(index: usize) -> Problem {
    Problem::new(
        &["lines", &index.to_string(), "productId"],
        ProblemCode::NotFound,
        "is not in the cart",
    )
}
