//! Payments: webhooks, reservations that expire, and Stripe.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_against_the_client() {
    on_both(async |shop| {
        let (buyer, product) = (person(Role::Customer), shop.product(1_000).await);
        let news = |order: &Order, id: usize| {
            let (orders, id) = (shop.orders.clone(), format!("{}-{id}", order.id));
            let event = PaymentEvent {
                id,
                kind: "payment.decided".to_owned(),
                order_id: Some(order.id.clone()),
            };
            tokio::spawn(async move {
                orders.saga.event_store(&event, b"{}").await.unwrap();
                stoa_orders::tasks::work_once(&orders.saga).await.unwrap();
            })
        };
        for _ in 0..ROUNDS {
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            let webhooks = [news(&order, 1), news(&order, 1), news(&order, 2)];
            let cancelled = change(shop, &buyer, &OrderAction::Cancel, &order, &key());
            for one in webhooks {
                one.await.unwrap();
            }
            cancelled.await.unwrap().unwrap();
            assert_eq!(status(shop, &order).await, Status::Cancelled);
        }
        // Forced: the client's change has locked the order while the webhook's step runs.
        let order = place(shop, &buyer, &product, 1).await;
        tick(shop, Duration::from_secs(1));
        let key = key();
        let mut held = hold("change.locked", &key);
        let cancelled = change(shop, &buyer, &OrderAction::Cancel, &order, &key);
        held.reached().await;
        let webhooks = news(&order, 1);
        blocked_or_finished(&webhooks).await;
        held.release();
        cancelled.await.unwrap().unwrap();
        webhooks.await.unwrap();
        assert_eq!(status(shop, &order).await, Status::Cancelled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_runs_out_against_its_confirmation() {
    on_both(async |shop| {
        let buyer = person(Role::Customer);
        let both = |shop: &InProcessShop| {
            let (orders, products) = (shop.orders.clone(), shop.products.clone());
            let work =
                tokio::spawn(
                    async move { stoa_orders::tasks::work_once(&orders.saga).await.unwrap() },
                );
            let sweep =
                tokio::spawn(async move { products.release_expired_reservations().await.unwrap() });
            (work, sweep)
        };
        // By the clock of products the reservation has expired; by that of orders it has not.
        let up = Duration::from_secs(16 * 60);
        for _ in 0..ROUNDS {
            let product = shop.product(1).await;
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            shop.clocks[1].advance(up);
            let (work, sweep) = both(shop);
            work.await.unwrap();
            sweep.await.unwrap();
            agree(shop, &order, &product).await;
        }
        for (place_of, wins) in [
            ("commit.set", Status::Confirmed),
            ("expire.returned", Status::Cancelled),
        ] {
            let product = shop.product(1).await;
            let order = place(shop, &buyer, &product, 1).await;
            tick(shop, Duration::from_secs(1));
            shop.clocks[1].advance(up);
            let mut held = hold(place_of, order.id.as_str());
            let (orders, products) = (shop.orders.clone(), shop.products.clone());
            if place_of == "commit.set" {
                let work = tokio::spawn(async move {
                    stoa_orders::tasks::work_once(&orders.saga).await.unwrap()
                });
                held.reached().await;
                let sweep =
                    tokio::spawn(
                        async move { products.release_expired_reservations().await.unwrap() },
                    );
                blocked_or_finished(&sweep).await;
                held.release();
                sweep.await.unwrap();
                work.await.unwrap();
            } else {
                let sweep =
                    tokio::spawn(
                        async move { products.release_expired_reservations().await.unwrap() },
                    );
                held.reached().await;
                let work = tokio::spawn(async move {
                    stoa_orders::tasks::work_once(&orders.saga).await.unwrap()
                });
                blocked_or_finished(&work).await;
                held.release();
                sweep.await.unwrap();
                work.await.unwrap();
            }
            assert_eq!(agree(shop, &order, &product).await, wins);
        }
    })
    .await;
}

/// Asserts that the unit is sold if and only if the order is confirmed.
async fn agree(shop: &InProcessShop, order: &Order, product: &ProductId) -> Status {
    stoa_orders::tasks::work_once(&shop.orders.saga)
        .await
        .unwrap();
    let status = status(shop, order).await;
    let stock = shop.stock(std::slice::from_ref(product)).await[0];
    match status {
        Status::Confirmed => assert_eq!(stock, 0),
        Status::Cancelled => assert_eq!(stock, 1),
        other => panic!("{other:?}"),
    }
    status
}

/// Of two workers that request the same step from Stripe, one is rejected; that must
/// not count as a declined payment.
#[tokio::test(flavor = "multi_thread")]
async fn one_payment_at_stripe_by_two_workers() {
    let fake = FakeStripe::default();
    let options = StripeOptions {
        url: fake.serve().await,
        secret_key: stripe::SECRET_KEY.into(),
        webhook_secret: stripe::WEBHOOK_SECRET.into(),
    };
    let stripe = Stripe::new(options, Clock::system()).unwrap();
    for _ in 0..ROUNDS * 4 {
        let mut payment = Payment {
            provider: "stripe".to_owned(),
            order_id: OrderId::new(),
            method: "pm_card_visa".to_owned(),
            amount: Money::new(500, Currency::parse("EUR").unwrap()),
            reference: None,
            started_at: 0,
        };
        let (one, two) = tokio::join!(stripe.authorise(&payment), stripe.authorise(&payment));
        for authorised in [one.unwrap(), two.unwrap()] {
            let Authorised::Approved { reference } = authorised else {
                panic!("{authorised:?}");
            };
            payment.reference = Some(reference);
        }
        let (one, two) = tokio::join!(stripe.capture(&payment), stripe.capture(&payment));
        assert_eq!(
            (one.unwrap(), two.unwrap()),
            (Captured::Done, Captured::Done)
        );
    }
}
