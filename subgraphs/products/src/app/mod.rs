//! The use cases of the catalogue and of stock, including authorization;
//! transactions begin here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`product`] | reading and changing products |
//! | [`category`] | reading and changing the category tree |
//! | [`stock`] | stock: adjustments, and reservations for orders |

pub mod category;
pub mod product;
pub mod stock;

use std::time::Duration;

use stoa_runtime::clock::Clock;
use stoa_runtime::identity::Caller;
use stoa_service::cache::{Cache, Region};
use stoa_service::database::Database;
use stoa_service::error::CommonError;

use crate::error::Error;

const PRODUCTS_TTL: Duration = Duration::from_secs(5 * 60);
const CATEGORIES_TTL: Duration = Duration::from_secs(10 * 60);
const SEARCHES_TTL: Duration = Duration::from_secs(2 * 60);

/// The products service, independent of any transport.
#[derive(Clone)]
pub struct App {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    products: Region,
    categories: Region,
    searches: Region,
}

impl App {
    pub fn new(database: Database, cache: &Cache, clock: Clock) -> Self {
        Self {
            database,
            clock,
            products: cache.region("product", PRODUCTS_TTL),
            categories: cache.region("category", CATEGORIES_TTL),
            searches: cache.region("search", SEARCHES_TTL),
        }
    }

    /// Invalidates cached products and searches.
    async fn invalidate_products(&self) {
        Region::invalidate_all(&[&self.products, &self.searches]).await;
    }

    async fn invalidate_categories(&self) {
        Region::invalidate_all(&[&self.categories, &self.searches]).await;
    }
}

/// Requires an administrator; returns who it is.
fn require_admin(caller: &Caller) -> Result<&str, Error> {
    match caller {
        Caller::User { id, .. } if caller.is_admin() => Ok(id.as_str()),
        // The service itself creates the demo data.
        Caller::Service { name } => Ok(name),
        Caller::User { .. } => Err(CommonError::NotAdmin.into()),
        Caller::Anonymous => Err(CommonError::Unauthenticated.into()),
    }
}
