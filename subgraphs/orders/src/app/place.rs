//! Placing an order: from a request, or from a cart.

use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use stoa_runtime::clock::Micros;
use stoa_runtime::telemetry;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::{ProductSnapshot, ReleaseStock, ReserveOutcome, ReserveStock, StockLine};
use stoa_schema::{OrderId, UserId};
use stoa_service::context::CallContext;
use stoa_service::context::CallerExt;
use stoa_service::failpoint;
use stoa_service::idempotency::{ClaimOutcome, IdempotencyKey};

use super::order::{Orders, order_must_exist};
use crate::domain::{
    self, Cart, CheckoutRequest, Discount, NewPayment, Order, Problem, ProblemCode, Request,
};
use crate::error::Error;
use crate::store::{cart, discount, order as rows};

/// The stored outcome of an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredOutcome {
    Order(OrderId),
    Problems(Vec<Problem>),
}

/// An attempt to place an order, whose idempotency key is claimed.
struct Attempt<'a> {
    context: &'a CallContext,
    idempotency_key: IdempotencyKey,
    key: &'a str,
    customer: &'a UserId,
    /// The ID of the order to be placed: the same for every attempt with the key.
    id: OrderId,
    lease: Micros,
    /// The cart that is ordered.
    cart: Option<Cart>,
}

impl Orders {
    /// Places an order, once for each key. When it returns, stock is reserved; the
    /// payment is not settled yet.
    pub async fn order_place(
        &self,
        context: &CallContext,
        request: &Request,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = &context.caller.signed_in()?;
        let idempotency_key = IdempotencyKey::new(customer.as_str(), key, "placeOrder", request)
            .ok_or_else(Problem::invalid_key)?;
        match self
            .begin_attempt(context, idempotency_key, key, customer)
            .await?
        {
            Err(answer) => self.replay(&answer).await,
            Ok(attempt) => self.place_attempt(&attempt, request).await,
        }
    }

    /// Orders the contents of a cart, once for each key, and closes the cart.
    pub async fn checkout(
        &self,
        context: &CallContext,
        checkout: &CheckoutRequest,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = &context.caller.signed_in()?;
        let idempotency_key = IdempotencyKey::new(customer.as_str(), key, "checkout", checkout)
            .ok_or_else(Problem::invalid_key)?;
        let mut attempt = match self
            .begin_attempt(context, idempotency_key, key, customer)
            .await?
        {
            Err(answer) => return self.replay(&answer).await,
            Ok(attempt) => attempt,
        };
        let found = self.carts.cart_to_order(&context.caller, checkout).await;
        match found {
            Ok(cart) => {
                let request = checkout.request(&cart);
                attempt.cart = Some(cart);
                self.place_attempt(&attempt, &request).await
            }
            Err(Error::Invalid(problems)) => self.refuse(&attempt.idempotency_key, problems).await,
            Err(error) => {
                self.release_key(&attempt).await?;
                Err(error)
            }
        }
    }

