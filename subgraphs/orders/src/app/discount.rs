//! Managing discount codes, for administrators.

use sea_orm::SqlErr;
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::Caller;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::page::{PageRequest, Slice};

use crate::domain::{
    Discount, NewDiscount, Problem, ProblemCode, normalize_code, unknown_discount,
};
use crate::error::Error;
use crate::store::discount as rows;

/// The use cases of discount codes.
#[derive(Clone)]
pub struct Discounts {
    pub(super) database: Database,
    pub(super) clock: Clock,
}

impl Discounts {
    /// Checks that the caller may manage discount codes.
    pub fn discount_check_admin(&self, caller: &Caller) -> Result<(), Error> {
        Ok(caller.require_admin()?)
    }

    pub async fn discount_create(
        &self,
        caller: &Caller,
        new: NewDiscount,
    ) -> Result<Discount, Error> {
        caller.require_admin()?;
        let discount = new.check().map_err(Error::Invalid)?;
        let txn = self.database.begin().await?;
        let stored = rows::discount_insert_in_txn(&txn, &discount, self.clock.now()).await;
        stored.map_err(|error| match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Problem::new(
                &["input", "code"],
                ProblemCode::DiscountCodeTaken,
                "another discount already has this code",
            )
            .into(),
            _ => Error::from(error),
        })?;
        txn.commit().await?;
        Ok(discount)
    }

    /// Switches a code on or off.
    pub async fn discount_set_active(
        &self,
        caller: &Caller,
        code: &str,
        is_active: bool,
    ) -> Result<Discount, Error> {
        caller.require_admin()?;
        let no_code = || Problem {
            field: vec!["code".to_owned()],
            ..unknown_discount()
        };
        let code = stored_form(code).ok_or_else(no_code)?;
        let txn = self.database.begin().await?;
        if !rows::discount_set_active_in_txn(&txn, &code, is_active).await? {
            return Err(no_code().into());
        }
        let discount = rows::discount_fetch(&txn, &code).await?;
        txn.commit().await?;
        Ok(discount.ok_or_else(no_code)?)
    }

    pub async fn discount_list(
        &self,
        caller: &Caller,
        request: &PageRequest,
    ) -> Result<Slice<Discount>, Error> {
        caller.require_admin()?;
        let page = request.check::<String>()?;
        let rows = rows::discount_list(self.database.read(), &page).await?;
        Ok(page.slice(rows))
    }

    pub async fn discount_count(&self) -> Result<u64, Error> {
        Ok(rows::discount_count(self.database.read()).await?)
    }

    /// The discount that a request names.
    ///
    /// # Errors
    /// If there is no discount with this code.
    pub(super) async fn discount_of(&self, code: Option<&str>) -> Result<Option<Discount>, Error> {
        let Some(code) = code.filter(|code| !code.trim().is_empty()) else {
            return Ok(None);
        };
        let code = stored_form(code).ok_or_else(unknown_discount)?;
        let found = rows::discount_fetch(self.database.read(), &code).await?;
        Ok(Some(found.ok_or_else(unknown_discount)?))
    }
}

/// The stored form of a code; `None` if no code can look like that.
fn stored_form(code: &str) -> Option<String> {
    let code = normalize_code(code);
    let fits = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(code)
}
