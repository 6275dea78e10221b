//! Discount codes: for administrators.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use stoa_service::graphql::{Connection, DateTime, MoneyInput, MoneyObject, to_graphql_error};
use stoa_service::page::PageRequest;

use super::types::OrderUserError;
use super::{app, call};
use crate::domain::{self, CodeKind, NewDiscount, Problem, ProblemCode};
use crate::error::Error;

/// A code that takes something off an order.
#[derive(SimpleObject)]
pub struct DiscountCode {
    code: ID,
    /// Either this, such as 12.5,
    percentage: Option<f64>,
    /// or this.
    amount: Option<MoneyObject>,
    /// What the subtotal must come to.
    minimum: Option<MoneyObject>,
    starts_at: Option<DateTime>,
    /// From then on it is not valid any more.
    ends_at: Option<DateTime>,
    total_limit: Option<i32>,
    customer_limit: Option<i32>,
    is_active: bool,
    /// How many orders use it that were not cancelled.
    used: i32,
}

fn count(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl From<domain::Discount> for DiscountCode {
    fn from(discount: domain::Discount) -> Self {
        let (percentage, amount) = match discount.kind {
            CodeKind::Percentage(rate) => (Some(rate as f64 / 100.0), None),
            CodeKind::Amount(amount) => (None, Some(amount.into())),
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

/// A new code: percentage or amount, and what bounds it.
#[derive(Debug, InputObject)]
pub struct CreateDiscountCodeInput {
    /// At most 64 letters, digits, hyphens and underscores; case does not count.
    pub code: String,
    /// More than 0, at most 100, with two decimals at most.
    pub percentage: Option<f64>,
    pub amount: Option<MoneyInput>,
    /// What the subtotal must come to.
    pub minimum: Option<MoneyInput>,
    pub starts_at: Option<DateTime>,
    pub ends_at: Option<DateTime>,
    /// How often it may be used, all in all.
    pub total_limit: Option<i32>,
    /// How often by one customer.
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
        let message = "the shop does not know this currency";
        Problem::new(&["input", field], ProblemCode::Invalid, message)
    };
    money.ok_or_else(unknown).map(Some)
}

/// In hundredths of a percent; what is no such number is none that is allowed.
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
    /// Every discount code, by its letters: for administrators.
    async fn discount_codes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 20 if not given.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
    ) -> Result<Option<Connection<DiscountCode>>> {
        let app = app(ctx)?;
        let slice = app
            .discount_list(&call(ctx)?.caller, &PageRequest { first, after })
            .await
            .map_err(to_graphql_error)?;
        let counter = app.clone();
        let count = move || {
            let app = counter.clone();
            Box::pin(async move { app.discount_count().await.map_err(to_graphql_error) }) as _
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
    /// For administrators.
    async fn create_discount_code(
        &self,
        ctx: &Context<'_>,
        input: CreateDiscountCodeInput,
    ) -> Result<DiscountCodePayload> {
        let (app, caller) = (app(ctx)?, &call(ctx)?.caller);
        // Who may not ask is told that first.
        app.discount_admin(caller).map_err(to_graphql_error)?;
        payload(match input.into_new() {
            Ok(new) => app.discount_create(caller, new).await,
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
        let caller = &call(ctx)?.caller;
        payload(
            app(ctx)?
                .discount_set_active(caller, &code, is_active)
                .await,
        )
    }
}
