//! Stock for orders: reserve, commit, release. Each is idempotent by order;
//! products are locked in the order of their identifiers.

use std::time::Duration;

use sea_orm::SqlErr;
use stoa_runtime::clock::{Micros, micros};
use stoa_schema::peer::{
    Committed, ProductOffer, ProductSnapshot, ReserveStock, Reserved, ReturnStock, StockLine,
    StockProblem, StockProblemReason,
};
use stoa_schema::{OrderId, ProductId};
use stoa_service::error::CommonError;
use stoa_service::failpoint;

use crate::app::{App, Freshness};
use crate::domain::Product;
use crate::error::Error;
use crate::store;
use crate::store::stock::{self, Reservation, ReservationState};

/// How long units wait for a payment.
pub const RESERVATION_TTL: Duration = Duration::from_secs(15 * 60);
const SWEEP: Duration = Duration::from_secs(5);
const SWEEP_BATCH: u64 = 100;

impl App {
    /// What some products cost now, and how many there are; only those that are
    /// for sale.
    pub async fn product_offers(&self, ids: &[ProductId]) -> Result<Vec<ProductOffer>, Error> {
        let found = self.product_fetch_many(ids, Freshness::Fresh).await?;
        let on_sale = found.into_values().filter(|product| product.is_active);
        let offers = on_sale.map(|product| ProductOffer {
            available: u32::try_from(product.stock.unwrap_or_default()).unwrap_or(u32::MAX),
            product: snapshot(&product),
        });
        Ok(offers.collect())
    }

    /// Takes all lines out of stock or none.
    pub async fn stock_reserve(&self, request: &ReserveStock) -> Result<Reserved, Error> {
        match self.reserve_once(request).await {
            // The same order, at the same moment: what it came to is there now.
            Err(error) if raced(&error) => self.reserve_once(request).await,
            done => done,
        }
    }

    async fn reserve_once(&self, request: &ReserveStock) -> Result<Reserved, Error> {
        let now = self.clock.now();
        let lines = summed(&request.lines);
        let txn = self.database.begin().await?;
        if let Some(known) = stock::reservation_fetch_in_txn(&txn, &request.order_id).await? {
            // Under one order there is one set of lines: an attempt for others must
            // not live on these units.
            let held = stock::reservation_lines_in_txn(&txn, &request.order_id).await?;
            let same = held.len() == lines.len()
                && held.iter().zip(&lines).all(|((product, units), line)| {
                    *product == line.product_id && *units == i64::from(line.quantity)
                });
            if known.state == ReservationState::Reserved && !same {
                return Ok(Reserved::Released);
            }
            if known.state == ReservationState::Reserved {
                // An order that is placed at last has the whole time for its payment.
                let until = now + micros(RESERVATION_TTL);
                stock::reservation_renew_in_txn(&txn, &request.order_id, until).await?;
                txn.commit().await?;
            }
            return Ok(known.into_answer());
        }
        let ids: Vec<_> = lines.iter().map(|line| line.product_id.clone()).collect();
        let products = store::product_fetch_many(&txn, &ids).await?;
        let mut problems = Vec::new();
        let mut snapshots = Vec::new();
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
            if stock::stock_take_in_txn(&txn, &product.id, quantity, now).await? {
                snapshots.push(snapshot(product));
            } else {
                problems.push(StockProblem {
                    product_id: product.id.clone(),
                    reason: StockProblemReason::Insufficient,
                    available: u32::try_from(product.stock.unwrap_or_default()).unwrap_or(u32::MAX),
                });
            }
        }
        if !problems.is_empty() {
            // On PostgreSQL the same order may have taken these very units while
            // we waited for their rows.
            if let Some(known) = stock::reservation_fetch_in_txn(&txn, &request.order_id).await? {
                return Ok(known.into_answer());
            }
            txn.rollback().await?;
            return Ok(Reserved::Refused { problems });
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
        Ok(Reserved::Ok {
            products: reservation.products,
        })
    }

    /// Makes a reservation permanent, if it still stands.
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

    /// Puts an order's units back. An order that holds nothing is marked as
    /// released, so that a reservation which arrives late finds that.
    pub async fn stock_release(&self, order: &OrderId) -> Result<(), Error> {
        match self.release_once(order).await {
            Err(error) if raced(&error) => self.release_once(order).await,
            done => done,
        }
    }

