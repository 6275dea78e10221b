//! The request to place an order, and its validation.

use serde::Serialize;
use stoa_schema::ProductId;
use stoa_schema::peer::{StockLine, StockProblem, StockProblemReason};

use super::{Address, MAX_LINES, MAX_QUANTITY, Problem, ProblemCode};

/// An order as requested by a client, not validated yet.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    pub lines: Vec<RequestLine>,
    pub shipping_address: Address,
    pub payment_method: String,
    /// Not serialized if there is none: idempotency keys from before discount
    /// codes existed must still match their requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discount_code: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RequestLine {
    pub product_id: String,
    pub quantity: i64,
}

impl Request {
    /// Validates the request; returns one stock line per product, in request order.
    ///
    /// # Errors
    /// Every problem with the request.
    pub fn check(
        &self,
        check_method: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Vec<StockLine>, Vec<Problem>> {
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
        let address = self.shipping_address.problems().into_iter();
        problems.extend(address.map(|(field, message)| {
            let path = ["input", "shippingAddress", field];
            Problem::new(&path, ProblemCode::Invalid, message)
        }));
        if let Err(message) = check_method(&self.payment_method) {
            problems.push(Problem::new(
                &["input", "paymentMethod"],
                ProblemCode::UnknownPaymentMethod,
                message,
            ));
        }
        if problems.is_empty() {
            Ok(lines)
        } else {
            Err(problems)
        }
    }

    /// Maps what the products service refused to problems with the lines of this request.
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
                        "this product does not exist or is not for sale".to_owned(),
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
            "this product does not exist or is not for sale",
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

#[cfg(test)]
mod tests {
    use super::super::tests::address;
    use super::*;

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
            discount_code: None,
        };
        let lines = request(vec![line(2), line(3)]).check(|_| Ok(())).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].quantity, 5);
        assert!(
            request(vec![line(600), line(600)])
                .check(|_| Ok(()))
                .is_err()
        );
    }
}
