pub fn render() -> u32 {
    let row = crate::store::order::order_fetch();
    0
}
