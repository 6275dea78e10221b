//! Carts: a customer has one open cart; a guest may have any number, each accessed
//! with its token.

use std::time::Duration;

use data_encoding::HEXLOWER;
use sea_orm::{ConnectionTrait, SqlErr};
use sha2::{Digest, Sha256};
use stoa_runtime::clock::{Clock, Micros, micros};
use stoa_runtime::identity::Caller;
use stoa_schema::ProductId;
use stoa_schema::peer::{LookUpProducts, ProductOffer};
use stoa_service::context::CallContext;
use stoa_service::context::CallerExt;
use stoa_service::database::Database;
use stoa_service::error::CommonError;
use stoa_service::peer::Peers;
use stoa_service::purge;

use crate::domain::{
    Cart, CartLine, CartRef, CheckoutRequest, LineQuantity, MAX_LINES, Problem, ProblemCode,
    cart_changed_problem, check_quantity,
};
use crate::error::Error;
use crate::store::cart::{self as rows, CartOwner};

/// How long a guest's cart is kept after its last change.
const GUEST_CART_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_TOKEN: usize = 128;

/// A cart, and its token if it was just created for a guest.
#[derive(Debug)]
pub struct CartWithToken {
    pub cart: Cart,
    pub token: Option<String>,
}

/// How a cart's lines are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// Adds units; creates the cart if there is none.
    Add,
    /// Sets the quantities of existing lines; 0 removes a line.
    Update,
}

/// The use cases of carts.
#[derive(Clone)]
pub struct Carts {
    pub(super) database: Database,
    pub(super) peers: Peers,
    pub(super) clock: Clock,
}

impl Carts {
    /// A cart that the caller may see.
    pub async fn cart_fetch(&self, caller: &Caller, at: &CartRef) -> Result<Option<Cart>, Error> {
        // The version is read before the lines: if a change comes in between, the version
        // is the older one, and an edit based on it is refused.
        let found = find_open_cart(self.database.read(), caller, at).await?;
        Ok(found.map(|(cart, _)| cart))
    }