    async fn release_once(&self, order: &OrderId) -> Result<(), Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        match stock::reservation_fetch_in_txn(&txn, order).await? {
            Some(reservation) if reservation.state == ReservationState::Released => return Ok(()),
            Some(_) => self.return_units(&txn, order).await?,
            None => {
                let never = Reservation {
                    state: ReservationState::Released,
                    products: Vec::new(),
                    expires_at: now,
                };
                stock::reservation_insert_in_txn(&txn, order, &never, &[], now).await?;
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
            stock::stock_return_in_txn(txn, &product, quantity, now).await?;
        }
        stock::reservation_set_state_in_txn(txn, order, ReservationState::Released).await?;
        Ok(())
    }

    /// Puts back some of an order's units: those that were called off leave its
    /// reservation, those that came back from the customer are received anew.
    pub async fn stock_return(&self, request: &ReturnStock) -> Result<(), Error> {
        match self.return_once(request).await {
            Err(error) if raced(&error) => self.return_once(request).await,
            done => done,
        }
    }

    async fn return_once(&self, request: &ReturnStock) -> Result<(), Error> {
        let now = self.clock.now();
        let order = &request.order_id;
        let mut lines = request.lines.clone();
        lines.sort_by(|a, b| a.product_id.cmp(&b.product_id));
        let txn = self.database.begin().await?;
        let known = stock::reservation_fetch_in_txn(&txn, order).await?;
        if stock::return_is_known_in_txn(&txn, &request.return_id).await? {
            return Ok(());
        }
        // A reservation that was released since has given back everything.
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
            stock::stock_return_in_txn(&txn, &line.product_id, units, now).await?;
        }
        txn.commit().await?;
        Ok(())
    }

    /// Releases what ran out of time; answers how many reservations.
    pub async fn stock_expire(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let due = stock::reservation_expired(self.database.read(), now, SWEEP_BATCH).await?;
        for order in &due {
            // One that fails must not keep the others.
            if let Err(error) = self.reservation_expire(order, now).await {
                tracing::error!(%error, order_id = %order, "a reservation cannot be released");
            }
        }
        Ok(due.len())
    }

    async fn reservation_expire(&self, order: &OrderId, now: Micros) -> Result<(), Error> {
        let txn = self.database.begin().await?;
        // It may have been committed since we looked.
        let still = stock::reservation_fetch_in_txn(&txn, order)
            .await?
            .is_some_and(|r| r.state == ReservationState::Reserved && r.expires_at <= now);
        if still {
            self.return_units(&txn, order).await?;
            failpoint::wait_while_held("expire.returned", order.as_str()).await;
            txn.commit().await?;
            tracing::info!(order_id = %order, "a reservation ran out of time");
        }
        Ok(())
    }
}

impl Reservation {
    /// What its order is told, every time.
    fn into_answer(self) -> Reserved {
        match self.state {
            ReservationState::Released => Reserved::Released,
            ReservationState::Reserved | ReservationState::Committed => Reserved::Ok {
                products: self.products,
            },
        }
    }
}

/// Releases expired reservations until the process ends.
pub async fn expire_for_ever(app: App) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Err(error) = app.stock_expire().await {
            tracing::warn!(%error, "cannot release expired reservations");
        }
    }
}

/// Whether somebody else stored the same reservation first.
fn raced(error: &Error) -> bool {
    matches!(error, Error::Common(CommonError::Database(cause))
        if matches!(cause.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))))
}

/// What an order keeps of a product.
fn snapshot(product: &Product) -> ProductSnapshot {
    ProductSnapshot {
        product_id: product.id.clone(),
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: product.price,
    }
}

/// One line a product, sorted by product.
fn summed(lines: &[StockLine]) -> Vec<StockLine> {
    let mut summed: Vec<StockLine> = Vec::new();
    let mut sorted = lines.to_vec();
    sorted.sort_by(|a, b| a.product_id.cmp(&b.product_id));
    for line in sorted {
        match summed.last_mut() {
            Some(last) if last.product_id == line.product_id => {
                last.quantity = last.quantity.saturating_add(line.quantity);
            }
            _ => summed.push(line),
        }
    }
    summed
}
