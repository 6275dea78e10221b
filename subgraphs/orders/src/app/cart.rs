//! Carts: a customer has one open cart, a guest any number, each opened by its
//! token.

use std::time::Duration;

use sea_orm::{ConnectionTrait, SqlErr};
use sha2::{Digest, Sha256};
use stoa_runtime::clock::{Micros, micros};
use stoa_runtime::identity::Caller;
use stoa_schema::ProductId;
use stoa_schema::peer::{LookUpProducts, ProductOffer};
use stoa_service::context::CallContext;
use stoa_service::context::CallerExt;
use stoa_service::error::CommonError;
use stoa_service::purge;

use super::App;
use crate::domain::{
    Cart, CartLine, CartRef, CheckoutRequest, MAX_LINES, Problem, ProblemCode, UnitsWish,
    check_quantity,
};
use crate::error::Error;
use crate::store::cart::{self as rows, Holder};

/// How long a guest's cart is kept after its last change.
const GUESTS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_TOKEN: usize = 128;

/// A cart, and the token of one that was just made for a guest.
#[derive(Debug)]
pub struct Opened {
    pub cart: Cart,
    pub token: Option<String>,
}

/// What is done to a cart's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// Puts units in; makes the cart if there is none.
    Add,
    /// Sets the units of lines that are there; none takes a line out.
    Update,
}

impl App {
    /// A cart that the caller may see.
    pub async fn cart_fetch(&self, caller: &Caller, at: &CartRef) -> Result<Option<Cart>, Error> {
        // The version is read before the lines: whoever acts on both with an
        // older one is told so.
        let found = find(self.database.read(), caller, at).await?;
        Ok(found.map(|(cart, _)| cart))
    }

    /// Puts units in a cart, or sets them. An update needs the version that the
    /// caller has seen; what is put in is put in beside whatever is there.
    pub async fn cart_edit(
        &self,
        context: &CallContext,
        at: &CartRef,
        edit: Edit,
        wishes: &[UnitsWish],
        version: Option<i64>,
    ) -> Result<Opened, Error> {
        let wanted = check_lines(wishes, edit).map_err(Error::Invalid)?;
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
                // What is not for sale any more can still be taken out.
                None if quantity == 0 => lines.push(CartLine {
                    product_id,
                    quantity,
                    price: stoa_schema::Money::new(0, stoa_schema::money::Currency::EUR),
                }),
                None => return Err(unavailable(index).into()),
            }
        }
        let caller = &context.caller;
        match self.edit_once(caller, at, edit, &lines, version).await {
            // Two tabs have made the customer's cart at the same moment.
            Err(Error::Common(CommonError::Database(error)))
                if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                self.edit_once(caller, at, edit, &lines, version).await
            }
            done => done,
        }
    }

    async fn edit_once(
        &self,
        caller: &Caller,
        at: &CartRef,
        edit: Edit,
        lines: &[CartLine],
        version: Option<i64>,
    ) -> Result<Opened, Error> {
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let found = find(&txn, caller, at).await?;
        let mut opened = match found {
            Some((cart, _)) => Opened { cart, token: None },
            None if edit == Edit::Add && at.id.is_none() => open(&txn, caller, now).await?,
            None => return Err(not_found().into()),
        };
        let cart = &mut opened.cart;
        if version.is_some_and(|seen| seen != cart.version) {
            return Err(rows::changed().into());
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

    /// Takes products out of a cart.
    pub async fn cart_remove(
        &self,
        context: &CallContext,
        at: &CartRef,
        products: &[String],
        version: i64,
    ) -> Result<Opened, Error> {
        let wishes: Vec<_> = products
            .iter()
            .map(|product| UnitsWish {
                product_id: product.clone(),
                quantity: 0,
            })
            .collect();
        self.cart_edit(context, at, Edit::Update, &wishes, Some(version))
            .await
    }

    /// Makes a guest's cart part of the caller's own: nothing of either is lost.
    /// Repeating it changes nothing more.
    pub async fn cart_merge(&self, caller: &Caller, guest: &CartRef) -> Result<Opened, Error> {
        match self.merge_once(caller, guest).await {
            Err(Error::Common(CommonError::Database(error)))
                if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                self.merge_once(caller, guest).await
            }
            done => done,
        }
    }

    async fn merge_once(&self, caller: &Caller, guest: &CartRef) -> Result<Opened, Error> {
        let customer = &caller.signed_in()?;
        let now = self.clock.now();
        let txn = self.database.begin().await?;
        let from = match find(&txn, caller, guest).await? {
            Some((cart, true)) => cart,
            _ => return Err(not_found().into()),
        };
        let mut own = match rows::cart_of_customer(&txn, customer).await? {
            Some(own) => own,
            None => open(&txn, caller, now).await?.cart,
        };
        for (index, line) in from.lines.iter().enumerate() {
            own.add(line.clone(), index)?;
        }
        rows::cart_merged_in_txn(&txn, &from.id, now).await?;
        rows::cart_store_in_txn(&txn, &mut own, now).await?;
        txn.commit().await?;
        Ok(Opened {
            cart: own,
            token: None,
        })
    }

    /// The cart that is to be ordered, as the customer has seen it.
    pub(super) async fn cart_to_order(
        &self,
        caller: &Caller,
        checkout: &CheckoutRequest,
    ) -> Result<Cart, Error> {
        let cart = self.cart_fetch(caller, &checkout.cart).await?;
        let cart = cart.ok_or_else(not_found)?;
        if cart.version != checkout.version {
            return Err(rows::changed().into());
        }
        if cart.lines.is_empty() {
            return Err(
                Problem::new(&["cartId"], ProblemCode::EmptyOrder, "the cart is empty").into(),
            );
        }
        Ok(cart)
    }

    /// What products cost now, and how many there are.
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

    /// Deletes a batch of guests' carts that were left; answers how many.
    pub async fn carts_trim(&self) -> Result<u64, Error> {
        let before = self.clock.now() - micros(GUESTS_KEPT);
        let txn = self.database.begin().await?;
        let deleted = rows::cart_trim_in_txn(&txn, before, purge::BATCH).await?;
        txn.commit().await?;
        Ok(deleted)
    }
}

