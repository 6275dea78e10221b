//! The model: what a change does to an order and its units.

use stoa_orders::domain::ProblemCode;
use stoa_schema::events::OrderStatus as Status;

/// What a change is, before it is about an order's lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    Cancel,
    Ship,
    Deliver,
    Refund,
    /// Some units of a line.
    ShipSome(usize, u32),
    /// Some units of a line; those that were shipped come back to stock, or not.
    RefundSome(usize, u32, bool),
}

/// The units of a product in an order.
#[derive(Debug, Clone)]
pub struct Units {
    pub product: usize,
    pub all: u32,
    pub shipped: u32,
    pub refunded: u32,
    pub called_off: u32,
    pub restocked: u32,
}

impl Units {
    pub fn new(product: usize, all: u32) -> Self {
        Self {
            product,
            all,
            shipped: 0,
            refunded: 0,
            called_off: 0,
            restocked: 0,
        }
    }

    fn to_ship(&self) -> u32 {
        self.all - self.shipped - self.called_off
    }

    pub fn paid(&self) -> u32 {
        self.all - self.refunded
    }

    fn refund(&mut self, units: u32, restock: bool) {
        let with_customer = self.shipped - (self.refunded - self.called_off);
        let restocked = if restock { units.min(with_customer) } else { 0 };
        self.called_off += (units - restocked).min(self.to_ship());
        self.refunded += units;
        self.restocked += restocked;
    }
}

/// Where a change brings an order and its units, or why it is refused.
pub fn expected(
    status: Status,
    lines: &[Units],
    wish: Wish,
) -> Result<(Status, Vec<Units>), ProblemCode> {
    let mut lines = lines.to_vec();
    let (from, to) = match wish {
        Wish::Cancel => (&[Status::Pending, Status::Confirmed][..], Status::Cancelled),
        Wish::Ship | Wish::ShipSome(..) => (&[Status::Confirmed][..], Status::Shipped),
        Wish::Deliver => (&[Status::Shipped][..], Status::Delivered),
        Wish::Refund | Wish::RefundSome(..) => (
            &[Status::Confirmed, Status::Shipped, Status::Delivered][..],
            Status::Refunded,
        ),
    };
    let has_left = wish == Wish::Cancel && lines.iter().any(|units| units.shipped > 0);
    if !from.contains(&status) || has_left {
        return Err(ProblemCode::IllegalStatus);
    }
    let count = lines.len();
    match wish {
        Wish::Cancel | Wish::Deliver => return Ok((to, lines)),
        Wish::Ship => lines
            .iter_mut()
            .for_each(|units| units.shipped += units.to_ship()),
        Wish::Refund => lines
            .iter_mut()
            .for_each(|units| units.refund(units.paid(), false)),
        Wish::ShipSome(line, wanted) => {
            let units = &mut lines[line % count];
            if wanted > units.to_ship() {
                return Err(ProblemCode::TooManyUnits);
            }
            units.shipped += wanted;
        }
        Wish::RefundSome(line, wanted, restock) => {
            let units = &mut lines[line % count];
            if wanted > units.paid() {
                return Err(ProblemCode::TooManyUnits);
            }
            units.refund(wanted, restock);
        }
    }
    let is_refund = matches!(wish, Wish::Refund | Wish::RefundSome(..));
    let status = if is_refund && lines.iter().all(|units| units.paid() == 0) {
        Status::Refunded
    } else if status == Status::Confirmed && lines.iter().all(|units| units.to_ship() == 0) {
        Status::Shipped
    } else {
        status
    };
    Ok((status, lines))
}
