//! GraphQL types that several subgraphs share, and how a domain error reaches
//! a client.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::{
    ComplexObject, Context, Enum, InputObject, InputType, InputValueError, InputValueResult,
    OutputType, Scalar, ScalarType, SimpleObject, TypeDirective, TypeName, Value,
};
use futures_util::future::BoxFuture;
use stoa_schema::address::Address;
use stoa_schema::money::{Currency, Money};

use crate::context::CallContext;
use crate::error::{BAD_USER_INPUT, CodedError, UNAVAILABLE};
use crate::page::{self, Slice};
use stoa_runtime::clock::{self, Micros};

/// A domain error as a GraphQL error, with its code. Internal errors are logged
/// here and described to the client no further.
pub fn to_graphql_error<E: CodedError + std::fmt::Debug>(error: E) -> async_graphql::Error {
    let code = error.code();
    let message = if error.is_internal() {
        tracing::error!(%error, "internal error");
        "something went wrong on our side; the correlation id of this response helps us find it"
            .to_owned()
    } else {
        if code == UNAVAILABLE {
            tracing::warn!(?error, "temporarily unavailable");
        }
        error.to_string()
    };
    coded(code, message)
}

/// What is known of the call that a resolver answers.
///
/// # Errors
/// If the request was executed without a [`CallContext`].
pub fn call_context<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a CallContext> {
    ctx.data::<CallContext>()
}

/// A GraphQL error with this error code.
pub fn coded(code: &str, message: impl Into<String>) -> async_graphql::Error {
    let mut error = async_graphql::Error::new(message);
    error
        .extensions
        .get_or_insert_with(Default::default)
        .set("code", code);
    error
}

/// A mutation that happens once per value of the argument named by `key`: sent
/// again with the same value, it only returns the same result. A router may send
/// it again if the connection is lost.
#[TypeDirective(
    location = "FieldDefinition",
    composable = "https://stoa.dev/specs/idempotent/v1.0"
)]
pub fn idempotent(key: String) {}

/// How long lists are (federation v2.9).
// One line, which `sdl` can leave out with the definition.
#[TypeDirective(name = "listSize", location = "FieldDefinition")]
pub fn list_size(
    slicing_arguments: Vec<String>,
    sized_fields: Vec<String>,
    require_one_slicing_argument: bool,
) {
}

/// The argument that limits a connection, for [`list_size`].
pub fn page_arguments() -> Vec<String> {
    vec!["first".to_owned()]
}

/// The lists of a connection, for [`list_size`].
pub fn page_fields() -> Vec<String> {
    vec!["nodes".to_owned(), "edges".to_owned()]
}

/// The error for a value that a scalar does not accept.
fn invalid_scalar<T: InputType>(message: &str) -> InputValueError<T> {
    InputValueError::custom(message).with_extension("code", BAD_USER_INPUT)
}

/// A 64-bit integer, returned as a string so that no client rounds it;
/// accepted as a string or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BigInt(pub i64);

#[Scalar(name = "BigInt")]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => number
                .as_i64()
                .map(BigInt)
                .ok_or_else(|| invalid_scalar("not an integer of 64 bits")),
            Value::String(text) => text
                .parse()
                .map(BigInt)
                .map_err(|_| invalid_scalar("not an integer of 64 bits")),
            _ => Err(invalid_scalar("not of this type")),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An instant in RFC 3339 format, in UTC: 2026-11-22T09:30:00.000000Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime(pub Micros);

#[Scalar(
    name = "DateTime",
    specified_by_url = "https://datatracker.ietf.org/doc/html/rfc3339"
)]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => clock::from_rfc3339(text)
                .map(DateTime)
                .ok_or_else(|| invalid_scalar("not an instant of RFC 3339")),
            _ => Err(invalid_scalar("not of this type")),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(clock::to_rfc3339(self.0))
    }
}

/// An amount of money.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(name = "Money", shareable)]
pub struct MoneyObject {
    /// The amount in the currency's smallest unit: 1250 is €12.50.
    pub amount_minor: BigInt,
    /// ISO 4217.
    pub currency_code: String,
    /// How many decimal places the currency has.
    pub exponent: i32,
    /// Formatted for display: "€12.50".
    pub formatted: String,
}

