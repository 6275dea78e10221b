//! Discount codes and carts.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_discount_code() {
    on_both(async |shop| {
        let product = shop.product(100_000).await;
        let new = |code: &str| NewDiscount {
            code: code.to_owned(),
            percentage: Some(1_000),
            total_limit: Some(3),
            customer_limit: Some(2),
            ..NewDiscount::default()
        };
        let buy = |buyer: &Caller, code: &str, key: &str| {
            let (orders, context) = (shop.orders.clone(), call(buyer));
            let mut request = request(&[(&product, 1)], APPROVE);
            request.discount_code = Some(code.to_owned());
            let key = key.to_owned();
            tokio::spawn(async move { orders.orders.order_place(&context, &request, &key).await })
        };
        for round in 0..ROUNDS {
            let code = format!("ROUND-{round}");
            let made = shop
                .orders
                .discounts
                .discount_create(&shop.admin, new(&code))
                .await;
            made.unwrap();
            let buyers = [person(Role::Customer), person(Role::Customer)];
            let tries: Vec<_> = (0..8)
                .map(|index| (index % 2, buy(&buyers[index % 2], &code, &key())))
                .collect();
            let mut used = [0, 0];
            for (buyer, one) in tries {
                match one.await.unwrap() {
                    Ok(_) => used[buyer] += 1,
                    refused => assert!(is_refused(&refused, ProblemCode::DiscountExhausted)),
                }
            }
            assert_eq!(used[0] + used[1], 3, "{used:?}");
            assert!(used.iter().all(|used| *used <= 2), "{used:?}");
        }
        // Forced: both have reserved stock before either takes the last use of the code.
        let mut last = new("LAST");
        last.total_limit = Some(1);
        shop.orders
            .discounts
            .discount_create(&shop.admin, last)
            .await
            .unwrap();
        let (buyer, first, second) = (person(Role::Customer), key(), key());
        let mut one = hold("place.reserved", &first);
        let mut two = hold("place.reserved", &second);
        let (winner, loser) = (buy(&buyer, "last", &first), buy(&buyer, "last", &second));
        one.reached().await;
        two.reached().await;
        one.release();
        winner.await.unwrap().unwrap();
        two.release();
        let refused = loser.await.unwrap();
        assert!(
            is_refused(&refused, ProblemCode::DiscountExhausted),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_from_two_tabs() {
    on_both(async |shop| {
        let goods = [shop.product(100).await, shop.product(100).await];
        let edit = |buyer: &Caller, edit: Edit, product: usize, units: i64, version| {
            let (orders, context) = (shop.orders.clone(), call(buyer));
            let line = LineQuantity {
                product_id: goods[product].to_string(),
                quantity: units,
            };
            tokio::spawn(async move {
                let own = CartRef::default();
                let lines = std::slice::from_ref(&line);
                orders
                    .carts
                    .cart_edit(&context, &own, edit, lines, version)
                    .await
            })
        };
        let units = async |buyer: &Caller| {
            let cart = shop
                .orders
                .carts
                .cart_fetch(buyer, &CartRef::default())
                .await;
            let lines = cart.unwrap().unwrap().lines;
            lines.iter().map(|line| line.quantity).sum::<u32>()
        };
        for _ in 0..ROUNDS {
            let buyer = person(Role::Customer);
            // Concurrent additions are all kept, even when one of them creates the cart.
            let tabs: Vec<_> = (0..6)
                .map(|tab| edit(&buyer, Edit::Add, tab % 2, 1, None))
                .collect();
            for tab in tabs {
                tab.await.unwrap().unwrap();
            }
            assert_eq!(units(&buyer).await, 6);
            // Of two updates of the same version, one is rejected.
            let tabs = [
                edit(&buyer, Edit::Update, 0, 9, Some(7)),
                edit(&buyer, Edit::Update, 1, 0, Some(7)),
            ];
            let mut done = 0;
            for tab in tabs {
                match tab.await.unwrap() {
                    Ok(_) => done += 1,
                    Err(Error::Invalid(problems)) => {
                        assert_eq!(problems[0].code, ProblemCode::CartChanged);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(done, 1);
        }
        // Forced: the cart changes during checkout, after the stock is reserved.
        let buyer = person(Role::Customer);
        let made = edit(&buyer, Edit::Add, 0, 1, None).await.unwrap().unwrap();
        let request = request(&[], APPROVE);
        let checkout = CheckoutRequest {
            cart: CartRef::default(),
            version: made.cart.version,
            shipping_address: request.shipping_address,
            payment_method: request.payment_method,
            discount_code: None,
        };
        let once = key();
        let mut held = hold("place.reserved", &once);
        let (orders, context, key) = (shop.orders.clone(), call(&buyer), once.clone());
        let ordered =
            tokio::spawn(async move { orders.orders.checkout(&context, &checkout, &key).await });
        held.reached().await;
        edit(&buyer, Edit::Add, 1, 1, None).await.unwrap().unwrap();
        held.release();
        let refused = ordered.await.unwrap();
        assert!(
            is_refused(&refused, ProblemCode::CartChanged),
            "{refused:?}"
        );
        assert_eq!(units(&buyer).await, 2, "nothing is lost");
    })
    .await;
}

/// Two replicas delete abandoned carts while one guest has come back.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_carts_that_guests_left() {
    on_both(async |shop| {
        let product = shop.product(100).await.to_string();
        let lines = [LineQuantity {
            product_id: product,
            quantity: 1,
        }];
        let add = async |at: &CartRef| {
            let guest = call(&Caller::Anonymous);
            let opened = shop
                .orders
                .carts
                .cart_edit(&guest, at, Edit::Add, &lines, None);
            opened.await.unwrap()
        };
        for _ in 0..ROUNDS {
            let mut refs = Vec::new();
            for _ in 0..3 {
                let opened = add(&CartRef::default()).await;
                refs.push(CartRef {
                    id: Some(opened.cart.id),
                    token: opened.token,
                });
            }
            tick(shop, Duration::from_secs(31 * 24 * 60 * 60));
            add(&refs[0]).await;
            let (one, two) = tokio::join!(
                shop.orders.carts.carts_purge_expired(),
                shop.orders.carts.carts_purge_expired()
            );
            assert_eq!(one.unwrap() + two.unwrap(), 2);
            let guest = Caller::Anonymous;
            let kept = shop
                .orders
                .carts
                .cart_fetch(&guest, &refs[0])
                .await
                .unwrap();
            assert_eq!(kept.unwrap().lines[0].quantity, 2);
            assert!(
                (shop.orders.carts.cart_fetch(&guest, &refs[1]).await)
                    .is_ok_and(|cart| cart.is_none())
            );
            // The kept cart expires too, so that the next round starts clean.
            tick(shop, Duration::from_secs(31 * 24 * 60 * 60));
            assert_eq!(shop.orders.carts.carts_purge_expired().await.unwrap(), 1);
        }
    })
    .await;
}
