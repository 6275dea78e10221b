//! What must hold after each operation, and once everything is settled.

use sea_orm::{ConnectionTrait, Statement};

use super::*;

impl World {
    /// Checks that each order has the status of the model; only the worker may have moved
    /// it from PENDING.
    pub(super) async fn check_statuses(&mut self, worked: bool) -> CheckResult {
        let ids: Vec<_> = self.placed.iter().map(|order| order.id.clone()).collect();
        let found = self
            .shop
            .orders
            .orders
            .order_fetch_many(&ids)
            .await
            .unwrap();
        for order in &mut self.placed {
            let is = found[&order.id].status;
            if is != order.status {
                let method = self.attempts[order.attempt].request.payment_method.as_str();
                let pays = [sandbox::APPROVE, sandbox::TIMEOUT].contains(&method);
                let mut since = self.gone.iter().zip(order.placed_at);
                let late = since.any(|(now, then)| *now - then >= PATIENCE);
                let may = match is {
                    Status::Confirmed => pays,
                    Status::Cancelled => !pays || late,
                    _ => false,
                };
                ensure(worked && may && order.status == Status::Pending, || {
                    format!(
                        "an order of {method} went from {:?} to {is:?}",
                        order.status
                    )
                })?;
                order.status = is;
                order.was_confirmed = is == Status::Confirmed;
            }
        }
        Ok(())
    }

    pub(super) async fn check_invariants(&self) -> CheckResult {
        let report = stoa::doctor::examine(&self.shop.products_db, &self.shop.orders_db).await;
        let report = report.unwrap();
        ensure(report.violations.is_empty(), || {
            format!("{:?}", report.violations)
        })
    }

    /// Clears the faults and advances the clocks until everything is settled.
    pub(super) async fn settle_all(&mut self) -> CheckResult {
        self.shop.faults.clear();
        for at in 0..self.attempts.len() {
            if self.attempts[at].answer.is_none() {
                // Let the lease of the crashed attempt expire.
                self.advance(Duration::from_secs(31));
                let behind = self.shop.clocks[1].now() - self.shop.clocks[0].now();
                let behind = Duration::from_micros(behind.unsigned_abs());
                self.shop.clocks[0].advance(behind);
                self.gone[0] += behind;
                self.place(at).await?;
                ensure(self.attempts[at].answer.is_some(), || {
                    "still no response".to_owned()
                })?;
            }
        }
        for _ in 0..60 {
            self.advance(Duration::from_secs(61));
            self.shop
                .products
                .release_expired_reservations()
                .await
                .unwrap();
            self.work().await;
            self.check_statuses(true).await?;
            let report = stoa::doctor::examine(&self.shop.products_db, &self.shop.orders_db).await;
            if report.unwrap().unfinished == 0 {
                return Ok(());
            }
        }
        Err("the orders never settle".to_owned())
    }

    /// Checks that stock and money match the orders' statuses.
    pub(super) async fn check_final_state(&self) -> CheckResult {
        self.check_invariants().await?;
        let mut expected = self.received.clone();
        for order in &self.placed {
            let mut due = 0;
            if order.status != Status::Cancelled {
                for units in &order.lines {
                    let gone = units.all - units.cancelled - units.restocked;
                    expected[units.product] -= i64::from(gone);
                    due += i64::from(units.paid()) * PRICE;
                }
            }
            let money = self.money(&order.id).await;
            ensure(money == due, || {
                format!("{:?} keeps {money} of {due}", order.status)
            })?;
            ensure(order.status != Status::Pending, || {
                "an order is never decided".to_owned()
            })?;
        }
        let stock = self.shop.stock(&self.product_ids).await;
        ensure(stock == expected, || {
            format!("stock {stock:?}, expected {expected:?}")
        })
    }

    /// The captured amount minus the refunded amount, from the provider's ledger.
    async fn money(&self, order: &OrderId) -> i64 {
        let db = self.shop.orders_db.read();
        let sql = "SELECT captured_minor - refunded_minor AS kept FROM sandbox_payment WHERE reference = $1";
        let values = [format!("sandbox_{order}").into()];
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        let row = db.query_one_raw(statement).await.unwrap();
        row.map_or(0, |row| row.try_get("", "kept").unwrap())
    }
}
