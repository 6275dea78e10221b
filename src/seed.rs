//! Demo data: for development, on loopback, into an empty shop.

use std::io::Write;

use stoa_products::app::product::{Freshness, ProductList};
use stoa_runtime::identity::Caller;
use stoa_service::error::CodedError;
use stoa_service::page::PageRequest;

use crate::Error;
use crate::output::notice;

/// Fills empty databases and prints its progress: it takes a few seconds.
///
/// # Errors
/// If a service refuses.
pub async fn seed(
    users: &stoa_users::App,
    products: &stoa_products::App,
    orders: &stoa_orders::App,
) -> Result<(), Error> {
    let failed = |error: &dyn CodedError| Error::failed("cannot make the demo data", error);
    let people = stoa_users::seed::seed(users)
        .await
        .map_err(|error| failed(&error))?;
    let made = stoa_products::seed::seed(products)
        .await
        .map_err(|error| failed(&error))?;
    if made > 0 {
        notice(format_args!("  Demo catalogue: {made} products."));
        let _ = std::io::stdout().flush();
    }
    let [admin, customers @ ..] = people.as_slice() else {
        return Ok(());
    };
    let list = ProductList {
        page: PageRequest {
            first: Some(100),
            after: None,
        },
        ..ProductList::default()
    };
    let (slice, _) = products
        .product_list(&Caller::Anonymous, list, Freshness::Fresh)
        .await
        .map_err(|error| failed(&error))?;
    let ids: Vec<_> = slice
        .rows
        .into_iter()
        .filter(|product| product.stock.is_some_and(|units| units > 10))
        .map(|product| product.id)
        .collect();
    let people = stoa_orders::seed::People {
        admin: admin.clone(),
        customers: customers.to_vec(),
    };
    let made = stoa_orders::seed::seed(orders, &people, &ids)
        .await
        .map_err(|error| failed(&error))?;
    if made > 0 {
        notice(format_args!("  Demo orders: {made}."));
    }
    Ok(())
}

/// Demo accounts have a public password: they are only for a shop that is not
/// reachable from other machines.
///
/// # Errors
/// If one of them exists and still has it.
pub async fn refuse_demo_accounts(users: &stoa_users::App) -> Result<(), Error> {
    let known = stoa_users::seed::has_demo_password(users)
        .await
        .map_err(|error| Error::failed("cannot look for demo accounts", error))?;
    match known {
        None => Ok(()),
        Some(email) => Err(Error::failed(
            "this data folder holds demo accounts",
            format!(
                "{email} still has the demo password; use another folder (--data-dir), or run in development on loopback"
            ),
        )),
    }
}
