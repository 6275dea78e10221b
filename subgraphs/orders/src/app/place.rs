//! Placing an order: from a request, or from a cart.

use stoa_runtime::clock::Micros;
use stoa_runtime::telemetry;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::{ProductSnapshot, ReleaseStock, ReserveStock, Reserved, StockLine};
use stoa_schema::{OrderId, UserId};
use stoa_service::context::CallContext;
use stoa_service::context::CallerExt;
use stoa_service::failpoint;
use stoa_service::idempotency::{Claim, Use};

use super::{Answer, App};
use crate::domain::{self, Cart, CheckoutRequest, Discount, Order, Problem, ProblemCode, Request};
use crate::error::Error;
use crate::store;
use crate::store::{cart, discount};

/// What an attempt to place an order begins with.
struct Attempt<'a> {
    context: &'a CallContext,
    once: Use,
    key: &'a str,
    customer: &'a UserId,
    /// The order's, if it comes to one: the same for every attempt with the key.
    id: OrderId,
    lease: Micros,
    /// The cart that is ordered.
    cart: Option<Cart>,
}

impl App {
    /// Places an order, once for each key. Stock is reserved when it answers;
    /// payment is not settled yet.
    pub async fn order_place(
        &self,
        context: &CallContext,
        request: &Request,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = &context.caller.signed_in()?;
        let once = Use::new(customer.as_str(), key, "placeOrder", request)
            .ok_or_else(Problem::invalid_key)?;
        match self.attempt(context, once, key, customer).await? {
            Err(answer) => self.replay(&answer).await,
            Ok(attempt) => self.place(&attempt, request).await,
        }
    }

    /// Orders what is in a cart, once for each key; the cart is closed with it.
    pub async fn checkout(
        &self,
        context: &CallContext,
        checkout: &CheckoutRequest,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = &context.caller.signed_in()?;
        let once = Use::new(customer.as_str(), key, "checkout", checkout)
            .ok_or_else(Problem::invalid_key)?;
        let mut attempt = match self.attempt(context, once, key, customer).await? {
            Err(answer) => return self.replay(&answer).await,
            Ok(attempt) => attempt,
        };
        let found = self.cart_to_order(&context.caller, checkout).await;
        match found {
            Ok(cart) => {
                let request = checkout.request(&cart);
                attempt.cart = Some(cart);
                self.place(&attempt, &request).await
            }
            Err(Error::Invalid(problems)) => self.refuse(&attempt.once, problems).await,
            Err(error) => {
                self.give_up(&attempt).await?;
                Err(error)
            }
        }
    }

    /// Claims the key, which fixes the order's identifier: an attempt that dies
    /// between two steps is taken up by the next one. Else what the key came to.
    async fn attempt<'a>(
        &self,
        context: &'a CallContext,
        once: Use,
        key: &'a str,
        customer: &'a UserId,
    ) -> Result<Result<Attempt<'a>, String>, Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let claim = once
            .claim_in_txn(&txn, OrderId::new().as_str(), now)
            .await?;
        txn.commit().await?;
        failpoint::crash_if_chosen("place.claimed");
        match claim {
            Claim::Go { subject_id, lease } => Ok(Ok(Attempt {
                context,
                once,
                key,
                customer,
                id: OrderId::trusted(subject_id),
                lease,
                cart: None,
            })),
            Claim::Done { answer } => Ok(Err(answer)),
            other => Err(Problem::key_conflict(&other).into()),
        }
    }

    async fn place(&self, attempt: &Attempt<'_>, request: &Request) -> Result<Order, Error> {
        let once = &attempt.once;
        let lines = match request.check(|method| self.provider.check_method(method)) {
            Ok(lines) => lines,
            Err(problems) => return self.refuse(once, problems).await,
        };
        let discount = match self.discount_of(request.discount_code.as_deref()).await {
            Ok(discount) => discount,
            Err(Error::Invalid(problems)) => return self.refuse(once, problems).await,
            Err(error) => {
                self.give_up(attempt).await?;
                return Err(error);
            }
        };
        let reserve = ReserveStock {
            order_id: attempt.id.clone(),
            lines: lines.clone(),
        };
        let context = attempt.context;
        let reserved = match self.peers.call(&context.correlation_id, &reserve).await {
            Ok(reserved) => reserved,
            Err(error) => {
                self.give_up(attempt).await?;
                return Err(error.into());
            }
        };
        let products = match reserved {
            Reserved::Ok { products } => products,
            Reserved::Refused { problems } => {
                return self.refuse(once, request.refused(&problems)).await;
            }
            Reserved::Released => {
                let problem = Problem::new(
                    &["idempotencyKey"],
                    ProblemCode::AttemptExpired,
                    "the first attempt with this key was given up; take a fresh key",
                );
                return self.refuse(once, vec![problem]).await;
            }
        };
        failpoint::crash_if_chosen("place.reserved");
        failpoint::wait_while_held("place.reserved", attempt.key).await;
        let stored = self
            .store_placed(attempt, request, discount.as_ref(), &lines, &products)
            .await;
        match stored {
            Err(Error::Invalid(problems)) => {
                // Refused first: another attempt may have placed it meanwhile.
                let done = self.refuse(once, problems).await;
                if matches!(done, Err(Error::Invalid(_))) {
                    // The units are nobody's. If nobody hears of that, their time
                    // runs out.
                    let release = ReleaseStock {
                        order_id: attempt.id.clone(),
                    };
                    let _ = self.peers.call(&context.correlation_id, &release).await;
                }
                done
            }
            Err(error) => {
                let _ = self.give_up(attempt).await;
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
        let priced = domain::price(lines, products, code.as_ref(), country, &*self.rates)?;
        let now = self.clock.now();
        let id = &attempt.id;
        let txn = self.database.begin().await?;
        let answer = Answer::Order(id.clone());
        if !attempt.once.finish_in_txn(&txn, &answer).await? {
            // Another attempt with this key was faster, and what it came to counts.
            let answer = attempt.once.answer_in_txn(&txn).await?;
            drop(txn);
            return self.replay(&answer).await;
        }
        let order = Order {
            number: store::number_next_in_txn(&txn).await?,
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
        let payment =
            store::payment_row(&order, self.provider.name(), &request.payment_method, now);
        store::order_insert_in_txn(&txn, &order, &priced.lines, payment).await?;
        if let Some(discount) = discount {
            let (code, customer) = (&discount.code, attempt.customer);
            discount::discount_use_in_txn(&txn, code, id, customer, now).await?;
        }
        if let Some(cart) = &attempt.cart {
            cart::cart_ordered_in_txn(&txn, cart, id, now).await?;
        }
        txn.commit().await?;
        failpoint::crash_if_chosen("place.stored");
        self.committed();
        Ok(order)
    }

    /// Nothing is decided: the same key may try again at once.
    async fn give_up(&self, attempt: &Attempt<'_>) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        attempt.once.give_up_in_txn(&txn, attempt.lease).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Stores that a request was refused, and why.
    async fn refuse(&self, once: &Use, problems: Vec<Problem>) -> Result<Order, Error> {
        let txn = self.database.begin().await?;
        let answer = Answer::Problems(problems.clone());
        if !once.finish_in_txn(&txn, &answer).await? {
            // Another attempt with this key was faster, and what it came to counts.
            let answer = once.answer_in_txn(&txn).await?;
            drop(txn);
            return self.replay(&answer).await;
        }
        txn.commit().await?;
        Err(Error::Invalid(problems))
    }
}
