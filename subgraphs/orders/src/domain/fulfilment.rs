//! Plans shipments and refunds: what is still to be shipped, and what can be
//! refunded, line by line. An order has one line per product.

use serde::{Deserialize, Serialize};
use stoa_runtime::clock::Micros;
use stoa_schema::ProductId;

use super::{Actor, Line, Order, Problem, ProblemCode};

/// The most shipments of an order, and the most refunds.
const MAX_PER_ORDER: usize = 100;

/// A line, and how many of its units are shipped, refunded and cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct LineState {
    pub line: Line,
    pub shipped: u32,
    pub refunded: u32,
    /// Of the refunded units, those that were cancelled before they were shipped.
    pub called_off: u32,
}

impl LineState {
    pub fn new(line: Line) -> Self {
        Self {
            line,
            shipped: 0,
            refunded: 0,
            called_off: 0,
        }
    }

    /// Units that are still to be shipped.
    pub fn left_to_ship(&self) -> u32 {
        (self.line.quantity)
            .saturating_sub(self.shipped)
            .saturating_sub(self.called_off)
    }

    /// Units that are not refunded yet.
    pub fn refundable(&self) -> u32 {
        self.line.quantity.saturating_sub(self.refunded)
    }

    /// Units that were shipped and not refunded.
    fn shipped_not_refunded(&self) -> u32 {
        let refunded = self.refunded.saturating_sub(self.called_off);
        self.shipped.saturating_sub(refunded)
    }

    /// The refund amount for the next units. However the units are split over
    /// refunds, the amounts add up to exactly the line's total.
    fn refund_amount(&self, units: u32) -> i64 {
        let total = i128::from(self.line.total());
        let of_all = i128::from(self.line.quantity.max(1));
        let up_to = |units: u32| total * i128::from(units) / of_all;
        let worth = up_to(self.refunded + units) - up_to(self.refunded);
        i64::try_from(worth).unwrap_or(i64::MAX)
    }
}

/// A shipment of some or all units of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Shipment {
    pub id: String,
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
    pub actor: Actor,
    pub reason: Option<String>,
    pub at: Micros,
    /// Units by product.
    pub lines: Vec<(ProductId, u32)>,
}

/// A refund: the amount, and the lines it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Refund {
    /// Also the idempotency key for the payment provider.
    pub id: String,
    pub amount: i64,
    /// The part of the amount that is for shipping and its tax.
    pub shipping: i64,
    /// Whether the payment provider has returned the money.
    pub done: bool,
    pub actor: Actor,
    pub reason: Option<String>,
    pub at: Micros,
    pub lines: Vec<RefundLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundLine {
    pub product_id: ProductId,
    pub quantity: u32,
    /// Of these, cancelled units, which had not been shipped: they go back to stock.
    pub called_off: u32,
    /// Of these, units that were shipped and have been returned.
    pub restocked: u32,
    pub amount: i64,
}

/// A number of units of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineQuantity {
    pub product_id: String,
    pub quantity: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefundLineRequest {
    pub units: LineQuantity,
    /// Whether shipped units have been returned and can be sold again.
    pub restock: bool,
}

/// What to refund.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RefundRequest {
    /// `None` for everything that is left, including shipping.
    pub lines: Option<Vec<RefundLineRequest>>,
    pub shipping: bool,
}

/// The amounts and lines of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundPlan {
    pub amount: i64,
    pub shipping: i64,
    pub lines: Vec<RefundLine>,
}

