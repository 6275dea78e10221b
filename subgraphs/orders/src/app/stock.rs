//! Units that go back to stock: of a cancelled order, or of a refund.

use stoa_runtime::clock::micros;
use stoa_schema::peer::ReleaseStock;
use stoa_service::failpoint;
use tracing::Instrument;

use super::order::order_must_exist;
use super::saga::{Saga, failure_reason, order_work_span, retry_delay};
use crate::domain::{DueStock, StockTask};
use crate::error::Error;
use crate::store::{fulfilment, payment};

impl Saga {
    /// Has the products service take units back; postpones that if it fails.
    pub(super) async fn stock_run(&self, id: &str) -> Result<(), Error> {
        let due = match payment::stock_task_fetch(self.database.read(), id).await {
            Ok(Some(due)) if self.due_now().contains(due.due_at) => due,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, id, "a stock task cannot be read");
                return self
                    .stock_postpone(id, i64::MAX, &failure_reason(&error))
                    .await;
            }
        };
        let Err(error) = self.stock_notify(&due).await else {
            return Ok(());
        };
        tracing::warn!(%error, order_id = %due.order_id, "returning units failed; will retry");
        self.stock_postpone(id, due.attempts, &failure_reason(&error))
            .await
    }

    async fn stock_notify(&self, due: &DueStock) -> Result<(), Error> {
        let order = order_must_exist(&self.database, &due.order_id).await?;
        let report = async {
            let correlation = &order.correlation_id;
            match due.task {
                StockTask::Release => {
                    let order_id = due.order_id.clone();
                    let release = ReleaseStock { order_id };
                    let released = self.peers.call(correlation, &release).await;
                    failpoint::crash_if_chosen("release.asked");
                    released?;
                }
                StockTask::Return => {
                    let db = self.database.read();
                    let units = fulfilment::return_fetch(db, &due.id, &due.order_id).await?;
                    let returned = self.peers.call(correlation, &units).await;
                    failpoint::crash_if_chosen("return.asked");
                    returned?;
                }
            }
            let txn = self.database.begin().await?;
            payment::stock_task_done_in_txn(&txn, &due.id).await?;
            txn.commit().await?;
            match due.task {
                StockTask::Release => failpoint::crash_if_chosen("release.stored"),
                StockTask::Return => failpoint::crash_if_chosen("return.stored"),
            }
            Ok(())
        };
        report
            .instrument(order_work_span(due.task.into_str(), &order))
            .await
    }

    /// Postpones the return of units.
    pub(super) async fn stock_postpone(
        &self,
        id: &str,
        attempts: i64,
        reason: &str,
    ) -> Result<(), Error> {
        let at = self.clock.now() + micros(retry_delay(attempts));
        let txn = self.database.begin().await?;
        payment::stock_task_postpone_in_txn(&txn, id, at, reason).await?;
        Ok(txn.commit().await?)
    }
}
