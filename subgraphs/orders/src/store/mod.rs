//! Rows and queries of orders. Functions named `_in_txn` must be called within a
//! transaction; no row leaves this module.

pub mod cart;
pub mod discount;
mod entity;
pub mod fulfilment;
pub mod order;
pub mod payment;

use stoa_schema::money::Currency;

use crate::domain::Actor;
use crate::error::Error;

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_currency(code: &str) -> Result<Currency, Error> {
    Currency::parse(code).ok_or_else(|| Error::corrupt(format!("currency {code}")))
}

fn to_actor(text: &str) -> Result<Actor, Error> {
    text.parse()
        .map_err(|_| Error::corrupt(format!("actor {text}")))
}

fn to_units(quantity: i64) -> u32 {
    u32::try_from(quantity).unwrap_or(u32::MAX)
}