    /// Adds units to a cart, or sets its quantities. An update needs the version
    /// that the caller has seen; adding does not, as it replaces nothing.
    pub async fn cart_edit(
        &self,
        context: &CallContext,
        at: &CartRef,
        edit: Edit,
        quantities: &[LineQuantity],
        version: Option<i64>,
    ) -> Result<CartWithToken, Error> {
        let wanted = check_lines(quantities, edit).map_err(Error::Invalid)?;
        let ids: Vec<_> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let offers = self.offers(&context.correlation_id, &ids).await?;
        let mut lines = Vec::with_capacity(wanted.len());
        for (index, (product_id, quantity)) in wanted.into_iter().enumerate() {
            let mut known = offers.iter();
            let offer = known.find(|offer| offer.product.product_id == product_id);
            let price = offer.map(|offer| offer.product.price);
            match price {
                Some(price) => lines.push(CartLine {
                    product_id,
                    quantity,
                    price,
                }),
                // A product that is no longer for sale can still be removed.
                None if quantity == 0 => lines.push(CartLine {
                    product_id,
                    quantity,
                    price: stoa_schema::Money::new(0, stoa_schema::money::Currency::EUR),
                }),
                None => return Err(product_unavailable(index).into()),
            }
        }
        let caller = &context.caller;
        match self.try_edit(caller, at, edit, &lines, version).await {
            // A concurrent request has created the customer's cart: retry with that one.
            Err(Error::Common(CommonError::Database(error)))
                if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                self.try_edit(caller, at, edit, &lines, version).await
            }
            done => done,
        }
    }

    async fn try_edit(
        &self,
        caller: &Caller,
        at: &CartRef,
        edit: Edit,
        lines: &[CartLine],
        version: Option<i64>,
    ) -> Result<CartWithToken, Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let found = find_open_cart(&txn, caller, at).await?;
        let mut opened = match found {
            Some((cart, _)) => CartWithToken { cart, token: None },
            None if edit == Edit::Add && at.id.is_none() => create_cart(&txn, caller, now).await?,
            None => return Err(cart_not_found().into()),
        };
        let cart = &mut opened.cart;
        if version.is_some_and(|seen| seen != cart.version) {
            return Err(cart_changed_problem().into());
        }
        for (index, line) in lines.iter().enumerate() {
            match edit {
                Edit::Add => cart.add(line.clone(), index)?,
                Edit::Update => cart.set(line.clone(), index)?,
            }
        }
        rows::cart_store_in_txn(&txn, cart, now).await?;
        txn.commit().await?;
        Ok(opened)
    }

    /// Removes products from a cart.
    pub async fn cart_remove(
        &self,
        context: &CallContext,
        at: &CartRef,
        products: &[String],
        version: i64,
    ) -> Result<CartWithToken, Error> {
        let quantities: Vec<_> = products
            .iter()
            .map(|product| LineQuantity {
                product_id: product.clone(),
                quantity: 0,
            })
            .collect();
        self.cart_edit(context, at, Edit::Update, &quantities, Some(version))
            .await
    }

    /// Merges a guest's cart into the caller's own; the quantities add up. A repeat
    /// changes nothing more.
    pub async fn cart_merge(
        &self,
        caller: &Caller,
        guest: &CartRef,
    ) -> Result<CartWithToken, Error> {
        match self.try_merge(caller, guest).await {
            Err(Error::Common(CommonError::Database(error)))
                if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                self.try_merge(caller, guest).await
            }
            done => done,
        }
    }

    async fn try_merge(&self, caller: &Caller, guest: &CartRef) -> Result<CartWithToken, Error> {
        let customer = &caller.signed_in()?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let from = match find_open_cart(&txn, caller, guest).await? {
            Some((cart, true)) => cart,
            _ => return Err(cart_not_found().into()),
        };
        let mut own = match rows::cart_of_customer(&txn, customer).await? {
            Some(own) => own,
            None => create_cart(&txn, caller, now).await?.cart,
        };
        for (index, line) in from.lines.iter().enumerate() {
            own.add(line.clone(), index)?;
        }
        rows::cart_merged_in_txn(&txn, &from.id, now).await?;
        rows::cart_store_in_txn(&txn, &mut own, now).await?;
        txn.commit().await?;
        Ok(CartWithToken {
            cart: own,
            token: None,
        })
    }

    /// The cart to order, if it is unchanged since the customer saw it.
    pub(super) async fn cart_to_order(
        &self,
        caller: &Caller,
        checkout: &CheckoutRequest,
    ) -> Result<Cart, Error> {
        let cart = self.cart_fetch(caller, &checkout.cart).await?;
        let cart = cart.ok_or_else(cart_not_found)?;
        if cart.version != checkout.version {
            return Err(cart_changed_problem().into());
        }
        if cart.lines.is_empty() {
            return Err(
                Problem::new(&["cartId"], ProblemCode::EmptyOrder, "the cart is empty").into(),
            );
        }
        Ok(cart)
    }

    /// Current prices and stock of products.
    pub async fn offers(
        &self,
        correlation_id: &str,
        products: &[ProductId],
    ) -> Result<Vec<ProductOffer>, Error> {
        if products.is_empty() {
            return Ok(Vec::new());
        }
        let look_up = LookUpProducts {
            product_ids: products.to_vec(),
        };
        Ok(self.peers.call(correlation_id, &look_up).await?.offers)
    }

    /// Deletes a batch of abandoned guest carts; returns how many.
    pub async fn carts_purge_expired(&self) -> Result<u64, Error> {
        let before = self.clock.now() - micros(GUEST_CART_RETENTION);
        let txn = self.database.begin().await?;
        let deleted = rows::cart_purge_expired_in_txn(&txn, before, purge::BATCH).await?;
        txn.commit().await?;
        Ok(deleted)
    }
}

