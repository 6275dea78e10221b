//! What an order costs, to the cent.
//!
//! All amounts are integers in minor units, at every step. A percentage discount
//! is rounded half up once, on the subtotal; it is allocated to the lines in
//! proportion to their subtotals, and the remaining cents go to the largest
//! remainders, so that the shares add up. Tax is rounded half up on each line,
//! after its share of the discount, and once on the shipping. The total is
//! subtotal, less discount, plus shipping, plus tax.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stoa_schema::Money;
use stoa_schema::money::Currency;
use stoa_schema::peer::{ProductSnapshot, StockLine};

use super::{Line, Parts, Problem, ProblemCode};

/// An order's priced lines, and its total.
#[derive(Debug, Clone, PartialEq)]
pub struct Priced {
    pub lines: Vec<Line>,
    pub parts: Parts,
    pub total: Money,
}

/// How a discount is calculated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscountKind {
    /// In hundredths of a percent: 1,000 is 10 %.
    Percentage(i64),
    /// A fixed amount, but never more than the subtotal.
    Amount(Money),
}

/// The terms of a discount code that pricing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub kind: DiscountKind,
    /// The smallest subtotal for which the code is valid.
    pub minimum: Option<Money>,
}

/// The rates for tax and shipping.
pub trait Rates: Send + Sync {
    /// The tax rate for a country, in hundredths of a percent.
    fn tax(&self, country: &str) -> i64;

    /// The shipping cost in minor units, by country and value of the goods.
    fn shipping(&self, country: &str, goods: Money) -> i64;
}

/// Rates from a table by country; `*` stands for all others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableRates {
    /// Tax in hundredths of a percent, by ISO 3166-1 code.
    #[serde(default)]
    pub tax: BTreeMap<String, i64>,
    /// The first match is used; without one shipping is free.
    #[serde(default)]
    pub shipping: Vec<ShippingRate>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShippingRate {
    /// ISO 3166-1 codes; empty for every country.
    #[serde(default)]
    pub countries: Vec<String>,
    pub currency: Currency,
    pub amount_minor: i64,
    /// Shipping is free for goods of at least this value.
    pub free_from_minor: Option<i64>,
}

impl TableRates {
    /// Reads a table, as JSON.
    ///
    /// # Errors
    /// If it is malformed or has a rate out of range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (country, rate) in &table.tax {
            if !(0..=10_000).contains(rate) {
                return Err(format!("tax.{country}: {rate} is not from 0 to 10000"));
            }
        }
        let negative = |rate: &ShippingRate| {
            rate.amount_minor < 0 || rate.free_from_minor.is_some_and(|from| from < 0)
        };
        if table.shipping.iter().any(negative) {
            return Err("shipping: an amount is negative".to_owned());
        }
        Ok(table)
    }
}

impl Rates for TableRates {
    fn tax(&self, country: &str) -> i64 {
        let rate = self.tax.get(country).or_else(|| self.tax.get("*"));
        rate.copied().unwrap_or_default()
    }

    fn shipping(&self, country: &str, goods: Money) -> i64 {
        let fits = |rate: &&ShippingRate| {
            rate.currency == goods.currency
                && (rate.countries.is_empty() || rate.countries.iter().any(|code| code == country))
        };
        let Some(rate) = self.shipping.iter().find(fits) else {
            return 0;
        };
        match rate.free_from_minor {
            Some(from) if goods.amount_minor >= from => 0,
            _ => rate.amount_minor,
        }
    }
}

