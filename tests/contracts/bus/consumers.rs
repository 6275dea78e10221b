//! Consumers that several processes share.

use super::*;

pub async fn a_consumer_goes_on_where_it_acknowledged(fixture: Fixture) {
    let bus = fixture.open().await;
    for index in 0..5 {
        for (subject, id) in [("a", "m"), ("b", "n")] {
            let subject = format!("{subject}.{index}");
            bus.publish(message(&subject, &format!("{id}{index}"), 0))
                .await
                .unwrap();
        }
    }
    let mut consumer = bus.consumer("c", "stoa.a.*").await.unwrap();
    for index in 0..3 {
        let next = consumer.next().await.unwrap();
        assert_eq!(&*next.message.subject, format!("stoa.a.{index}"));
        assert_eq!(next.attempt, 1);
        if index < 2 {
            consumer.acknowledge().await.unwrap();
        }
    }
    drop(consumer);
    // Another process, after a crash: unacknowledged messages are redelivered.
    let bus = fixture.open().await;
    let mut consumer = bus.consumer("c", "stoa.a.*").await.unwrap();
    for index in 2..5 {
        let next = consumer.next().await.unwrap();
        assert_eq!(&*next.message.subject, format!("stoa.a.{index}"));
        assert_eq!(next.attempt, if index == 2 { 2 } else { 1 });
        consumer.acknowledge().await.unwrap();
    }
    let nothing = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(nothing.is_err());
}

pub async fn two_processes_share_a_consumer_in_order(fixture: Fixture) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let in_flight = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let bus = fixture.open().await;
        let (seen, in_flight) = (seen.clone(), in_flight.clone());
        tasks.push(tokio::spawn(async move {
            consume(bus, "shared", "stoa.a.*", |message| {
                let (seen, in_flight) = (seen.clone(), in_flight.clone());
                async move {
                    in_flight.fetch_add(1, Ordering::SeqCst);
                    // The other process gets to run, and must not get a message.
                    for _ in 0..1_000 {
                        tokio::task::yield_now().await;
                        if in_flight.load(Ordering::SeqCst) > 1 {
                            return Err(Failure::Poison("two at once".into()));
                        }
                    }
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    seen.lock().unwrap().push(message.sequence);
                    Ok(())
                }
            })
            .await;
        }));
    }
    let bus = fixture.open().await;
    for index in 0..100 {
        bus.publish(message(&format!("a.{index}"), &format!("m{index}"), 0))
            .await
            .unwrap();
    }
    eventually("all are handled", async || {
        seen.lock().unwrap().len() >= 100
    })
    .await;
    for task in &tasks {
        task.abort();
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 100, "each once");
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    assert!(bus.dead_letters(10).await.unwrap().is_empty());
}

pub async fn a_slow_message_stays_with_its_process(fixture: Fixture) {
    let bus = fixture.open().await;
    bus.publish(message("a.1", "m1", 0)).await.unwrap();
    let handled = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = [fixture.open().await, fixture.open().await]
        .into_iter()
        .map(|bus| {
            let handled = handled.clone();
            tokio::spawn(async move {
                consume(bus, "slow", "stoa.a.*", |_| {
                    let handled = handled.clone();
                    async move {
                        handled.fetch_add(1, Ordering::SeqCst);
                        std::future::pending().await
                    }
                })
                .await;
            })
        })
        .collect();
    eventually("it is handled", async || {
        handled.load(Ordering::SeqCst) == 1
    })
    .await;
    let late = bus::ACK_DEADLINE + Duration::from_secs(4);
    never_within("it is redelivered", late, async || {
        handled.load(Ordering::SeqCst) > 1
    })
    .await;
    for task in tasks {
        task.abort();
    }
}