impl From<Money> for MoneyObject {
    fn from(money: Money) -> Self {
        Self {
            amount_minor: BigInt(money.amount_minor),
            currency_code: money.currency.code().to_owned(),
            exponent: i32::from(money.currency.exponent()),
            formatted: money.to_string(),
        }
    }
}

/// An amount of money, as input.
#[derive(Debug, Clone, InputObject)]
pub struct MoneyInput {
    /// The amount in the currency's smallest unit.
    pub amount_minor: BigInt,
    /// ISO 4217: one of USD, EUR, GBP, JPY, CHF, KWD.
    pub currency_code: String,
}

impl MoneyInput {
    /// `None` for a currency that is not supported.
    pub fn to_money(&self) -> Option<Money> {
        Some(Money::new(
            self.amount_minor.0,
            Currency::parse(&self.currency_code)?,
        ))
    }
}

/// A postal address.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(name = "Address", shareable)]
pub struct AddressObject {
    pub full_name: Option<String>,
    pub line1: String,
    pub line2: Option<String>,
    pub city: String,
    pub region: Option<String>,
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

impl From<Address> for AddressObject {
    fn from(address: Address) -> Self {
        Self {
            full_name: address.full_name,
            line1: address.line1,
            line2: address.line2,
            city: address.city,
            region: address.region,
            postal_code: address.postal_code,
            country: address.country,
        }
    }
}

/// A postal address.
#[derive(Debug, InputObject)]
pub struct AddressInput {
    pub full_name: Option<String>,
    pub line1: String,
    pub line2: Option<String>,
    pub city: String,
    pub region: Option<String>,
    pub postal_code: String,
    /// ISO 3166-1 alpha-2, such as DE.
    pub country: String,
}

impl From<AddressInput> for Address {
    fn from(address: AddressInput) -> Self {
        Self {
            full_name: address.full_name,
            line1: address.line1,
            line2: address.line2,
            city: address.city,
            region: address.region,
            postal_code: address.postal_code,
            country: address.country,
        }
    }
}

/// The state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "stoa_schema::events::OrderStatus")]
pub enum OrderStatus {
    /// Placed: the units are reserved and the payment is in progress.
    Pending,
    /// Paid.
    Confirmed,
    Shipped,
    Delivered,
    /// Cancelled before it was shipped, or never paid.
    Cancelled,
    Refunded,
}

/// The position of a page in its list.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(shareable)]
pub struct PageInfo {
    pub has_next_page: bool,
    pub has_previous_page: bool,
    pub start_cursor: Option<String>,
    pub end_cursor: Option<String>,
}

/// One entry of a page.
#[derive(SimpleObject)]
#[graphql(name_type)]
pub struct Edge<T: OutputType> {
    pub cursor: String,
    pub node: T,
}

impl<T: OutputType> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::type_name()).into()
    }
}

/// Counts a whole list, when a client asks for that.
pub type Count =
    Arc<dyn Fn() -> BoxFuture<'static, async_graphql::Result<u64>> + Send + Sync + 'static>;

/// A page of a list, as the Relay connection specification defines it.
#[derive(SimpleObject)]
#[graphql(name_type, complex)]
pub struct Connection<T: OutputType> {
    pub edges: Vec<Edge<T>>,
    pub page_info: PageInfo,
    #[graphql(skip)]
    count: Count,
}

impl<T: OutputType> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }
}

