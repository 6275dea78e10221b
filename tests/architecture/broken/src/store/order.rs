use super::entity;

pub async fn order_fetch() -> entity::Model {
    let txn = database.begin().await;
    entity::Model
}
