//! Reading and changing the category tree.

use sea_orm::SqlErr;
use stoa_runtime::identity::Caller;
use stoa_schema::CategoryId;

use super::{App, require_admin};
use crate::domain::{Category, Problem, ProblemCode, check_category};
use crate::error::Error;
use crate::store::category as rows;

impl App {
    /// All categories, sorted by name.
    pub async fn category_list(&self) -> Result<Vec<Category>, Error> {
        self.categories
            .fetch("all", async || {
                Ok(rows::category_list(self.database.read()).await?)
            })
            .await
    }

    pub async fn category_create(
        &self,
        caller: &Caller,
        name: &str,
        parent_id: Option<CategoryId>,
    ) -> Result<Category, Error> {
        require_admin(caller)?;
        let category = Category {
            id: CategoryId::new(),
            name: name.trim().to_owned(),
            parent_id,
        };
        let txn = self.database.begin().await?;
        rows::category_tree_lock_in_txn(&txn).await?;
        let mut all = rows::category_list(&txn).await?;
        all.push(category.clone());
        check_category(&all, &category)?;
        rows::category_insert_in_txn(&txn, &category, self.clock.now()).await?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(category)
    }

    pub async fn category_update(
        &self,
        caller: &Caller,
        id: &str,
        name: Option<String>,
        parent_id: Option<Option<CategoryId>>,
    ) -> Result<Category, Error> {
        require_admin(caller)?;
        let txn = self.database.begin().await?;
        rows::category_tree_lock_in_txn(&txn).await?;
        let mut all = rows::category_list(&txn).await?;
        let category = all
            .iter_mut()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(category_not_found)?;
        if let Some(name) = name {
            category.name = name.trim().to_owned();
        }
        if let Some(parent_id) = parent_id {
            category.parent_id = parent_id;
        }
        let changed = category.clone();
        check_category(&all, &changed)?;
        rows::category_update_in_txn(&txn, &changed, self.clock.now()).await?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(changed)
    }

    /// Deletes an empty category and returns it.
    pub async fn category_delete(&self, caller: &Caller, id: &str) -> Result<Category, Error> {
        require_admin(caller)?;
        let txn = self.database.begin().await?;
        rows::category_tree_lock_in_txn(&txn).await?;
        let all = rows::category_list(&txn).await?;
        let category = all
            .iter()
            .find(|category| category.id.as_str() == id)
            .ok_or_else(category_not_found)?;
        let has_children = all
            .iter()
            .any(|c| c.parent_id.as_ref() == Some(&category.id));
        if has_children || rows::category_has_products(&txn, &category.id).await? {
            return Err(category_in_use().into());
        }
        rows::category_delete_in_txn(&txn, &category.id)
            .await
            .map_err(|error| match error.sql_err() {
                // A product was added to it since the check.
                Some(SqlErr::ForeignKeyConstraintViolation(_)) => category_in_use().into(),
                _ => Error::from(error),
            })?;
        txn.commit().await?;
        self.invalidate_categories().await;
        Ok(category.clone())
    }

    pub(super) async fn category_must_exist(&self, id: Option<&CategoryId>) -> Result<(), Error> {
        let Some(id) = id else { return Ok(()) };
        let all = rows::category_list(self.database.read()).await?;
        if all.iter().any(|category| category.id == *id) {
            return Ok(());
        }
        Err(Problem::new(
            &["input", "categoryId"],
            ProblemCode::NotFound,
            "there is no such category",
        )
        .into())
    }
}

fn category_in_use() -> Problem {
    Problem::new(
        &["id"],
        ProblemCode::CategoryInUse,
        "still contains products or categories",
    )
}

fn category_not_found() -> Problem {
    Problem::new(&["id"], ProblemCode::NotFound, "there is no such category")
}
