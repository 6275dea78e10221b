pub mod entity;
pub mod order;
pub mod shipment;
