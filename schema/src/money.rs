//! Amounts of money: integers in the currency's minor unit, never floats.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The supported currencies, with their ISO 4217 exponents and symbols.
const CURRENCIES: &[(&str, u8, &str)] = &[
    ("USD", 2, "$"),
    ("EUR", 2, "€"),
    ("GBP", 2, "£"),
    ("JPY", 0, "¥"),
    ("CHF", 2, "CHF "),
    ("KWD", 3, "KWD "),
];

/// A currency: a position in the table above, written as its ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(usize);

impl Currency {
    pub const EUR: Self = Self(1);

    /// `None` for a code that is not supported.
    pub fn parse(code: &str) -> Option<Self> {
        CURRENCIES
            .iter()
            .position(|(known, ..)| *known == code)
            .map(Self)
    }

    pub fn code(self) -> &'static str {
        self.entry().0
    }

    /// The number of digits after the decimal point.
    pub fn exponent(self) -> u8 {
        self.entry().1
    }

    fn entry(self) -> (&'static str, u8, &'static str) {
        CURRENCIES[self.0]
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        Self::parse(&code).ok_or_else(|| format!("unknown currency {code}"))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

/// An amount in minor units of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Money {
    pub amount_minor: i64,
    pub currency: Currency,
}

impl Money {
    pub fn new(amount_minor: i64, currency: Currency) -> Self {
        Self {
            amount_minor,
            currency,
        }
    }

    /// The amount times a count; `None` if it overflows.
    pub fn checked_mul(self, count: u32) -> Option<Self> {
        Some(Self::new(
            self.amount_minor.checked_mul(i64::from(count))?,
            self.currency,
        ))
    }

    /// The sum; `None` if it overflows or the currencies differ.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self::new(
            self.amount_minor.checked_add(other.amount_minor)?,
            self.currency,
        ))
    }
}

impl fmt::Display for Money {
    /// Formatted for display: `€1,234.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, exponent, symbol) = self.currency.entry();
        let scale = 10_u64.pow(u32::from(exponent));
        let amount = self.amount_minor.unsigned_abs();
        let whole = (amount / scale).to_string();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        write!(f, "{sign}{symbol}")?;
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        if exponent > 0 {
            write!(
                f,
                ".{:0width$}",
                amount % scale,
                width = usize::from(exponent)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_currency() {
        let show = |amount, code| Money::new(amount, Currency::parse(code).unwrap()).to_string();
        assert_eq!(show(123_450, "EUR"), "€1,234.50");
        assert_eq!(show(5, "USD"), "$0.05");
        assert_eq!(show(-1_000_000, "GBP"), "-£10,000.00");
        assert_eq!(show(1500, "JPY"), "¥1,500");
        assert_eq!(show(1, "KWD"), "KWD 0.001");
        assert_eq!(show(i64::MIN, "JPY"), "-¥9,223,372,036,854,775,808");
    }

    #[test]
    fn arithmetic_never_wraps() {
        let most = Money::new(i64::MAX, Currency::EUR);
        assert_eq!(most.checked_mul(2), None);
        assert_eq!(most.checked_add(Money::new(1, Currency::EUR)), None);
        let dollars = Money::new(1, Currency::parse("USD").unwrap());
        assert_eq!(dollars.checked_add(Money::new(1, Currency::EUR)), None);
    }
}