pub async fn a_poison_message_is_dead_lettered_and_replayed(fixture: Fixture) {
    let bus = fixture.open().await;
    for index in 0..3 {
        bus.publish(message(&format!("a.{index}"), &format!("m{index}"), 0))
            .await
            .unwrap();
    }
    let tries = Arc::new(AtomicU32::new(0));
    let handled = Arc::new(std::sync::Mutex::new(Vec::new()));
    let fixed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let task = {
        let (tries, handled, fixed) = (tries.clone(), handled.clone(), fixed.clone());
        let bus = fixture.open().await;
        tokio::spawn(async move {
            consume(bus, "picky", "stoa.a.*", |message| {
                let (tries, handled, fixed) = (tries.clone(), handled.clone(), fixed.clone());
                async move {
                    let is_bad = message.payload.ends_with("m1");
                    if is_bad && !fixed.load(Ordering::SeqCst) {
                        tries.fetch_add(1, Ordering::SeqCst);
                        return Err(Failure::Failed("it does not taste".into()));
                    }
                    handled.lock().unwrap().push(message.payload.to_string());
                    Ok(())
                }
            })
            .await;
        })
    };
    // The other messages are not blocked by it.
    eventually("the last is handled", async || {
        handled.lock().unwrap().len() == 2
    })
    .await;
    assert_eq!(tries.load(Ordering::SeqCst), MAX_FAILURES);
    let dead = bus.dead_letters(10).await.unwrap();
    let [(id, letter)] = dead.as_slice() else {
        panic!("one dead letter: {dead:?}")
    };
    assert_eq!(letter.consumer, "picky");
    assert_eq!(letter.subject, "stoa.a.1");
    assert_eq!(letter.payload, "payload of m1");
    assert!(letter.error.contains("taste"));
    // Storing the same dead letter again does not duplicate it.
    bus.dead_letter(letter).await.unwrap();
    assert_eq!(bus.dead_letters(10).await.unwrap().len(), 1);

    // Replayed before the fix it is dead-lettered again, under its original subject.
    bus::replay(&*bus, *id, letter).await.unwrap();
    eventually("it is tried again", async || {
        tries.load(Ordering::SeqCst) == 2 * MAX_FAILURES
    })
    .await;
    eventually("it is dead-lettered again", async || {
        bus.dead_letters(10).await.unwrap().len() == 1
    })
    .await;
    let (id, letter) = bus.dead_letters(10).await.unwrap().remove(0);
    assert_eq!(letter.subject, "stoa.a.1");
    fixed.store(true, Ordering::SeqCst);
    bus::replay(&*bus, id, &letter).await.unwrap();
    eventually("it is handled", async || handled.lock().unwrap().len() == 3).await;
    assert_eq!(handled.lock().unwrap()[2], "payload of m1");
    assert!(bus.dead_letters(10).await.unwrap().is_empty());
    task.abort();
}

pub async fn what_is_away_is_waited_for(fixture: Fixture) {
    let bus = fixture.open().await;
    bus.publish(message("a.1", "m1", 0)).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let done = Arc::new(AtomicU32::new(0));
    let task = {
        let (tries, done, bus) = (tries.clone(), done.clone(), fixture.open().await);
        tokio::spawn(async move {
            consume(bus, "patient", "stoa.a.*", |_| {
                let (tries, done) = (tries.clone(), done.clone());
                async move {
                    // More attempts than `MAX_FAILURES` allows for failures.
                    if tries.fetch_add(1, Ordering::SeqCst) < MAX_FAILURES + 2 {
                        return Err(Failure::Unavailable("the database is unavailable".into()));
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            })
            .await;
        })
    };
    eventually("it is handled", async || done.load(Ordering::SeqCst) > 0).await;
    let late = Duration::from_secs(1);
    never_within("it is handled twice", late, async || {
        done.load(Ordering::SeqCst) > 1
    })
    .await;
    assert!(bus.dead_letters(10).await.unwrap().is_empty());
    task.abort();
}

/// A message that crashes its process is redelivered to the next one, a limited number
/// of times. Only on the embedded bus, where a manual clock skips the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_processes_is_dead_lettered() {
    let fixture = Fixture::embedded().unwrap();
    let clock = Clock::manual(1_800_000_000_000_000);
    let bus = fixture.open_embedded(clock.clone()).await;
    bus.publish(message("a.1", "m1", 0)).await.unwrap();
    bus.publish(message("a.2", "m2", 0)).await.unwrap();
    for attempt in 1..=MAX_ATTEMPTS {
        let mut consumer = bus.consumer("brittle", "stoa.a.*").await.unwrap();
        assert_eq!(consumer.next().await.unwrap().attempt, attempt);
        drop(consumer);
        clock.advance(bus::ACK_DEADLINE + Duration::from_secs(1));
    }
    let handled = Arc::new(std::sync::Mutex::new(Vec::new()));
    let task = {
        let (bus, handled) = (Arc::new(bus.clone()), handled.clone());
        tokio::spawn(async move {
            consume(bus, "brittle", "stoa.a.*", |message| {
                handled.lock().unwrap().push(message.payload.to_string());
                async { Ok(()) }
            })
            .await;
        })
    };
    eventually("the next one is handled", async || {
        !handled.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(*handled.lock().unwrap(), ["payload of m2"]);
    let dead = bus.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].1.error.contains("10 processes ended"));
    task.abort();
}
