//! Stock: adjusting it by hand, and for orders reserve, commit and release, each
//! idempotent by order, and return, idempotent by its own ID. Products are locked
//! sorted by ID.

use sea_orm::SqlErr;
use stoa_runtime::clock::{Micros, micros};
use stoa_runtime::identity::Caller;
use stoa_schema::peer::{
    Committed, ProductOffer, ReserveOutcome, ReserveStock, ReturnStock, StockProblem,
    StockProblemReason,
};
use stoa_schema::{OrderId, ProductId};
use stoa_service::error::CommonError;
use stoa_service::failpoint;
use stoa_service::idempotency::{ClaimOutcome, IdempotencyKey};

use super::product::{Freshness, product_not_found};
use super::{App, require_admin};
use crate::domain::{
    Adjustment, Problem, ProblemCode, Product, RESERVATION_TTL, Reservation, ReservationState,
    merge_by_product, product_snapshot,
};
use crate::error::Error;
use crate::store::product::product_fetch_many;
use crate::store::stock;

const EXPIRY_BATCH: u64 = 100;

impl App {
    /// Adds or removes units, once per idempotency key, and records the reason.
    pub async fn stock_adjust(
        &self,
        caller: &Caller,
        adjustment: Adjustment,
        key: &str,
    ) -> Result<Product, Error> {
        let actor = require_admin(caller)?;
        let problems = adjustment.problems();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let idempotency_key = IdempotencyKey::new(actor, key, "adjustStock", &adjustment)
            .ok_or_else(Problem::invalid_key)?;
        let id = ProductId::parse(&adjustment.product_id)
            .ok_or_else(|| product_not_found("productId"))?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        // The key is claimed in the transaction of the change: both are stored, or neither.
        match idempotency_key.claim_in_txn(&txn, id.as_str(), now).await? {
            ClaimOutcome::Acquired { .. } => {
                let delta = adjustment.delta;
                if delta > 0 {
                    stock::stock_add_in_txn(&txn, &id, delta, now).await?;
                } else if !stock::stock_take_in_txn(&txn, &id, -delta, now).await? {
                    // Nothing was taken: there is no such product, or too few units.
                    let known = product_fetch_many(&txn, std::slice::from_ref(&id)).await?;
                    return Err(match known.get(&id) {
                        None => product_not_found("productId").into(),
                        Some(product) => Problem::new(
                            &["input", "delta"],
                            ProblemCode::InsufficientStock,
                            format!("there are only {} units", product.stock.unwrap_or_default()),
                        )
                        .into(),
                    });
                }
                stock::adjustment_insert_in_txn(
                    &txn,
                    &id,
                    delta,
                    adjustment.reason.trim(),
                    actor,
                    now,
                )
                .await?;
                idempotency_key.finish_in_txn(&txn, &"done").await?;
            }
            // A repeat changes nothing and returns the product as it is now.
            ClaimOutcome::Done { .. } => {}
            conflict @ (ClaimOutcome::InProgress | ClaimOutcome::Reused) => {
                return Err(Problem::key_conflict(&conflict).into());
            }
        }
        let product = product_fetch_many(&txn, std::slice::from_ref(&id))
            .await?
            .remove(&id)
            .ok_or_else(|| product_not_found("productId"))?;
        txn.commit().await?;
        Ok(product)
    }

    /// The current prices and available units of products; only those for sale.
    pub async fn product_offers(&self, ids: &[ProductId]) -> Result<Vec<ProductOffer>, Error> {
        let found = self.product_fetch_many(ids, Freshness::Fresh).await?;
        let on_sale = found.into_values().filter(|product| product.is_active);
        let offers = on_sale.map(|product| ProductOffer {
            available: u32::try_from(product.stock.unwrap_or_default()).unwrap_or(u32::MAX),
            product: product_snapshot(&product),
        });
        Ok(offers.collect())
    }

