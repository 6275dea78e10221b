//! The model: what a change does to an order's status and units.

use stoa_orders::domain::ProblemCode;
use stoa_schema::events::OrderStatus as Status;

/// A requested change; lines are given by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RequestedChange {
    Cancel,
    Ship,
    Deliver,
    Refund,
    /// Some units of a line.
    ShipSome(usize, u32),
    /// Some units of a line, and whether shipped ones return to stock.
    RefundSome(usize, u32, bool),
}

/// The units of one product in an order, by what happened to them.
#[derive(Debug, Clone)]
pub struct Units {
    pub product: usize,
    pub all: u32,
    pub shipped: u32,
    pub refunded: u32,
    pub cancelled: u32,
    pub restocked: u32,
}

impl Units {
    pub fn new(product: usize, all: u32) -> Self {
        Self {
            product,
            all,
            shipped: 0,
            refunded: 0,
            cancelled: 0,
            restocked: 0,
        }
    }

    fn to_ship(&self) -> u32 {
        self.all - self.shipped - self.cancelled
    }

    pub fn paid(&self) -> u32 {
        self.all - self.refunded
    }

    fn refund(&mut self, units: u32, restock: bool) {
        let with_customer = self.shipped - (self.refunded - self.cancelled);
        let restocked = if restock { units.min(with_customer) } else { 0 };
        self.cancelled += (units - restocked).min(self.to_ship());
        self.refunded += units;
        self.restocked += restocked;
    }
}

/// The status and units after a change, or why it is rejected.
pub fn expected(
    status: Status,
    lines: &[Units],
    requested: RequestedChange,
) -> Result<(Status, Vec<Units>), ProblemCode> {
    let mut lines = lines.to_vec();
    let (from, to) = match requested {
        RequestedChange::Cancel => (&[Status::Pending, Status::Confirmed][..], Status::Cancelled),
        RequestedChange::Ship | RequestedChange::ShipSome(..) => {
            (&[Status::Confirmed][..], Status::Shipped)
        }
        RequestedChange::Deliver => (&[Status::Shipped][..], Status::Delivered),
        RequestedChange::Refund | RequestedChange::RefundSome(..) => (
            &[Status::Confirmed, Status::Shipped, Status::Delivered][..],
            Status::Refunded,
        ),
    };
    let has_left =
        requested == RequestedChange::Cancel && lines.iter().any(|units| units.shipped > 0);
    if !from.contains(&status) || has_left {
        return Err(ProblemCode::IllegalStatus);
    }
    let count = lines.len();
    match requested {
        RequestedChange::Cancel | RequestedChange::Deliver => return Ok((to, lines)),
        RequestedChange::Ship => lines
            .iter_mut()
            .for_each(|units| units.shipped += units.to_ship()),
        RequestedChange::Refund => lines
            .iter_mut()
            .for_each(|units| units.refund(units.paid(), false)),
        RequestedChange::ShipSome(line, wanted) => {
            let units = &mut lines[line % count];
            if wanted > units.to_ship() {
                return Err(ProblemCode::TooManyUnits);
            }
            units.shipped += wanted;
        }
        RequestedChange::RefundSome(line, wanted, restock) => {
            let units = &mut lines[line % count];
            if wanted > units.paid() {
                return Err(ProblemCode::TooManyUnits);
            }
            units.refund(wanted, restock);
        }
    }
    let is_refund = matches!(
        requested,
        RequestedChange::Refund | RequestedChange::RefundSome(..)
    );
    let status = if is_refund && lines.iter().all(|units| units.paid() == 0) {
        Status::Refunded
    } else if status == Status::Confirmed && lines.iter().all(|units| units.to_ship() == 0) {
        Status::Shipped
    } else {
        status
    };
    Ok((status, lines))
}
