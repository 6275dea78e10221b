pub fn shipment() {}