#[ComplexObject]
impl<T: OutputType> Connection<T> {
    /// The entries without their cursors.
    async fn nodes(&self) -> Vec<&T> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// How many entries the whole list has; counted only when asked for.
    async fn total_count(&self) -> async_graphql::Result<i32> {
        let count = (self.count)().await?;
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

impl<T: OutputType> Connection<T> {
    /// Makes a page of fetched rows; `key` is what a row sorts by.
    pub fn new<R, K: serde::Serialize>(
        slice: Slice<R>,
        key: impl Fn(&R) -> K,
        node: impl Fn(R) -> T,
        count: Count,
    ) -> Self {
        let edges: Vec<_> = slice
            .rows
            .into_iter()
            .map(|row| Edge {
                cursor: page::encode(&key(&row)),
                node: node(row),
            })
            .collect();
        Self {
            page_info: PageInfo {
                has_next_page: slice.has_next,
                has_previous_page: slice.has_previous,
                start_cursor: edges.first().map(|edge| edge.cursor.clone()),
                end_cursor: edges.last().map(|edge| edge.cursor.clone()),
            },
            edges,
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{Number, Pos};

    use super::*;
    use crate::error::{CommonError, FORBIDDEN, INTERNAL};

    fn parse<T: ScalarType>(value: Value) -> InputValueResult<T> {
        T::parse(value)
    }

    fn is_refused<T: InputType + std::fmt::Debug>(parsed: InputValueResult<T>) -> bool {
        let Err(error) = parsed else { return false };
        let extensions = error.into_server_error(Pos::default()).extensions;
        extensions.unwrap().get("code") == Some(&Value::from(BAD_USER_INPUT))
    }

    #[test]
    fn a_big_integer_is_a_string_or_a_number_of_64_bits() {
        let number = |number: f64| Value::Number(Number::from_f64(number).unwrap());
        let cases = [
            (Value::from(7), 7),
            (Value::from(i64::MIN), i64::MIN),
            (Value::from("9223372036854775807"), i64::MAX),
            (Value::from("-1"), -1),
        ];
        for (value, expected) in cases {
            let parsed = parse::<BigInt>(value);
            assert!(matches!(parsed, Ok(BigInt(found)) if found == expected));
        }
        let bad = [
            Value::Null,
            Value::from(true),
            number(1.5),
            Value::from(u64::MAX),
            Value::from("9223372036854775808"),
            Value::from(""),
            Value::from(" 1"),
            Value::from("1.0"),
        ];
        for value in bad {
            assert!(is_refused(parse::<BigInt>(value.clone())), "{value}");
        }
        // No client rounds it.
        assert_eq!(
            ScalarType::to_value(&BigInt(i64::MAX)),
            Value::from("9223372036854775807")
        );
    }

    #[test]
    fn an_instant_is_of_rfc_3339_and_returned_in_utc() {
        let parsed = parse::<DateTime>(Value::from("2026-11-22T10:30:00+01:00"));
        let Ok(instant) = parsed else {
            panic!("an offset is accepted")
        };
        let text = Value::from("2026-11-22T09:30:00.000000Z");
        assert_eq!(ScalarType::to_value(&instant), text);
        let bad = ["", "yesterday", "2026-11-22", "2026-13-22T09:30:00Z"];
        for value in bad.map(Value::from).into_iter().chain([Value::from(7)]) {
            assert!(is_refused(parse::<DateTime>(value.clone())), "{value}");
        }
    }

    #[test]
    fn an_error_keeps_its_code_and_hides_what_is_internal() {
        let cases = [
            (CommonError::NotAdmin, FORBIDDEN, true),
            (CommonError::Corrupt("role X".to_owned()), INTERNAL, false),
        ];
        for (error, code, is_shown) in cases {
            let message = error.to_string();
            let shown = to_graphql_error(error);
            assert_eq!(
                shown.extensions.unwrap().get("code"),
                Some(&Value::from(code))
            );
            assert_eq!(shown.message.contains(&message), is_shown, "{message}");
        }
    }

    #[test]
    fn a_page_begins_and_ends_at_the_cursors_of_its_entries() {
        let count: Count = Arc::new(|| Box::pin(async { Ok(0) }));
        let page = |rows: Vec<i32>, has_next| {
            let slice = Slice {
                rows,
                has_next,
                has_previous: true,
            };
            Connection::new(slice, |row| row * 10, |row| row, count.clone())
        };
        let two = page(vec![1, 2], true);
        let edges: Vec<_> = two
            .edges
            .iter()
            .map(|edge| (edge.node, edge.cursor.clone()))
            .collect();
        assert_eq!(edges, [(1, page::encode(&10)), (2, page::encode(&20))]);
        let info = two.page_info;
        assert!(info.has_next_page && info.has_previous_page);
        assert_eq!(info.start_cursor, Some(page::encode(&10)));
        assert_eq!(info.end_cursor, Some(page::encode(&20)));

        let info = page(Vec::new(), false).page_info;
        assert!(!info.has_next_page);
        assert_eq!((info.start_cursor, info.end_cursor), (None, None));
    }
}