/// The units of a shipment: those requested, or everything that is left.
///
/// # Errors
/// If more than what is left is requested, or nothing.
pub fn plan_shipment(
    lines: &[LineState],
    wanted: Option<&[LineQuantity]>,
) -> Result<Vec<(ProductId, u32)>, Problem> {
    const FIELD: [&str; 2] = ["shipment", "lines"];
    let Some(wanted) = wanted else {
        let left = lines.iter().filter(|line| line.left_to_ship() > 0);
        return Ok(left
            .map(|line| (line.line.product_id.clone(), line.left_to_ship()))
            .collect());
    };
    let mut units: Vec<(ProductId, u32)> = Vec::new();
    for (index, line_request) in wanted.iter().enumerate() {
        let (state, quantity) = find_line(lines, line_request, &FIELD, index)?;
        let id = &state.line.product_id;
        let before = units.iter().filter(|(known, _)| known == id);
        let before: u32 = before.map(|(_, units)| units).sum();
        if before + quantity > state.left_to_ship() {
            let left = state.left_to_ship();
            return Err(too_many_units(&FIELD, index, left, "to be shipped"));
        }
        match units.iter_mut().find(|(known, _)| known == id) {
            Some((_, same)) => *same += quantity,
            None => units.push((id.clone(), quantity)),
        }
    }
    if units.is_empty() {
        return Err(invalid_field(&FIELD, "a shipment needs at least one unit"));
    }
    Ok(units)
}

/// Computes a refund of the requested units, given the earlier refunds.
///
/// # Errors
/// If more than what is left is requested, or nothing.
pub fn plan_refund(
    order: &Order,
    lines: &[LineState],
    before: &[Refund],
    request: &RefundRequest,
) -> Result<RefundPlan, Problem> {
    const FIELD: [&str; 2] = ["refund", "lines"];
    let refunded: i64 = before.iter().map(|refund| refund.amount).sum();
    let left = order.total.amount_minor - refunded;
    let shipping_paid = order.parts.shipping + order.parts.shipping_tax;
    let shipping_left = shipping_paid - before.iter().map(|refund| refund.shipping).sum::<i64>();
    let everything: Vec<RefundLineRequest>;
    let line_requests = match &request.lines {
        Some(line_requests) => line_requests,
        None => {
            everything = lines
                .iter()
                .filter(|line| line.refundable() > 0)
                .map(|line| RefundLineRequest {
                    units: LineQuantity {
                        product_id: line.line.product_id.to_string(),
                        quantity: i64::from(line.refundable()),
                    },
                    restock: false,
                })
                .collect();
            &everything
        }
    };
    // Updated line by line, so that the checks below see the order after this refund.
    let mut states = lines.to_vec();
    let mut planned: Vec<RefundLine> = Vec::new();
    for (index, line_request) in line_requests.iter().enumerate() {
        let (state, quantity) = find_line(&states, &line_request.units, &FIELD, index)?;
        if quantity > state.refundable() {
            let left = state.refundable();
            return Err(too_many_units(&FIELD, index, left, "to be refunded"));
        }
        if planned
            .iter()
            .any(|line| line.product_id == state.line.product_id)
        {
            return Err(invalid_field(&FIELD, "has the same product twice"));
        }
        // Only shipped units can be restocked; the others are cancelled units as far as possible.
        let restocked = match line_request.restock {
            true => quantity.min(state.shipped_not_refunded()),
            false => 0,
        };
        let called_off = (quantity - restocked).min(state.left_to_ship());
        let line = RefundLine {
            product_id: state.line.product_id.clone(),
            quantity,
            called_off,
            restocked,
            amount: state.refund_amount(quantity),
        };
        for state in &mut states {
            if state.line.product_id == line.product_id {
                state.refunded += quantity;
                state.called_off += called_off;
            }
        }
        planned.push(line);
    }
    // The customer pays no shipping for an order of which nothing is ever sent.
    let nothing_delivered = states
        .iter()
        .all(|state| state.refundable() == 0 && state.shipped == 0);
    let with_shipping = request.lines.is_none() || request.shipping || nothing_delivered;
    let shipping = if with_shipping { shipping_left } else { 0 };
    let amount = planned.iter().map(|line| line.amount).sum::<i64>() + shipping;
    if amount == left && left > 0 {
        // The refund that returns the last of the money also includes the lines that
        // cost nothing: they could not be shipped or cancelled afterwards.
        for state in states.iter().filter(|state| state.refundable() > 0) {
            planned.push(RefundLine {
                product_id: state.line.product_id.clone(),
                quantity: state.refundable(),
                called_off: state.refundable().min(state.left_to_ship()),
                restocked: 0,
                amount: 0,
            });
        }
        merge(&mut planned);
    }
    if planned.is_empty() && amount == 0 {
        return Err(invalid_field(&FIELD, "there is nothing to refund"));
    }
    Ok(RefundPlan {
        // Never more than is left of the payment.
        amount: amount.min(left),
        shipping,
        lines: planned,
    })
}