    /// Reserves all lines or none.
    pub async fn stock_reserve(&self, request: &ReserveStock) -> Result<ReserveOutcome, Error> {
        match self.try_reserve(request).await {
            // A concurrent request for the same order won; its result is stored now.
            Err(error) if lost_insert_race(&error) => self.try_reserve(request).await,
            done => done,
        }
    }

    async fn try_reserve(&self, request: &ReserveStock) -> Result<ReserveOutcome, Error> {
        let now = self.clock.now();
        let lines = merge_by_product(&request.lines);
        let txn = self.database.begin().await?;
        if let Some(known) = stock::reservation_fetch_in_txn(&txn, &request.order_id).await? {
            // An order has one set of lines: a request with other lines must not use
            // these units.
            let held = stock::reservation_lines_in_txn(&txn, &request.order_id).await?;
            let same = held.len() == lines.len()
                && held.iter().zip(&lines).all(|((product, units), line)| {
                    *product == line.product_id && *units == i64::from(line.quantity)
                });
            if known.state == ReservationState::Reserved && !same {
                return Ok(ReserveOutcome::Released);
            }
            if known.state == ReservationState::Reserved {
                // An order that is placed by a repeated request gets the full payment time.
                let until = now + micros(RESERVATION_TTL);
                stock::reservation_renew_in_txn(&txn, &request.order_id, until).await?;
                txn.commit().await?;
            }
            return Ok(known.into_response());
        }
        let ids: Vec<_> = lines.iter().map(|line| line.product_id.clone()).collect();
        let products = product_fetch_many(&txn, &ids).await?;
        let mut problems = Vec::new();
        let mut snapshots = Vec::new();
        // Every line is checked, so that all problems are reported at once.
        for line in &lines {
            let quantity = i64::from(line.quantity);
            let Some(product) = products.get(&line.product_id).filter(|p| p.is_active) else {
                problems.push(StockProblem {
                    product_id: line.product_id.clone(),
                    reason: StockProblemReason::Unknown,
                    available: 0,
                });
                continue;
            };
            // Lines are sorted by product, so that concurrent orders cannot deadlock.
            if stock::stock_take_in_txn(&txn, &product.id, quantity, now).await? {
                snapshots.push(product_snapshot(product));
            } else {
                problems.push(StockProblem {
                    product_id: product.id.clone(),
                    reason: StockProblemReason::Insufficient,
                    available: u32::try_from(product.stock.unwrap_or_default()).unwrap_or(u32::MAX),
                });
            }
        }
        if !problems.is_empty() {
            // On PostgreSQL a concurrent request for the same order may have taken
            // these units while we waited for their row locks.
            if let Some(known) = stock::reservation_fetch_in_txn(&txn, &request.order_id).await? {
                return Ok(known.into_response());
            }
            txn.rollback().await?;
            return Ok(ReserveOutcome::Refused { problems });
        }
        let reservation = Reservation {
            state: ReservationState::Reserved,
            products: snapshots,
            expires_at: now + micros(RESERVATION_TTL),
        };
        stock::reservation_insert_in_txn(&txn, &request.order_id, &reservation, &lines, now)
            .await?;
        failpoint::wait_while_held("reserve.taken", request.order_id.as_str()).await;
        txn.commit().await?;
        Ok(ReserveOutcome::Ok {
            products: reservation.products,
        })
    }

    /// Makes a reservation permanent, unless it was released.
    pub async fn stock_commit(&self, order: &OrderId) -> Result<Committed, Error> {
        let txn = self.database.begin().await?;
        let known = stock::reservation_fetch_in_txn(&txn, order).await?;
        let committed = match known.map(|reservation| reservation.state) {
            Some(ReservationState::Committed) => true,
            Some(ReservationState::Reserved) => {
                stock::reservation_set_state_in_txn(&txn, order, ReservationState::Committed)
                    .await?;
                failpoint::wait_while_held("commit.set", order.as_str()).await;
                txn.commit().await?;
                true
            }
            Some(ReservationState::Released) | None => false,
        };
        Ok(Committed { committed })
    }

