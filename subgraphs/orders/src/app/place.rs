//! Placing an order.

use stoa_kit::fault::{pause, point};
use stoa_kit::idempotency::{Claim, Use};
use stoa_kit::service::CallContext;
use stoa_kit::telemetry;
use stoa_schema::events::OrderStatus as Status;
use stoa_schema::peer::{ProductSnapshot, ReleaseStock, ReserveStock, Reserved, StockLine};
use stoa_schema::{OrderId, UserId};

use super::{Answer, App, bad_key, key_problem, user};
use crate::domain::{self, Order, Problem, ProblemCode, Request};
use crate::error::Error;
use crate::store;

impl App {
    /// Places an order, once for each key. Stock is reserved when it answers;
    /// payment is not settled yet.
    ///
    /// The key is claimed first and fixes the order's identifier, so that an
    /// attempt which dies between two steps is taken up by the next one.
    pub async fn order_place(
        &self,
        context: &CallContext,
        request: &Request,
        key: &str,
    ) -> Result<Order, Error> {
        let customer = user(&context.caller)?;
        let once = Use::new(customer.as_str(), key, "placeOrder", request).ok_or_else(bad_key)?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let claim = once
            .claim_in_txn(&txn, OrderId::new().as_str(), now)
            .await?;
        txn.commit().await?;
        point("place.claimed");
        let lease = claim.lease();
        let id = match claim {
            Claim::Go { subject_id, .. } => OrderId::trusted(subject_id),
            Claim::Done { answer } => return self.replay(&answer).await,
            other => return Err(key_problem(&other).into()),
        };
        let lines = match request.check(self.provider.methods()) {
            Ok(lines) => lines,
            Err(problems) => return self.refuse(&once, problems).await,
        };
        let reserve = ReserveStock {
            order_id: id.clone(),
            lines: lines.clone(),
        };
        let reserved = match self.peers.call(&context.correlation_id, &reserve).await {
            Ok(reserved) => reserved,
            Err(error) => {
                // Nothing is decided: the same key may try again at once.
                let txn = self.database.begin().await?;
                once.give_up_in_txn(&txn, lease).await?;
                txn.commit().await?;
                return Err(error.into());
            }
        };
        match reserved {
            Reserved::Ok { products } => {
                point("place.reserved");
                pause("place.reserved", key).await;
                self.store_placed(context, request, &once, id, customer, &lines, &products)
                    .await
            }
            Reserved::Refused { problems } => self.refuse(&once, request.refused(&problems)).await,
            Reserved::Released => {
                let problem = Problem::new(
                    &["idempotencyKey"],
                    ProblemCode::AttemptExpired,
                    "the first attempt with this key was given up; take a fresh key",
                );
                self.refuse(&once, vec![problem]).await
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of order_place")]
    async fn store_placed(
        &self,
        context: &CallContext,
        request: &Request,
        once: &Use,
        id: OrderId,
        customer: &UserId,
        lines: &[StockLine],
        products: &[ProductSnapshot],
    ) -> Result<Order, Error> {
        let country = &request.shipping_address.country;
        let priced = domain::price(lines, products, None, country, &*self.rates);
        let priced = match priced {
            Ok(priced) => priced,
            Err(problem) => {
                let release = ReleaseStock { order_id: id };
                self.peers.call(&context.correlation_id, &release).await?;
                return self.refuse(once, vec![problem]).await;
            }
        };
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        if !once.finish_in_txn(&txn, &Answer::Order(id.clone())).await? {
            // Another attempt with this key was faster, and what it came to counts.
            let answer = once.answer_in_txn(&txn).await?;
            drop(txn);
            let done = self.replay(&answer).await;
            if matches!(done, Err(Error::Invalid(_))) {
                // It was refused, so our units are nobody's.
                let release = ReleaseStock { order_id: id };
                self.peers.call(&context.correlation_id, &release).await?;
            }
            return done;
        }
        let order = Order {
            number: store::number_next_in_txn(&txn).await?,
            id,
            customer_id: customer.clone(),
            status: Status::Pending,
            parts: priced.parts,
            total: priced.total,
            discount_code: None,
            shipping_address: request.shipping_address.clone(),
            version: 1,
            correlation_id: context.correlation_id.to_string(),
            traceparent: telemetry::traceparent(),
            created_at: now,
            updated_at: now,
        };
        let payment =
            store::payment_row(&order, self.provider.name(), &request.payment_method, now);
        store::order_insert_in_txn(&txn, &order, &priced.lines, payment).await?;
        txn.commit().await?;
        point("place.stored");
        self.committed();
        Ok(order)
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