/// Merges the lines of the same product.
fn merge(planned: &mut Vec<RefundLine>) {
    let mut merged: Vec<RefundLine> = Vec::with_capacity(planned.len());
    for line in planned.drain(..) {
        match merged
            .iter_mut()
            .find(|same| same.product_id == line.product_id)
        {
            Some(same) => {
                same.quantity += line.quantity;
                same.called_off += line.called_off;
                same.restocked += line.restocked;
                same.amount += line.amount;
            }
            None => merged.push(line),
        }
    }
    *planned = merged;
}

/// Finds the line that a request names, and checks its quantity.
fn find_line<'l>(
    lines: &'l [LineState],
    line_request: &LineQuantity,
    field: &[&str],
    index: usize,
) -> Result<(&'l LineState, u32), Problem> {
    let at = |name: &str| {
        let index = index.to_string();
        let mut path = field.to_vec();
        path.extend([index.as_str(), name]);
        path.iter().map(|&part| part.to_owned()).collect::<Vec<_>>()
    };
    let same = |state: &&LineState| {
        let known = state.line.product_id.as_str();
        known.eq_ignore_ascii_case(&line_request.product_id)
    };
    let state = lines.iter().find(same).ok_or_else(|| Problem {
        field: at("productId"),
        code: ProblemCode::NotFound,
        message: "the order has no line of this product".to_owned(),
    })?;
    let quantity = u32::try_from(line_request.quantity).ok();
    let quantity = quantity.filter(|quantity| *quantity > 0);
    let quantity = quantity.ok_or_else(|| Problem {
        field: at("quantity"),
        code: ProblemCode::Invalid,
        message: "must be at least 1".to_owned(),
    })?;
    Ok((state, quantity))
}

fn too_many_units(field: &[&str], index: usize, left: u32, what: &str) -> Problem {
    let index = index.to_string();
    let mut path = field.to_vec();
    path.extend([index.as_str(), "quantity"]);
    Problem::new(
        &path,
        ProblemCode::TooManyUnits,
        format!("only {left} units are left {what}"),
    )
}

fn invalid_field(field: &[&str], message: &str) -> Problem {
    Problem::new(field, ProblemCode::Invalid, message)
}

/// Checks that an order with so many shipments and refunds may have another one.
///
/// # Errors
/// If it has reached the limit of either.
pub fn check_fulfilment_limits(shipments: usize, refunds: usize) -> Result<(), Problem> {
    if shipments < MAX_PER_ORDER && refunds < MAX_PER_ORDER {
        return Ok(());
    }
    let message = format!("an order has at most {MAX_PER_ORDER} shipments and as many refunds");
    Err(Problem::new(&["orderId"], ProblemCode::Invalid, message))
}

