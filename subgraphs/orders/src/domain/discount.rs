//! Discount codes: their amounts, validity and usage limits.

use stoa_runtime::clock::Micros;
use stoa_schema::Money;

use super::{Code, DiscountKind, Problem, ProblemCode};

const MAX_CODE: usize = 64;
const MAX_LIMIT: i64 = 1_000_000_000;
const ALL: i64 = 10_000;

/// A discount code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discount {
    /// In upper case.
    pub code: String,
    pub kind: DiscountKind,
    pub minimum: Option<Money>,
    pub starts_at: Option<Micros>,
    pub ends_at: Option<Micros>,
    /// How many times it may be used in total.
    pub total_limit: Option<i64>,
    /// How many times one customer may use it.
    pub customer_limit: Option<i64>,
    pub is_active: bool,
    /// The number of orders that use it, not counting cancelled ones.
    pub used: i64,
}

/// A discount code as entered by an administrator, not validated yet.
#[derive(Debug, Clone, Default)]
pub struct NewDiscount {
    pub code: String,
    /// In hundredths of a percent.
    pub percentage: Option<i64>,
    pub amount: Option<Money>,
    pub minimum: Option<Money>,
    pub starts_at: Option<Micros>,
    pub ends_at: Option<Micros>,
    pub total_limit: Option<i64>,
    pub customer_limit: Option<i64>,
}

/// Normalizes a code to its stored form: trimmed, in upper case.
pub fn normalize_code(code: &str) -> String {
    code.trim().to_ascii_uppercase()
}

impl NewDiscount {
    /// Validates the input.
    ///
    /// # Errors
    /// Every problem with it.
    pub fn check(self) -> Result<Discount, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut bad = |field: &str, message: String| {
            problems.push(Problem::new(
                &["input", field],
                ProblemCode::Invalid,
                message,
            ));
        };
        let code = normalize_code(&self.code);
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if !(1..=MAX_CODE).contains(&code.len()) || !code.bytes().all(plain) {
            bad(
                "code",
                format!("must be 1 to {MAX_CODE} letters, digits, hyphens or underscores"),
            );
        }
        let kind = match (self.percentage, self.amount) {
            (Some(rate), None) => {
                if !(1..=ALL).contains(&rate) {
                    bad(
                        "percentage",
                        "must be more than 0 and at most 100".to_owned(),
                    );
                }
                Some(DiscountKind::Percentage(rate))
            }
            (None, Some(amount)) => {
                if amount.amount_minor < 1 {
                    bad("amount", "must be more than 0".to_owned());
                }
                Some(DiscountKind::Amount(amount))
            }
            _ => {
                bad("percentage", "give either percentage or amount".to_owned());
                None
            }
        };
        if self.minimum.is_some_and(|minimum| minimum.amount_minor < 0) {
            bad("minimum", "must not be below 0".to_owned());
        }
        if let (Some(from), Some(to)) = (self.starts_at, self.ends_at)
            && from >= to
        {
            bad("endsAt", "must be after startsAt".to_owned());
        }
        for (field, limit) in [
            ("totalLimit", self.total_limit),
            ("customerLimit", self.customer_limit),
        ] {
            if limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
                bad(field, format!("must be between 1 and {MAX_LIMIT}"));
            }
        }
        // All problems are collected first, so that the client can fix them at once.
        match kind.filter(|_| problems.is_empty()) {
            None => Err(problems),
            Some(kind) => Ok(Discount {
                code,
                kind,
                minimum: self.minimum,
                starts_at: self.starts_at,
                ends_at: self.ends_at,
                total_limit: self.total_limit,
                customer_limit: self.customer_limit,
                is_active: true,
                used: 0,
            }),
        }
    }
}

impl Discount {
    /// The terms that pricing needs.
    pub fn code(&self) -> Code {
        Code {
            kind: self.kind,
            minimum: self.minimum,
        }
    }

    /// Checks that a customer who has used it this many times may use it now.
    ///
    /// # Errors
    /// The reason, if they may not.
    pub fn check(&self, used_by_customer: i64, now: Micros) -> Result<(), Problem> {
        if !self.is_active {
            return Err(unknown_discount());
        }
        if self.starts_at.is_some_and(|from| now < from) {
            return Err(problem(
                ProblemCode::DiscountNotApplicable,
                "is not valid yet",
            ));
        }
        if self.ends_at.is_some_and(|to| now >= to) {
            return Err(problem(ProblemCode::DiscountNotApplicable, "has expired"));
        }
        if self.total_limit.is_some_and(|limit| self.used >= limit) {
            return Err(problem(
                ProblemCode::DiscountExhausted,
                "has reached its usage limit",
            ));
        }
        if (self.customer_limit).is_some_and(|limit| used_by_customer >= limit) {
            return Err(problem(
                ProblemCode::DiscountExhausted,
                "has reached its usage limit per customer",
            ));
        }
        Ok(())
    }
}

/// The problem that there is no such code.
pub fn unknown_discount() -> Problem {
    problem(
        ProblemCode::DiscountUnknown,
        "there is no such discount code",
    )
}

fn problem(code: ProblemCode, message: &str) -> Problem {
    Problem::new(&["input", "discountCode"], code, message)
}

#[cfg(test)]
mod tests {
    use stoa_schema::money::Currency;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let fine = NewDiscount {
            code: " spring-24 ".to_owned(),
            percentage: Some(1_000),
            ..NewDiscount::default()
        };
        assert_eq!(fine.clone().check().unwrap().code, "SPRING-24");
        let amount = Some(Money::new(0, Currency::EUR));
        for (bad, field) in [
            (
                NewDiscount {
                    code: "a b".to_owned(),
                    ..fine.clone()
                },
                "code",
            ),
            (
                NewDiscount {
                    percentage: Some(10_001),
                    ..fine.clone()
                },
                "percentage",
            ),
            (
                NewDiscount {
                    amount,
                    ..fine.clone()
                },
                "percentage",
            ),
            (
                NewDiscount {
                    percentage: None,
                    amount,
                    ..fine.clone()
                },
                "amount",
            ),
            (
                NewDiscount {
                    starts_at: Some(2),
                    ends_at: Some(2),
                    ..fine.clone()
                },
                "endsAt",
            ),
            (
                NewDiscount {
                    customer_limit: Some(0),
                    ..fine.clone()
                },
                "customerLimit",
            ),
        ] {
            assert_eq!(bad.check().unwrap_err()[0].field[1], field);
        }
    }

    #[test]
    fn validity_and_limits_hold() {
        let new = NewDiscount {
            code: "X".to_owned(),
            percentage: Some(1),
            starts_at: Some(10),
            ends_at: Some(20),
            total_limit: Some(2),
            customer_limit: Some(1),
            ..NewDiscount::default()
        };
        let mut code = new.check().unwrap();
        let refused = |code: &Discount, used, now| code.check(used, now).unwrap_err().code;
        assert_eq!(code.check(0, 10), Ok(()));
        assert_eq!(refused(&code, 0, 9), ProblemCode::DiscountNotApplicable);
        assert_eq!(refused(&code, 0, 20), ProblemCode::DiscountNotApplicable);
        assert_eq!(refused(&code, 1, 10), ProblemCode::DiscountExhausted);
        code.used = 2;
        assert_eq!(refused(&code, 0, 10), ProblemCode::DiscountExhausted);
        code.is_active = false;
        assert_eq!(refused(&code, 0, 10), ProblemCode::DiscountUnknown);
    }
}