/// An open cart that the caller may change, and whether it is a guest's.
async fn find_open_cart<C: ConnectionTrait>(
    txn: &C,
    caller: &Caller,
    at: &CartRef,
) -> Result<Option<(Cart, bool)>, Error> {
    let Some(id) = &at.id else {
        return match caller.user_id() {
            Some(customer) => {
                let own = rows::cart_of_customer(txn, &customer).await?;
                Ok(own.map(|cart| (cart, false)))
            }
            None => Ok(None),
        };
    };
    // No cart has such an ID, and PostgreSQL refuses NUL in text.
    if id.len() > 36 || !id.is_ascii() || id.contains('\0') {
        return Ok(None);
    }
    let Some((cart, token_hash)) = rows::cart_fetch(txn, id).await? else {
        return Ok(None);
    };
    match (&cart.customer_id, token_hash) {
        (Some(owner), _) if caller.is_user(owner) => Ok(Some((cart, false))),
        (None, Some(known)) => {
            // Hashes are compared, so that the timing reveals nothing about the token.
            let fits = at
                .token
                .as_deref()
                .is_some_and(|token| hash_token(token) == known);
            Ok(fits.then_some((cart, true)))
        }
        _ => Ok(None),
    }
}

/// Creates a cart for the caller; a guest's has a token, which is returned only here.
async fn create_cart<C: ConnectionTrait>(
    txn: &C,
    caller: &Caller,
    now: Micros,
) -> Result<CartWithToken, Error> {
    let id = stoa_schema::ids::new_id();
    let (owner, token) = match caller.user_id() {
        Some(customer) => (CartOwner::Customer(customer.clone()), None),
        None => {
            let token = format!(
                "{}{}",
                uuid::Uuid::new_v4().simple(),
                uuid::Uuid::new_v4().simple()
            );
            (CartOwner::Guest(hash_token(&token)), Some(token))
        }
    };
    let cart = rows::cart_insert_in_txn(txn, &id, &owner, now).await?;
    Ok(CartWithToken { cart, token })
}

fn hash_token(token: &str) -> String {
    if token.len() > MAX_TOKEN {
        return String::new();
    }
    HEXLOWER.encode(&Sha256::digest(token.as_bytes()))
}

/// Validates the lines; returns quantities by product, each product once.
fn check_lines(
    quantities: &[LineQuantity],
    edit: Edit,
) -> Result<Vec<(ProductId, u32)>, Vec<Problem>> {
    if quantities.is_empty() || quantities.len() > MAX_LINES {
        return Err(vec![Problem::new(
            &["lines"],
            ProblemCode::Invalid,
            format!("must have between 1 and {MAX_LINES} entries"),
        )]);
    }
    let mut problems = Vec::new();
    let mut lines: Vec<(ProductId, u32)> = Vec::new();
    for (index, wanted_line) in quantities.iter().enumerate() {
        let quantity = match wanted_line.quantity {
            0 if edit == Edit::Update => Ok(0),
            quantity => check_quantity(quantity, index),
        };
        match (ProductId::parse(&wanted_line.product_id), quantity) {
            (None, _) => problems.push(product_unavailable(index)),
            (_, Err(problem)) => problems.push(problem),
            (Some(id), Ok(quantity)) => match lines.iter_mut().find(|(known, _)| *known == id) {
                Some((_, same)) if edit == Edit::Add => *same += quantity,
                Some((_, same)) => *same = quantity,
                None => lines.push((id, quantity)),
            },
        }
    }
    if problems.is_empty() {
        Ok(lines)
    } else {
        Err(problems)
    }
}

fn product_unavailable(index: usize) -> Problem {
    Problem::new(
        &["lines", &index.to_string(), "productId"],
        ProblemCode::ProductUnavailable,
        "this product does not exist or is not for sale",
    )
}

fn cart_not_found() -> Problem {
    Problem::new(
        &["cartId"],
        ProblemCode::CartNotFound,
        "there is no such open cart",
    )
}
