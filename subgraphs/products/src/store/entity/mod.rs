//! The rows of the database's tables.

pub mod category;
pub mod product;
pub mod reservation;
pub mod reservation_line;
pub mod stock_adjustment;
pub mod stock_return;
