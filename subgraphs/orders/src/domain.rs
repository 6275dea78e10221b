//! Orders, and the moves between their states.

use serde::{Deserialize, Serialize};
use stoa_kit::clock::Micros;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::money::Currency;
use stoa_schema::peer::{ProductSnapshot, StockLine, StockProblem, StockProblemReason};
use stoa_schema::{Money, OrderId, ProductId, UserId};

/// The most lines that one order may have.
pub const MAX_LINES: usize = 50;
/// The most units of one product in one order.
pub const MAX_QUANTITY: u32 = 1_000;
pub const MAX_REASON: usize = 500;

#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub id: OrderId,
    pub number: String,
    pub customer_id: UserId,
    pub status: Status,
    pub total: Money,
    pub shipping_address: Address,
    /// How many changes of state there have been, placing included.
    pub version: u64,
    pub correlation_id: String,
    /// The trace of the request that placed it.
    pub traceparent: Option<String>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// What was bought, as it was then.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub unit_price: Money,
    pub quantity: u32,
    pub subtotal: Money,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub full_name: Option<String>,
    pub line1: String,
    pub line2: Option<String>,
    pub city: String,
    pub region: Option<String>,
    pub postal_code: String,
    pub country: String,
}

/// Who changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, async_graphql::Enum)]
#[graphql(name = "OrderActor")]
pub enum Actor {
    Customer,
    Admin,
    /// The shop itself: a payment was confirmed or declined.
    System,
}

impl Actor {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "CUSTOMER",
            Self::Admin => "ADMIN",
            Self::System => "SYSTEM",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Customer, Self::Admin, Self::System]
            .into_iter()
            .find(|actor| actor.as_str() == text)
    }
}

/// A change of an order's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub version: u64,
    pub status: Status,
    pub previous: Option<Status>,
    pub actor: Actor,
    pub reason: Option<String>,
    pub at: Micros,
}

/// The states to which an order may move.
pub fn next_statuses(status: Status) -> &'static [Status] {
    match status {
        Status::Pending => &[Status::Confirmed, Status::Cancelled],
        Status::Confirmed => &[Status::Shipped, Status::Cancelled, Status::Refunded],
        Status::Shipped => &[Status::Delivered, Status::Refunded],
        Status::Delivered => &[Status::Refunded],
        Status::Cancelled | Status::Refunded => &[],
    }
}

/// Moves an order; the caller stores both it and the change, or neither.
///
/// # Errors
/// A problem that names the legal moves, if this is not one of them.
pub fn transition(
    order: &mut Order,
    to: Status,
    actor: Actor,
    reason: Option<String>,
    now: Micros,
) -> Result<Change, Problem> {
    let allowed = next_statuses(order.status);
    if !allowed.contains(&to) {
        let names: Vec<_> = allowed.iter().map(|status| status.as_str()).collect();
        let possible = if names.is_empty() {
            "it cannot change any more".to_owned()
        } else {
            format!("it can become {}", names.join(" or "))
        };
        return Err(Problem::new(
            &["orderId"],
            ProblemCode::IllegalStatus,
            format!(
                "an order that is {} cannot become {}; {possible}",
                order.status.as_str(),
                to.as_str()
            ),
        ));
    }
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

/// What is wrong with a client's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where in the arguments.
    pub field: Vec<String>,
    pub code: ProblemCode,
    pub message: String,
}

/// Why an order was not placed or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, async_graphql::Enum, Serialize, Deserialize)]
#[graphql(name = "OrderErrorCode")]
pub enum ProblemCode {
    /// A value is missing, too long, out of range or malformed.
    Invalid,
    /// There is no such order.
    NotFound,
    /// An order needs at least one line.
    EmptyOrder,
    /// There is no such product, or it is not for sale.
    ProductUnavailable,
    /// There are fewer units than were asked for.
    InsufficientStock,
    /// One order holds one currency.
    MixedCurrencies,
    /// The shop does not take this method.
    UnknownPaymentMethod,
    /// The order's state does not allow it.
    IllegalStatus,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// A request with this key is still running.
    InProgress,
    /// The first attempt with this key was given up too long ago.
    AttemptExpired,
}