    /// Claims the key, which fixes the order's ID: an attempt that dies between two
    /// steps is continued by the next one. If the key is already finished, returns
    /// its stored outcome as `Err`.
    async fn begin_attempt<'a>(
        &self,
        context: &'a CallContext,
        idempotency_key: IdempotencyKey,
        key: &'a str,
        customer: &'a UserId,
    ) -> Result<Result<Attempt<'a>, String>, Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let claim = idempotency_key
            .claim_in_txn(&txn, OrderId::new().as_str(), now)
            .await?;
        txn.commit().await?;
        failpoint::crash_if_chosen("place.claimed");
        match claim {
            ClaimOutcome::Acquired { subject_id, lease } => Ok(Ok(Attempt {
                context,
                idempotency_key,
                key,
                customer,
                id: OrderId::trusted(subject_id),
                lease,
                cart: None,
            })),
            ClaimOutcome::Done { answer } => Ok(Err(answer)),
            other => Err(Problem::key_conflict(&other).into()),
        }
    }

    async fn place_attempt(
        &self,
        attempt: &Attempt<'_>,
        request: &Request,
    ) -> Result<Order, Error> {
        let idempotency_key = &attempt.idempotency_key;
        // Problems with the request are final and stored; other errors release the key.
        let lines = match request.check(|method| self.provider.check_method(method)) {
            Ok(lines) => lines,
            Err(problems) => return self.refuse(idempotency_key, problems).await,
        };
        let discount = match self
            .discounts
            .discount_of(request.discount_code.as_deref())
            .await
        {
            Ok(discount) => discount,
            Err(Error::Invalid(problems)) => return self.refuse(idempotency_key, problems).await,
            Err(error) => {
                self.release_key(attempt).await?;
                return Err(error);
            }
        };
        // Before the transaction that stores the order: no transaction stays open during a
        // call to another service. A retry reserves under the same order ID.
        let reserve = ReserveStock {
            order_id: attempt.id.clone(),
            lines: lines.clone(),
        };
        let context = attempt.context;
        let reserved = match self.peers.call(&context.correlation_id, &reserve).await {
            Ok(reserved) => reserved,
            Err(error) => {
                // It may be reserved nevertheless: a retry takes that up, or it expires.
                self.release_key(attempt).await?;
                return Err(error.into());
            }
        };
        let products = match reserved {
            ReserveOutcome::Ok { products } => products,
            ReserveOutcome::Refused { problems } => {
                return self
                    .refuse(idempotency_key, request.refused(&problems))
                    .await;
            }
            ReserveOutcome::Released => {
                let problem = Problem::new(
                    &["idempotencyKey"],
                    ProblemCode::AttemptExpired,
                    "the first attempt with this key was abandoned; use a new key",
                );
                return self.refuse(idempotency_key, vec![problem]).await;
            }
        };
        failpoint::crash_if_chosen("place.reserved");
        failpoint::wait_while_held("place.reserved", attempt.key).await;
        let stored = self
            .store_placed(attempt, request, discount.as_ref(), &lines, &products)
            .await;
        match stored {
            Err(Error::Invalid(problems)) => {
                // Stored before releasing: another attempt may have placed the order meanwhile.
                let done = self.refuse(idempotency_key, problems).await;
                if matches!(done, Err(Error::Invalid(_))) {
                    // No order needs the units. If the release fails, the reservation expires.
                    let release = ReleaseStock {
                        order_id: attempt.id.clone(),
                    };
                    let _ = self.peers.call(&context.correlation_id, &release).await;
                }
                done
            }
            Err(error) => {
                // If the commit did succeed, the key has its result, and the release does nothing.
                let _ = self.release_key(attempt).await;
                Err(error)
            }
            stored => stored,
        }
    }

    async fn store_placed(
        &self,
        attempt: &Attempt<'_>,
        request: &Request,
        discount: Option<&Discount>,
        lines: &[StockLine],
        products: &[ProductSnapshot],
    ) -> Result<Order, Error> {
        if let Some(cart) = &attempt.cart {
            cart.check_prices(products).map_err(Error::Invalid)?;
        }
        let code = discount.map(Discount::code);
        let country = &request.shipping_address.country;
        let priced = domain::price_order(lines, products, code.as_ref(), country, &*self.rates)?;
        let now = self.clock.now();
        let id = &attempt.id;
        let txn = self.database.begin().await?;
        let answer = StoredOutcome::Order(id.clone());
        if !attempt.idempotency_key.finish_in_txn(&txn, &answer).await? {
            // Another attempt with this key was faster: its outcome counts.
            let answer = attempt.idempotency_key.stored_result_in_txn(&txn).await?;
            drop(txn);
            return self.replay(&answer).await;
        }
        let order = Order {
            number: rows::number_next_in_txn(&txn).await?,
            id: id.clone(),
            customer_id: attempt.customer.clone(),
            status: Status::Pending,
            parts: priced.parts,
            total: priced.total,
            discount_code: discount.map(|discount| discount.code.clone()),
            shipping_address: request.shipping_address.clone(),
            version: 1,
            correlation_id: attempt.context.correlation_id.to_string(),
            traceparent: telemetry::traceparent(),
            created_at: now,
            updated_at: now,
        };
        let payment = NewPayment {
            provider: self.provider.name().to_owned(),
            method: request.payment_method.clone(),
            due_at: now,
        };
        rows::order_insert_in_txn(&txn, &order, &priced.lines, &payment).await?;
        if let Some(discount) = discount {
            let (code, customer) = (&discount.code, attempt.customer);
            discount_use_in_txn(&txn, code, id, customer, now).await?;
        }
        if let Some(cart) = &attempt.cart
            && !cart::cart_ordered_in_txn(&txn, cart, id, now).await?
        {
            return Err(domain::cart_changed_problem().into());
        }
        txn.commit().await?;
        failpoint::crash_if_chosen("place.stored");
        self.wakeup.after_commit();
        Ok(order)
    }

    /// Releases the key, as nothing is decided: it may be used again at once.
    async fn release_key(&self, attempt: &Attempt<'_>) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        attempt
            .idempotency_key
            .release_in_txn(&txn, attempt.lease)
            .await?;
        txn.commit().await?;
        Ok(())
    }

    /// Stores that the request was refused, and why, as the outcome of the key.
    async fn refuse(
        &self,
        idempotency_key: &IdempotencyKey,
        problems: Vec<Problem>,
    ) -> Result<Order, Error> {
        let txn = self.database.begin().await?;
        let answer = StoredOutcome::Problems(problems.clone());
        if !idempotency_key.finish_in_txn(&txn, &answer).await? {
            // Another attempt with this key was faster: its outcome counts.
            let answer = idempotency_key.stored_result_in_txn(&txn).await?;
            drop(txn);
            return self.replay(&answer).await;
        }
        txn.commit().await?;
        Err(Error::Invalid(problems))
    }

    /// The outcome that is stored for a repeated key.
    pub(super) async fn replay(&self, answer: &str) -> Result<Order, Error> {
        match serde_json::from_str(answer).map_err(|error| Error::corrupt(error.to_string()))? {
            StoredOutcome::Order(id) => order_must_exist(&self.database, &id).await,
            StoredOutcome::Problems(problems) => Err(Error::Invalid(problems)),
        }
    }
}

/// Records that an order uses a code, if it still may. The code stays locked until
/// the transaction ends.
///
/// # Errors
/// The reason, if it may not.
async fn discount_use_in_txn<C: ConnectionTrait>(
    txn: &C,
    code: &str,
    order: &OrderId,
    customer: &UserId,
    now: Micros,
) -> Result<(), Error> {
    let known = discount::discount_lock_in_txn(txn, code).await?;
    let known = known.ok_or_else(domain::unknown_discount)?;
    let uses = discount::discount_use_count(txn, code, customer).await?;
    known.check(uses, now)?;
    discount::discount_use_insert_in_txn(txn, code, order, customer, now).await?;
    Ok(())
}
