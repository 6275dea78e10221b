//! Demo orders: several weeks of orders in every state, created by the same use
//! cases as real ones.

use std::time::Duration;

use stoa_runtime::clock::{Clock, micros};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::{ProductId, UserId};
use stoa_service::context::CallContext;

use crate::app::App;
use crate::app::fulfilment::OrderAction;
use crate::domain::{Address, Request, RequestLine};
use crate::error::Error;
use crate::payment::sandbox::{APPROVE, DECLINE};
use crate::tasks::work_once;

const DAY: Duration = Duration::from_secs(86_400);

/// The users of the demo orders.
pub struct People {
    pub admin: UserId,
    pub customers: Vec<UserId>,
}

/// One past order: its age in days, the customer's index, the payment method, and
/// the changes made afterwards, one a day.
type PastOrder = (u32, usize, &'static str, &'static [OrderAction]);

const PAST_ORDERS: &[PastOrder] = &[
    (40, 0, APPROVE, &[OrderAction::SHIP, OrderAction::Deliver]),
    (
        33,
        1,
        APPROVE,
        &[OrderAction::SHIP, OrderAction::Deliver, OrderAction::REFUND],
    ),
    (21, 0, DECLINE, &[]),
    (14, 1, APPROVE, &[OrderAction::Cancel]),
    (9, 0, APPROVE, &[OrderAction::SHIP, OrderAction::Deliver]),
    (5, 1, APPROVE, &[OrderAction::SHIP]),
    (3, 0, APPROVE, &[OrderAction::SHIP]),
    (1, 0, APPROVE, &[]),
];

/// Creates demo orders if there are no orders yet; returns how many.
///
/// # Errors
/// If a step fails; orders created before that stay.
pub async fn seed(app: &App, people: &People, products: &[ProductId]) -> Result<usize, Error> {
    if !app.orders.is_empty().await?
        // Demo orders need the sandbox: a real provider must not be charged for them.
        || !app.orders.accepts_method(APPROVE)
        || products.is_empty()
        || people.customers.is_empty()
    {
        return Ok(0);
    }
    let admin = Caller::User {
        id: people.admin.clone().into(),
        role: Role::Admin,
    };
    let now = app.saga.clock().now();
    for (index, (days, customer, method, verbs)) in PAST_ORDERS.iter().enumerate() {
        let clock = Clock::manual(now - micros(DAY * *days));
        let past = app.with_clock(clock.clone());
        let context = CallContext {
            caller: Caller::User {
                id: people.customers[customer % people.customers.len()]
                    .clone()
                    .into(),
                role: Role::Customer,
            },
            correlation_id: format!("demo-order-{index}").into(),
            ..CallContext::default()
        };
        let lines = (0..=index % 3)
            .map(|line| RequestLine {
                product_id: products[(index * 17 + line * 29) % products.len()].to_string(),
                quantity: 1 + (line as i64),
            })
            .collect();
        let request = Request {
            lines,
            shipping_address: address(*customer),
            payment_method: (*method).to_owned(),
            discount_code: None,
        };
        let order = past
            .orders
            .order_place(&context, &request, &format!("demo-order-{index}"))
            .await?;
        clock.advance(Duration::from_secs(1));
        work_once(&past.saga).await?;
        for (step, verb) in verbs.iter().enumerate() {
            clock.advance(DAY);
            let key = format!("demo-order-{index}-{step}");
            past.orders
                .order_change(&admin, verb, order.id.as_str(), None, &key)
                .await?;
            work_once(&past.saga).await?;
        }
    }
    Ok(PAST_ORDERS.len())
}

fn address(customer: usize) -> Address {
    let (name, line1, city, postal_code, country) = if customer == 0 {
        (
            "Ada Marlow",
            "12 Canal Street",
            "Amsterdam",
            "1015 DZ",
            "NL",
        )
    } else {
        ("Lin Okafor", "3 Rua das Flores", "Porto", "4050-262", "PT")
    };
    Address {
        full_name: Some(name.to_owned()),
        line1: line1.to_owned(),
        line2: None,
        city: city.to_owned(),
        region: None,
        postal_code: postal_code.to_owned(),
        country: country.to_owned(),
    }
}
