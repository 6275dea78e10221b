#[derive(async_graphql::Enum)]
pub enum Kind {
    One,
}

pub async fn decide() {
    super::super::store::order::order_fetch().await;
}
