//! Managing discount codes, for administrators.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{
    Connection, DateTime, MoneyInput, MoneyObject, call_context, list_size, page_arguments,
    page_fields, to_graphql_error,
};
use stoa_service::page::PageRequest;

use super::app;
use super::problem::OrderUserError;
use crate::domain::{self, DiscountKind, NewDiscount, Problem, ProblemCode};
use crate::error::Error;

/// A code that gives a discount on an order.
#[derive(SimpleObject)]
pub struct DiscountCode {
    code: ID,
    /// The discount in percent, such as 12.5; null if it is an amount.
    percentage: Option<f64>,
    /// The discount as an amount; null if it is a percentage.
    amount: Option<MoneyObject>,
    /// The smallest subtotal for which the code is valid.
    minimum: Option<MoneyObject>,
    starts_at: Option<DateTime>,
    /// From this time on the code is no longer valid.
    ends_at: Option<DateTime>,
    total_limit: Option<i32>,
    customer_limit: Option<i32>,
    is_active: bool,
    /// How many orders use it, not counting cancelled ones.
    used: i32,
}

fn count(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl From<domain::Discount> for DiscountCode {
    fn from(discount: domain::Discount) -> Self {
        let (percentage, amount) = match discount.kind {
            DiscountKind::Percentage(rate) => (Some(rate as f64 / 100.0), None),
            DiscountKind::Amount(amount) => (None, Some(amount.into())),
        };
        Self {
            code: ID(discount.code),
            percentage,
            amount,
            minimum: discount.minimum.map(Into::into),
            starts_at: discount.starts_at.map(DateTime),
            ends_at: discount.ends_at.map(DateTime),
            total_limit: discount.total_limit.map(count),
            customer_limit: discount.customer_limit.map(count),
            is_active: discount.is_active,
            used: count(discount.used),
        }
    }
}

/// A new discount code: a percentage or an amount, and its limits.
#[derive(Debug, InputObject)]
pub struct CreateDiscountCodeInput {
    /// At most 64 letters, digits, hyphens and underscores; not case-sensitive.
    pub code: String,
    /// More than 0, at most 100, with at most two decimals.
    pub percentage: Option<f64>,
    pub amount: Option<MoneyInput>,
    /// The smallest subtotal for which the code is valid.
    pub minimum: Option<MoneyInput>,
    pub starts_at: Option<DateTime>,
    pub ends_at: Option<DateTime>,
    /// How many times it may be used in total.
    pub total_limit: Option<i32>,
    /// How many times one customer may use it.
    pub customer_limit: Option<i32>,
}

#[derive(SimpleObject)]
pub struct DiscountCodePayload {
    discount_code: Option<DiscountCode>,
    user_errors: Vec<OrderUserError>,
}

fn payload(done: Result<domain::Discount, Error>) -> Result<DiscountCodePayload> {
    match done {
        Ok(discount) => Ok(DiscountCodePayload {
            discount_code: Some(discount.into()),
            user_errors: Vec::new(),
        }),
        Err(Error::Invalid(problems)) => Ok(DiscountCodePayload {
            discount_code: None,
            user_errors: problems.into_iter().map(Into::into).collect(),
        }),
        Err(error) => Err(to_graphql_error(error)),
    }
}

fn money(field: &str, input: Option<MoneyInput>) -> Result<Option<stoa_schema::Money>, Problem> {
    let Some(input) = input else { return Ok(None) };
    let money = input.to_money();
    let unknown = || {
        let message = "this currency is not supported";
        Problem::new(&["input", field], ProblemCode::Invalid, message)
    };
    money.ok_or_else(unknown).map(Some)
}

/// In hundredths of a percent; -1, which validation refuses, if it cannot be expressed so.
fn hundredths(percentage: f64) -> i64 {
    let exact = percentage * 100.0;
    let whole = exact.round();
    if !(0.0..=1e6).contains(&whole) || (exact - whole).abs() > 1e-6 {
        return -1;
    }
    #[allow(clippy::cast_possible_truncation, reason = "whole, and in range")]
    let rate = whole as i64;
    rate
}

impl CreateDiscountCodeInput {
    fn into_new(self) -> Result<NewDiscount, Problem> {
        let new = NewDiscount {
            code: self.code,
            percentage: self.percentage.map(hundredths),
            amount: money("amount", self.amount)?,
            minimum: money("minimum", self.minimum)?,
            starts_at: self.starts_at.map(|at| at.0),
            ends_at: self.ends_at.map(|at| at.0),
            total_limit: self.total_limit.map(i64::from),
            customer_limit: self.customer_limit.map(i64::from),
        };
        if let (Some(amount), Some(minimum)) = (new.amount, new.minimum)
            && amount.currency != minimum.currency
        {
            let message = "must be in the currency of the amount";
            return Err(Problem::new(
                &["input", "minimum"],
                ProblemCode::Invalid,
                message,
            ));
        }
        Ok(new)
    }
}

#[derive(Default)]
pub struct DiscountQuery;

#[Object]
impl DiscountQuery {
    /// All discount codes, in alphabetical order. For administrators.
    #[graphql(directive = list_size::apply(page_arguments(), page_fields(), false))]
    async fn discount_codes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100.", default = 20)] first: Option<i32>,
        #[graphql(desc = "Returns the items after this cursor.")] after: Option<String>,
    ) -> Result<Option<Connection<DiscountCode>>> {
        let app = app(ctx)?;
        let slice = app
            .discounts
            .discount_list(&call_context(ctx)?.caller, &PageRequest { first, after })
            .await
            .map_err(to_graphql_error)?;
        let counter = app.clone();
        let count = move || {
            let app = counter.clone();
            Box::pin(async move {
                app.discounts
                    .discount_count()
                    .await
                    .map_err(to_graphql_error)
            }) as _
        };
        Ok(Some(Connection::new(
            slice,
            |discount| discount.code.clone(),
            DiscountCode::from,
            Arc::new(count),
        )))
    }
}

#[derive(Default)]
pub struct DiscountMutation;

#[Object]
impl DiscountMutation {
    /// Creates a discount code. For administrators.
    async fn create_discount_code(
        &self,
        ctx: &Context<'_>,
        input: CreateDiscountCodeInput,
    ) -> Result<DiscountCodePayload> {
        let (app, caller) = (app(ctx)?, &call_context(ctx)?.caller);
        // Authorization comes first: others must not see validation errors.
        app.discounts
            .discount_check_admin(caller)
            .map_err(to_graphql_error)?;
        payload(match input.into_new() {
            Ok(new) => app.discounts.discount_create(caller, new).await,
            Err(problem) => Err(problem.into()),
        })
    }

    /// Switches a code on or off; orders that use it keep their discount. For
    /// administrators.
    async fn update_discount_code(
        &self,
        ctx: &Context<'_>,
        code: ID,
        is_active: bool,
    ) -> Result<DiscountCodePayload> {
        let caller = &call_context(ctx)?.caller;
        payload(
            app(ctx)?
                .discounts
                .discount_set_active(caller, &code, is_active)
                .await,
        )
    }
}