/// Prices the lines of an order.
///
/// # Errors
/// If the products have different currencies, the discount code does not apply,
/// or the total does not fit in 64 bits.
pub fn price_order(
    lines: &[StockLine],
    products: &[ProductSnapshot],
    code: Option<&Code>,
    country: &str,
    rates: &dyn Rates,
) -> Result<Priced, Problem> {
    // Without products it does not matter: the first line is refused.
    let currency = products
        .first()
        .map_or(Currency::EUR, |product| product.price.currency);
    let mut priced = Vec::with_capacity(lines.len());
    let mut subtotal = Money::new(0, currency);
    for line in lines {
        let product = products.iter().find(|p| p.product_id == line.product_id);
        let product = product.ok_or_else(|| {
            Problem::new(
                &["input", "lines"],
                ProblemCode::ProductUnavailable,
                "a product was not reserved",
            )
        })?;
        if product.price.currency != currency {
            return Err(Problem::new(
                &["input", "lines"],
                ProblemCode::MixedCurrencies,
                "all products of an order must have the same currency",
            ));
        }
        let line_subtotal = product
            .price
            .checked_mul(line.quantity)
            .ok_or_else(total_too_large)?;
        subtotal = subtotal
            .checked_add(line_subtotal)
            .ok_or_else(total_too_large)?;
        priced.push(Line {
            product_id: product.product_id.clone(),
            sku: product.sku.clone(),
            name: product.name.clone(),
            unit_price: product.price,
            quantity: line.quantity,
            subtotal: line_subtotal,
            discount: 0,
            tax: 0,
        });
    }
    // On the subtotal, not on each line: it is rounded once.
    let discount = match code {
        Some(code) => discount_amount(code, subtotal)?,
        None => 0,
    };
    let weights: Vec<i64> = priced
        .iter()
        .map(|line| line.subtotal.amount_minor)
        .collect();
    let rate = rates.tax(country);
    let mut tax = 0_i64;
    for (line, share) in priced.iter_mut().zip(allocate(discount, &weights)) {
        line.discount = share;
        // The customer pays no tax on what the discount takes off.
        line.tax = apply_rate(line.subtotal.amount_minor - share, rate);
        tax = tax.checked_add(line.tax).ok_or_else(total_too_large)?;
    }
    let goods = subtotal.amount_minor - discount;
    // By the discounted value: free shipping depends on what the customer pays for the goods.
    let shipping = rates.shipping(country, Money::new(goods, currency));
    let shipping_tax = apply_rate(shipping, rate);
    let tax = tax.checked_add(shipping_tax).ok_or_else(total_too_large)?;
    let total = goods
        .checked_add(shipping)
        .and_then(|sum| sum.checked_add(tax))
        .ok_or_else(total_too_large)?;
    Ok(Priced {
        lines: priced,
        parts: Parts {
            subtotal: subtotal.amount_minor,
            discount,
            shipping,
            tax,
            shipping_tax,
        },
        total: Money::new(total, currency),
    })
}

fn total_too_large() -> Problem {
    Problem::new(
        &["input", "lines"],
        ProblemCode::Invalid,
        "the total is larger than the shop can charge",
    )
}

/// The discount that a code gives on a subtotal.
fn discount_amount(code: &Code, subtotal: Money) -> Result<i64, Problem> {
    let not_applicable = |message: String| {
        Problem::new(
            &["input", "discountCode"],
            ProblemCode::DiscountNotApplicable,
            message,
        )
    };
    if let Some(minimum) = code.minimum
        && (minimum.currency != subtotal.currency || subtotal.amount_minor < minimum.amount_minor)
    {
        return Err(not_applicable(format!(
            "requires an order of at least {minimum}"
        )));
    }
    match code.kind {
        DiscountKind::Percentage(rate) => Ok(apply_rate(subtotal.amount_minor, rate)),
        DiscountKind::Amount(amount) if amount.currency == subtotal.currency => {
            Ok(amount.amount_minor.min(subtotal.amount_minor))
        }
        DiscountKind::Amount(amount) => Err(not_applicable(format!(
            "is for orders in {}",
            amount.currency.code()
        ))),
    }
}

/// Applies a rate in hundredths of a percent, rounding half up.
fn apply_rate(amount: i64, rate: i64) -> i64 {
    let exact = i128::from(amount) * i128::from(rate);
    i64::try_from((exact + 5_000).div_euclid(10_000)).unwrap_or(i64::MAX)
}