/// An open cart that the caller may touch, and whether it is a guest's.
async fn find<C: ConnectionTrait>(
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
    // Such text names no cart, and PostgreSQL would refuse it.
    if id.len() > 36 || !id.is_ascii() || id.contains('\0') {
        return Ok(None);
    }
    let Some((cart, token_hash)) = rows::cart_fetch(txn, id).await? else {
        return Ok(None);
    };
    match (&cart.customer_id, token_hash) {
        (Some(owner), _) if caller.is_user(owner) => Ok(Some((cart, false))),
        (None, Some(known)) => {
            // Hashes are compared: how long that takes tells nothing of the token.
            let fits = at
                .token
                .as_deref()
                .is_some_and(|token| hash(token) == known);
            Ok(fits.then_some((cart, true)))
        }
        _ => Ok(None),
    }
}

/// Makes the caller's cart; a guest's has a token, which is told once.
async fn open<C: ConnectionTrait>(txn: &C, caller: &Caller, now: Micros) -> Result<Opened, Error> {
    let id = stoa_schema::ids::new_id();
    let (holder, token) = match caller.user_id() {
        Some(customer) => (Holder::Customer(customer.clone()), None),
        None => {
            let token = format!(
                "{}{}",
                uuid::Uuid::new_v4().simple(),
                uuid::Uuid::new_v4().simple()
            );
            (Holder::Guest(hash(&token)), Some(token))
        }
    };
    let cart = rows::cart_insert_in_txn(txn, &id, &holder, now).await?;
    Ok(Opened { cart, token })
}

fn hash(token: &str) -> String {
    if token.len() > MAX_TOKEN {
        return String::new();
    }
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Products and units, each product once.
fn check_lines(wishes: &[UnitsWish], edit: Edit) -> Result<Vec<(ProductId, u32)>, Vec<Problem>> {
    if wishes.is_empty() || wishes.len() > MAX_LINES {
        return Err(vec![Problem::new(
            &["lines"],
            ProblemCode::Invalid,
            format!("must be between 1 and {MAX_LINES}"),
        )]);
    }
    let mut problems = Vec::new();
    let mut lines: Vec<(ProductId, u32)> = Vec::new();
    for (index, wish) in wishes.iter().enumerate() {
        let quantity = match wish.quantity {
            0 if edit == Edit::Update => Ok(0),
            quantity => check_quantity(quantity, index),
        };
        match (ProductId::parse(&wish.product_id), quantity) {
            (None, _) => problems.push(unavailable(index)),
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

fn unavailable(index: usize) -> Problem {
    Problem::new(
        &["lines", &index.to_string(), "productId"],
        ProblemCode::ProductUnavailable,
        "there is no such product on sale",
    )
}

fn not_found() -> Problem {
    Problem::new(
        &["cartId"],
        ProblemCode::CartNotFound,
        "there is no such open cart",
    )
}