    /// Returns an order's units to stock. An order without a reservation is
    /// recorded as released, so that a late request cannot reserve for it.
    pub async fn stock_release(&self, order: &OrderId) -> Result<(), Error> {
        match self.try_release(order).await {
            Err(error) if lost_insert_race(&error) => self.try_release(order).await,
            done => done,
        }
    }

    async fn try_release(&self, order: &OrderId) -> Result<(), Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        match stock::reservation_fetch_in_txn(&txn, order).await? {
            Some(reservation) if reservation.state == ReservationState::Released => return Ok(()),
            Some(_) => self.return_units(&txn, order).await?,
            None => {
                let tombstone = Reservation {
                    state: ReservationState::Released,
                    products: Vec::new(),
                    expires_at: now,
                };
                stock::reservation_insert_in_txn(&txn, order, &tombstone, &[], now).await?;
            }
        }
        txn.commit().await?;
        Ok(())
    }

    async fn return_units<C: sea_orm::ConnectionTrait>(
        &self,
        txn: &C,
        order: &OrderId,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        for (product, quantity) in stock::reservation_lines_in_txn(txn, order).await? {
            stock::stock_add_in_txn(txn, &product, quantity, now).await?;
        }
        stock::reservation_set_state_in_txn(txn, order, ReservationState::Released).await?;
        Ok(())
    }

    /// Returns some of an order's units to stock: cancelled units leave its
    /// reservation, units that the customer sent back are booked as received.
    pub async fn stock_return(&self, request: &ReturnStock) -> Result<(), Error> {
        match self.try_return(request).await {
            Err(error) if lost_insert_race(&error) => self.try_return(request).await,
            done => done,
        }
    }

    async fn try_return(&self, request: &ReturnStock) -> Result<(), Error> {
        let now = self.clock.now();
        let order = &request.order_id;
        let mut lines = request.lines.clone();
        lines.sort_by(|a, b| a.product_id.cmp(&b.product_id));
        let txn = self.database.begin().await?;
        let known = stock::reservation_fetch_in_txn(&txn, order).await?;
        if stock::return_exists_in_txn(&txn, &request.return_id).await? {
            return Ok(());
        }
        // A reservation that was released since has already returned all units.
        let holds = known.is_some_and(|known| known.state != ReservationState::Released);
        for line in &lines {
            stock::return_insert_in_txn(&txn, request, line, now).await?;
            let called_off = if holds { line.called_off } else { 0 };
            if called_off > 0 {
                stock::reservation_shrink_in_txn(&txn, order, &line.product_id, called_off).await?;
            }
            if line.restocked > 0 {
                let (product, units) = (&line.product_id, i64::from(line.restocked));
                stock::adjustment_insert_in_txn(&txn, product, units, "returned", "orders", now)
                    .await?;
            }
            let units = i64::from(called_off) + i64::from(line.restocked);
            stock::stock_add_in_txn(&txn, &line.product_id, units, now).await?;
        }
        txn.commit().await?;
        Ok(())
    }

    /// Releases expired reservations; returns how many had expired.
    pub async fn release_expired_reservations(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let due = stock::reservation_expired(self.database.read(), now, EXPIRY_BATCH).await?;
        for order in &due {
            // A failure must not block the others.
            if let Err(error) = self.release_if_expired(order, now).await {
                tracing::error!(%error, order_id = %order, "a reservation cannot be released");
            }
        }
        Ok(due.len())
    }

    async fn release_if_expired(&self, order: &OrderId, now: Micros) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        // It may have been committed since it was selected.
        let still = stock::reservation_fetch_in_txn(&txn, order)
            .await?
            .is_some_and(|r| r.state == ReservationState::Reserved && r.expires_at <= now);
        if still {
            self.return_units(&txn, order).await?;
            failpoint::wait_while_held("expire.returned", order.as_str()).await;
            txn.commit().await?;
            tracing::info!(order_id = %order, "an expired reservation was released");
        }
        Ok(())
    }
}

/// Whether a concurrent request inserted the same row first.
fn lost_insert_race(error: &Error) -> bool {
    matches!(error, Error::Common(CommonError::Database(cause))
        if matches!(cause.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))))
}