/// Allocates an amount in proportion to weights; the shares add up to it.
fn allocate(amount: i64, weights: &[i64]) -> Vec<i64> {
    let all: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if all == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: &i64| i128::from(amount) * i128::from(*weight);
    let mut shares: Vec<i64> = weights
        .iter()
        .map(|weight| i64::try_from(exact(weight) / all).unwrap_or(i64::MAX))
        .collect();
    let left = amount - shares.iter().sum::<i64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&at| std::cmp::Reverse(exact(&weights[at]) % all));
    let left = usize::try_from(left).unwrap_or_default();
    for at in by_remainder.into_iter().take(left) {
        shares[at] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use stoa_schema::ProductId;

    use super::*;

    fn priced(prices: &[(i64, u32)], code: Option<Code>, rates: &dyn Rates) -> Priced {
        let products: Vec<_> = prices
            .iter()
            .map(|(price, _)| ProductSnapshot {
                product_id: ProductId::new(),
                sku: String::new(),
                name: String::new(),
                price: Money::new(*price, Currency::EUR),
            })
            .collect();
        let lines: Vec<_> = products
            .iter()
            .zip(prices)
            .map(|(product, (_, quantity))| StockLine {
                product_id: product.product_id.clone(),
                quantity: *quantity,
            })
            .collect();
        price_order(&lines, &products, code.as_ref(), "NL", rates).unwrap()
    }

    fn table() -> TableRates {
        TableRates::parse(
            r#"{ "tax": { "NL": 2100, "*": 0 }, "shipping": [
                { "countries": ["NL"], "currency": "EUR", "amountMinor": 495, "freeFromMinor": 5000 },
                { "currency": "EUR", "amountMinor": 1495 } ] }"#,
        )
        .unwrap()
    }

    #[test]
    fn a_total_is_the_sum_of_its_parts_to_the_cent() {
        for rate in [0, 1, 333, 5_000, 9_999, 10_000] {
            for prices in [
                &[(333, 1), (333, 1), (334, 1)][..],
                &[(1, 7), (999, 3)],
                &[(0, 1)],
            ] {
                let code = Code {
                    kind: DiscountKind::Percentage(rate),
                    minimum: None,
                };
                let Priced {
                    lines,
                    parts,
                    total,
                } = priced(prices, Some(code), &table());
                let sum: i64 = lines.iter().map(Line::total).sum();
                assert_eq!(
                    sum + parts.shipping + parts.shipping_tax,
                    total.amount_minor
                );
                let discounts: i64 = lines.iter().map(|line| line.discount).sum();
                assert_eq!(discounts, parts.discount);
                assert!(
                    lines
                        .iter()
                        .all(|line| line.discount <= line.subtotal.amount_minor)
                );
                assert_eq!(
                    parts.subtotal - parts.discount + parts.shipping + parts.tax,
                    total.amount_minor
                );
            }
        }
    }

    #[test]
    fn tax_shipping_and_codes_are_as_the_table_says() {
        // 2 × 10.00 less 10 %, 4.95 shipping, 21 % of each.
        let code = Code {
            kind: DiscountKind::Percentage(1_000),
            minimum: None,
        };
        let Priced { parts, total, .. } = priced(&[(1_000, 2)], Some(code), &table());
        assert_eq!((parts.discount, parts.shipping), (200, 495));
        assert_eq!((parts.tax, parts.shipping_tax), (378 + 104, 104));
        assert_eq!(total.amount_minor, 1_800 + 495 + 482);
        // Shipping is free from 50.00 on.
        assert_eq!(priced(&[(5_000, 1)], None, &table()).parts.shipping, 0);
        // The discount never exceeds the subtotal.
        let code = Code {
            kind: DiscountKind::Amount(Money::new(9_999, Currency::EUR)),
            minimum: None,
        };
        let all = priced(&[(1_000, 1)], Some(code), &TableRates::default());
        assert_eq!(all.total.amount_minor, 0);
        let rates = table();
        assert_eq!(rates.shipping("JP", Money::new(1, Currency::EUR)), 1_495);
        assert_eq!(rates.tax("JP"), 0);
        for bad in ["{", r#"{"tax":{"NL":-1}}"#, r#"{"taxes":{}}"#] {
            assert!(TableRates::parse(bad).is_err(), "{bad}");
        }
    }
}
