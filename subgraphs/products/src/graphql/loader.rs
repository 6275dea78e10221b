//! Loads all the rows that one request, or several at once, need in one query.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_schema::{CategoryId, ProductId};

use crate::app::App;
use crate::app::product::Freshness;
use crate::domain::{Category, Product};
use crate::error::Error;

pub struct Loader(pub App);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SkuKey(pub String);

impl async_graphql::dataloader::Loader<ProductId> for Loader {
    type Value = Product;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Product>, Arc<Error>> {
        let found = self.0.product_fetch_many(ids, Freshness::Cached).await;
        found.map_err(Arc::new)
    }
}

/// The key of a product with its stock, read from the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FreshProduct(pub ProductId);

impl async_graphql::dataloader::Loader<FreshProduct> for Loader {
    type Value = Product;
    type Error = Arc<Error>;

    async fn load(
        &self,
        ids: &[FreshProduct],
    ) -> Result<HashMap<FreshProduct, Product>, Arc<Error>> {
        let ids: Vec<_> = ids.iter().map(|id| id.0.clone()).collect();
        let found = self.0.product_fetch_many(&ids, Freshness::Fresh).await;
        Ok(found
            .map_err(Arc::new)?
            .into_iter()
            .map(|(id, product)| (FreshProduct(id), product))
            .collect())
    }
}

impl async_graphql::dataloader::Loader<SkuKey> for Loader {
    type Value = Product;
    type Error = Arc<Error>;

    async fn load(&self, skus: &[SkuKey]) -> Result<HashMap<SkuKey, Product>, Arc<Error>> {
        let skus: Vec<_> = skus.iter().map(|sku| sku.0.clone()).collect();
        let found = self.0.product_fetch_by_sku(&skus).await.map_err(Arc::new)?;
        Ok(found
            .into_iter()
            .map(|(sku, product)| (SkuKey(sku), product))
            .collect())
    }
}

impl async_graphql::dataloader::Loader<CategoryId> for Loader {
    type Value = Category;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[CategoryId]) -> Result<HashMap<CategoryId, Category>, Arc<Error>> {
        let all = self.0.category_list().await.map_err(Arc::new)?;
        Ok(all
            .into_iter()
            .filter(|category| ids.contains(&category.id))
            .map(|category| (category.id.clone(), category))
            .collect())
    }
}
