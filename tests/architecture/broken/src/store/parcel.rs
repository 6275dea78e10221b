pub fn parcel() {}
