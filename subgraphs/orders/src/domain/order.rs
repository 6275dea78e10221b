//! Orders, and the transitions between their states.

use stoa_runtime::clock::Micros;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::{Money, OrderId, ProductId, UserId};
use strum::{EnumString, IntoStaticStr};

use super::{Address, Problem, ProblemCode};

#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub id: OrderId,
    pub number: String,
    pub customer_id: UserId,
    pub status: Status,
    /// What the total is made of.
    pub parts: Parts,
    pub total: Money,
    pub discount_code: Option<String>,
    pub shipping_address: Address,
    /// The number of state changes so far, including placing.
    pub version: u64,
    pub correlation_id: String,
    /// The trace of the request that placed it.
    pub traceparent: Option<String>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// The components of a total, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    pub subtotal: i64,
    pub discount: i64,
    pub shipping: i64,
    /// Tax on the lines and on the shipping.
    pub tax: i64,
    /// Tax on the shipping alone.
    pub shipping_tax: i64,
}

/// A product of an order, as it was when the order was placed.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub unit_price: Money,
    pub quantity: u32,
    /// Unit price times quantity.
    pub subtotal: Money,
    /// The line's share of the order's discount, in minor units.
    pub discount: i64,
    /// Tax on the subtotal less the discount, in minor units.
    pub tax: i64,
}

impl Line {
    /// What the customer pays for it, in minor units.
    pub fn total(&self) -> i64 {
        self.subtotal.amount_minor - self.discount + self.tax
    }
}

/// A filter for orders: all given conditions must match.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    pub customer: Option<UserId>,
    pub status: Option<Status>,
    /// Placed at this time or later, and before `placed_before`.
    pub placed_from: Option<Micros>,
    pub placed_before: Option<Micros>,
    /// The beginning of an order number, a complete tracking number or SKU, or a
    /// part of a line's name.
    pub search: Option<String>,
    /// Only orders with an unfinished step that began before this time.
    pub stuck_since: Option<Micros>,
}

/// Who changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum Actor {
    Customer,
    Admin,
    /// The shop itself: a payment was confirmed or declined.
    System,
}

/// A state change of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub version: u64,
    pub status: Status,
    pub previous: Option<Status>,
    pub actor: Actor,
    pub reason: Option<String>,
    pub at: Micros,
}

/// The states that an order can move to from this one.
pub fn next_statuses(status: Status) -> &'static [Status] {
    match status {
        Status::Pending => &[Status::Confirmed, Status::Cancelled],
        Status::Confirmed => &[Status::Shipped, Status::Cancelled, Status::Refunded],
        Status::Shipped => &[Status::Delivered, Status::Refunded],
        Status::Delivered => &[Status::Refunded],
        Status::Cancelled | Status::Refunded => &[],
    }
}

/// Checks that an order may move from its current state to another.
///
/// # Errors
/// A problem that lists the allowed states, if it may not.
pub fn check_move(order: &Order, to: Status) -> Result<(), Problem> {
    let allowed = next_statuses(order.status);
    if allowed.contains(&to) {
        return Ok(());
    }
    let names: Vec<_> = allowed.iter().map(|status| status.into_str()).collect();
    let possible = if names.is_empty() {
        "it is in a final state".to_owned()
    } else {
        format!("it can become {}", names.join(" or "))
    };
    Err(Problem::new(
        &["orderId"],
        ProblemCode::IllegalStatus,
        format!(
            "an order that is {} cannot become {}; {possible}",
            order.status.into_str(),
            to.into_str()
        ),
    ))
}

/// Moves an order to another state; the caller must store the order and the change
/// together.
///
/// # Errors
/// A problem that lists the allowed states, if this is not one of them.
pub fn transition(
    order: &mut Order,
    to: Status,
    actor: Actor,
    reason: Option<String>,
    now: Micros,
) -> Result<Change, Problem> {
    check_move(order, to)?;
    let change = Change {
        version: order.version + 1,
        status: to,
        previous: Some(order.status),
        actor,
        reason,
        at: now,
    };
    order.status = to;
    order.version = change.version;
    order.updated_at = now;
    Ok(change)
}

#[cfg(test)]
pub(crate) mod tests {
    use stoa_schema::money::Currency;

    use super::*;

    pub fn order(status: Status) -> Order {
        Order {
            id: OrderId::new(),
            number: "S-1".into(),
            customer_id: UserId::new(),
            status,
            parts: Parts::default(),
            total: Money::new(100, Currency::EUR),
            discount_code: None,
            shipping_address: address(),
            version: 3,
            correlation_id: String::new(),
            traceparent: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    pub fn address() -> Address {
        Address {
            full_name: None,
            line1: "1 Stoa".into(),
            line2: None,
            city: "Athens".into(),
            region: None,
            postal_code: "10551".into(),
            country: "GR".into(),
        }
    }

    #[test]
    fn every_pair_of_states_is_allowed_or_refused_by_the_table() {
        for from in Status::ALL {
            for to in Status::ALL {
                let mut order = order(from);
                let moved = transition(&mut order, to, Actor::Admin, None, 5);
                if next_statuses(from).contains(&to) {
                    let change = moved.unwrap();
                    assert_eq!((change.version, change.previous), (4, Some(from)));
                    assert_eq!((order.status, order.version, order.updated_at), (to, 4, 5));
                } else {
                    let problem = moved.unwrap_err();
                    assert_eq!(problem.code, ProblemCode::IllegalStatus);
                    assert_eq!((order.status, order.version), (from, 3));
                }
            }
        }
    }
}