/// A refund of all the money that is left of a cancelled order. It has no lines:
/// the units go back when the whole order is released.
pub fn refund_rest(
    order: &Order,
    captured: i64,
    before: &[Refund],
    actor: Actor,
    now: Micros,
) -> Refund {
    let shipping = order.parts.shipping + order.parts.shipping_tax;
    Refund {
        id: stoa_schema::ids::new_id(),
        amount: captured - before.iter().map(|refund| refund.amount).sum::<i64>(),
        shipping: shipping - before.iter().map(|refund| refund.shipping).sum::<i64>(),
        done: false,
        actor,
        reason: None,
        at: now,
        lines: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use stoa_schema::Money;
    use stoa_schema::events::OrderStatus as Status;
    use stoa_schema::money::Currency;

    use super::super::Parts;
    use super::super::tests::order;
    use super::*;

    fn line(quantity: u32, total: i64) -> LineState {
        let money = |amount| Money::new(amount, Currency::EUR);
        LineState::new(Line {
            product_id: ProductId::new(),
            sku: String::new(),
            name: String::new(),
            unit_price: money(total / i64::from(quantity)),
            quantity,
            subtotal: money(total),
            discount: 0,
            tax: 0,
        })
    }

    fn line_request(state: &LineState, quantity: i64) -> RefundLineRequest {
        RefundLineRequest {
            units: LineQuantity {
                product_id: state.line.product_id.to_string(),
                quantity,
            },
            restock: true,
        }
    }

    #[test]
    fn refunds_in_steps_come_to_the_total() {
        let mut order = order(Status::Confirmed);
        order.total = Money::new(1_000 + 350, Currency::EUR);
        order.parts = Parts {
            shipping: 300,
            shipping_tax: 50,
            ..Parts::default()
        };
        let mut state = line(3, 1_000);
        state.shipped = 1;
        let mut before: Vec<Refund> = Vec::new();
        let mut called_off = 0;
        for step in 0..3 {
            let request = RefundRequest {
                lines: Some(vec![line_request(&state, 1)]),
                shipping: step == 1,
            };
            let lines = std::slice::from_ref(&state);
            let plan = plan_refund(&order, lines, &before, &request).unwrap();
            let of_line = &plan.lines[0];
            assert_eq!(of_line.called_off + of_line.restocked, 1);
            state.refunded += 1;
            state.called_off += of_line.called_off;
            called_off += of_line.called_off;
            before.push(Refund {
                id: step.to_string(),
                amount: plan.amount,
                shipping: plan.shipping,
                done: false,
                actor: Actor::Admin,
                reason: None,
                at: 0,
                lines: plan.lines,
            });
        }
        assert_eq!(called_off, 2, "one was shipped");
        let sum: i64 = before.iter().map(|refund| refund.amount).sum();
        assert_eq!(sum, order.total.amount_minor);
        let lines = std::slice::from_ref(&state);
        let more = RefundRequest {
            lines: Some(vec![line_request(&state, 1)]),
            shipping: true,
        };
        let problem = plan_refund(&order, lines, &before, &more).unwrap_err();
        assert_eq!(problem.code, ProblemCode::TooManyUnits);
        let rest = plan_refund(&order, lines, &before, &RefundRequest::default());
        assert!(rest.is_err(), "nothing is left");
    }

    #[test]
    fn a_shipment_holds_what_is_left_at_most() {
        let mut state = line(3, 300);
        state.called_off = 1;
        let of = |quantity| LineQuantity {
            product_id: state.line.product_id.to_string(),
            quantity,
        };
        let lines = std::slice::from_ref(&state);
        assert_eq!(plan_shipment(lines, None).unwrap()[0].1, 2);
        assert_eq!(plan_shipment(lines, Some(&[of(1), of(1)])).unwrap()[0].1, 2);
        for (bad, code) in [
            (vec![of(2), of(1)], ProblemCode::TooManyUnits),
            (vec![of(0)], ProblemCode::Invalid),
            (vec![], ProblemCode::Invalid),
            (
                vec![LineQuantity {
                    product_id: "none".to_owned(),
                    quantity: 1,
                }],
                ProblemCode::NotFound,
            ),
        ] {
            assert_eq!(plan_shipment(lines, Some(&bad)).unwrap_err().code, code);
        }
    }

    #[test]
    fn what_costs_nothing_goes_with_the_last_of_the_money() {
        let mut order = order(Status::Confirmed);
        order.total = Money::new(500, Currency::EUR);
        let (paid, gift) = (line(1, 500), line(2, 0));
        let request = RefundRequest {
            lines: Some(vec![line_request(&paid, 1)]),
            shipping: false,
        };
        let lines = [paid, gift];
        let plan = plan_refund(&order, &lines, &[], &request).unwrap();
        assert_eq!((plan.amount, plan.lines.len()), (500, 2));
        assert_eq!(plan.lines[1].called_off, 2);
    }
}