impl Problem {
    pub fn new(field: &[&str], code: ProblemCode, message: impl Into<String>) -> Self {
        Self {
            field: field.iter().map(|&part| part.to_owned()).collect(),
            code,
            message: message.into(),
        }
    }
}

/// An order as a client asks for it.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    pub lines: Vec<RequestLine>,
    pub shipping_address: Address,
    pub payment_method: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct RequestLine {
    pub product_id: String,
    pub quantity: i64,
}

impl Request {
    /// One stock line a product, in the order of the request.
    ///
    /// # Errors
    /// Everything that is wrong with the request.
    pub fn check(&self, methods: &[&str]) -> Result<Vec<StockLine>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut lines: Vec<StockLine> = Vec::new();
        if self.lines.is_empty() {
            problems.push(Problem::new(
                &["input", "lines"],
                ProblemCode::EmptyOrder,
                "an order needs at least one line",
            ));
        }
        if self.lines.len() > MAX_LINES {
            problems.push(Problem::new(
                &["input", "lines"],
                ProblemCode::Invalid,
                format!("an order has at most {MAX_LINES} lines"),
            ));
        }
        for (index, line) in self.lines.iter().take(MAX_LINES).enumerate() {
            match checked_line(index, line) {
                Ok(line) => merge_line(&mut lines, line, index, &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.shipping_address.problems());
        if !methods.contains(&self.payment_method.as_str()) {
            problems.push(Problem::new(
                &["input", "paymentMethod"],
                ProblemCode::UnknownPaymentMethod,
                format!("must be one of {}", methods.join(", ")),
            ));
        }
        if problems.is_empty() {
            Ok(lines)
        } else {
            Err(problems)
        }
    }

    /// What the products service refused, by the lines of this request.
    pub fn refused(&self, problems: &[StockProblem]) -> Vec<Problem> {
        problems
            .iter()
            .map(|problem| {
                let index = self
                    .lines
                    .iter()
                    .position(|line| {
                        line.product_id
                            .eq_ignore_ascii_case(problem.product_id.as_str())
                    })
                    .unwrap_or_default()
                    .to_string();
                let (field, code, message) = match problem.reason {
                    StockProblemReason::Unknown => (
                        "productId",
                        ProblemCode::ProductUnavailable,
                        "there is no such product on sale".to_owned(),
                    ),
                    StockProblemReason::Insufficient => (
                        "quantity",
                        ProblemCode::InsufficientStock,
                        format!("only {} left", problem.available),
                    ),
                };
                Problem::new(&["input", "lines", &index, field], code, message)
            })
            .collect()
    }
}

fn checked_line(index: usize, line: &RequestLine) -> Result<StockLine, Problem> {
    let index = index.to_string();
    let product_id = ProductId::parse(&line.product_id).ok_or_else(|| {
        Problem::new(
            &["input", "lines", &index, "productId"],
            ProblemCode::ProductUnavailable,
            "there is no such product on sale",
        )
    })?;
    let quantity = u32::try_from(line.quantity)
        .ok()
        .filter(|quantity| (1..=MAX_QUANTITY).contains(quantity))
        .ok_or_else(|| quantity_problem(&index))?;
    Ok(StockLine {
        product_id,
        quantity,
    })
}

fn merge_line(
    lines: &mut Vec<StockLine>,
    line: StockLine,
    index: usize,
    problems: &mut Vec<Problem>,
) {
    match lines
        .iter_mut()
        .find(|other| other.product_id == line.product_id)
    {
        Some(same) => {
            same.quantity += line.quantity;
            if same.quantity > MAX_QUANTITY {
                problems.push(quantity_problem(&index.to_string()));
            }
        }
        None => lines.push(line),
    }
}

fn quantity_problem(index: &str) -> Problem {
    Problem::new(
        &["input", "lines", index, "quantity"],
        ProblemCode::Invalid,
        format!("must be between 1 and {MAX_QUANTITY}, over all lines of one product"),
    )
}

impl Address {
    fn problems(&self) -> Vec<Problem> {
        let required = [
            ("line1", Some(&self.line1), 200),
            ("city", Some(&self.city), 100),
            ("postalCode", Some(&self.postal_code), 20),
        ];
        let optional = [
            ("fullName", self.full_name.as_ref(), 200),
            ("line2", self.line2.as_ref(), 200),
            ("region", self.region.as_ref(), 100),
        ];
        let bad = |text: &str| text.chars().any(char::is_control);
        let mut problems: Vec<_> = required
            .into_iter()
            .map(|(field, text, max)| (field, text, 1, max))
            .chain(
                optional
                    .into_iter()
                    .map(|(field, text, max)| (field, text, 0, max)),
            )
            .filter_map(|(field, text, min, max)| {
                let text = text?;
                let length = text.trim().chars().count();
                ((min..=max).contains(&length) && !bad(text))
                    .then_some(())
                    .is_none()
                    .then(|| {
                        Problem::new(
                            &["input", "shippingAddress", field],
                            ProblemCode::Invalid,
                            format!("must have between {min} and {max} characters"),
                        )
                    })
            })
            .collect();
        let country = self.country.as_bytes();
        if country.len() != 2 || !country.iter().all(u8::is_ascii_uppercase) {
            problems.push(Problem::new(
                &["input", "shippingAddress", "country"],
                ProblemCode::Invalid,
                "must be an ISO 3166-1 code of two capital letters, such as DE",
            ));
        }
        problems
    }
}

/// Prices the lines of an order; the total is the sum of the subtotals.
///
/// # Errors
/// If the products are priced in several currencies, or the total does not
/// fit 64 bits.
pub fn price(
    lines: &[StockLine],
    products: &[ProductSnapshot],
) -> Result<(Vec<Line>, Money), Problem> {
    let currency = products
        .first()
        .map_or(Currency::EUR, |product| product.price.currency);
    let too_much = || {
        Problem::new(
            &["input", "lines"],
            ProblemCode::Invalid,
            "the total is larger than the shop can charge",
        )
    };
    let mut total = Money::new(0, currency);
    let mut priced = Vec::with_capacity(lines.len());
    for line in lines {
        let Some(product) = products.iter().find(|p| p.product_id == line.product_id) else {
            continue;
        };
        if product.price.currency != currency {
            return Err(Problem::new(
                &["input", "lines"],
                ProblemCode::MixedCurrencies,
                "one order holds products of one currency",
            ));
        }
        let subtotal = product
            .price
            .checked_mul(line.quantity)
            .ok_or_else(too_much)?;
        total = total.checked_add(subtotal).ok_or_else(too_much)?;
        priced.push(Line {
            product_id: product.product_id.clone(),
            sku: product.sku.clone(),
            name: product.name.clone(),
            unit_price: product.price,
            quantity: line.quantity,
            subtotal,
        });
    }
    Ok((priced, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(status: Status) -> Order {
        Order {
            id: OrderId::new(),
            number: "S-1".into(),
            customer_id: UserId::new(),
            status,
            total: Money::new(100, Currency::EUR),
            shipping_address: address(),
            version: 3,
            correlation_id: String::new(),
            traceparent: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    fn address() -> Address {
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

    #[test]
    fn the_same_product_on_two_lines_is_one() {
        let id = ProductId::new();
        let line = |quantity| RequestLine {
            product_id: id.to_string(),
            quantity,
        };
        let request = |lines| Request {
            lines,
            shipping_address: address(),
            payment_method: "sandbox_approve".into(),
        };
        let lines = request(vec![line(2), line(3)])
            .check(&["sandbox_approve"])
            .unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].quantity, 5);
        assert!(
            request(vec![line(600), line(600)])
                .check(&["sandbox_approve"])
                .is_err()
        );
    }
}
