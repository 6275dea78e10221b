use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "payment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    pub provider: String,
    pub method: String,
    pub currency: String,
    pub amount_minor: i64,
    pub state: String,
    pub task: String,
    pub due_at: Option<i64>,
    pub attempts: i64,
    pub reference: Option<String>,
    pub last_error: Option<String>,
    pub captured_minor: i64,
    pub refunded_minor: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
