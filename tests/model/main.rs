//! Model-based test: random sequences of operations by customers, administrators,
//! workers and clocks, with injected faults, run on the real orders and products
//! services and are compared with a small model.
//!
//! `STOA_SEED=N` runs from a seed that a failure printed, `STOA_CASES=N` more or
//! fewer sequences. A failure is shrunk to a minimal sequence.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod model;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use model::RequestedChange;
use stoa_tests::faulty::InjectedFault;
use world::{Op, Template, World};

/// The longest sequence.
const LENGTH: usize = 30;
const THREADS: usize = 2;

fn main() {
    // Test runners ask for the list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        println!("the_shop_does_as_the_model: test");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases: usize = number("STOA_CASES").unwrap_or(2_000);
    let seed: usize = number("STOA_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        usize::try_from(now.unwrap().as_nanos() % 1_000_000_007).unwrap()
    });
    println!("model: seed {seed}");
    let started = Instant::now();
    let template = Template::create();
    let count = Counts::default();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (template, count) = (&template, &count);
                let cases = cases.div_ceil(THREADS);
                scope.spawn(move || run(template, count, cases, seed, thread))
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.flatten().collect()
    });
    for failure in &failures {
        eprintln!("model: {failure}\nrun it again with STOA_SEED={seed}");
    }
    let seconds = started.elapsed().as_secs_f32();
    println!(
        "model: {} sequences of {} operations with {} faults, {} orders of which {} were paid, {seconds:.1} s",
        count.sequences.load(Ordering::Relaxed),
        count.operations.load(Ordering::Relaxed),
        count.faults.load(Ordering::Relaxed),
        count.orders.load(Ordering::Relaxed),
        count.paid.load(Ordering::Relaxed),
    );
    assert!(failures.is_empty());
}

/// Statistics of the run.
#[derive(Default)]
pub struct Counts {
    sequences: AtomicUsize,
    operations: AtomicUsize,
    pub faults: AtomicUsize,
    pub orders: AtomicUsize,
    pub paid: AtomicUsize,
}

fn run(
    template: &Template,
    count: &Counts,
    cases: usize,
    seed: usize,
    thread: usize,
) -> Option<String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&thread.to_le_bytes());
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runner.run(&vec(op(), 5..LENGTH), |ops| {
        count.sequences.fetch_add(1, Ordering::Relaxed);
        count.operations.fetch_add(ops.len(), Ordering::Relaxed);
        runtime.block_on(async {
            let mut world = World::open(template).await;
            let done = world.run(&ops, count).await;
            done.map_err(TestCaseError::fail)
        })
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(reason, ops)) => Some(format!("{reason}, after {ops:#?}")),
        Err(error) => Some(error.to_string()),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..100_usize;
    prop_oneof![
        6 => (0..2_usize, vec((0..3_usize, 1..4_u32), 1..3), 0..4_usize)
            .prop_map(|(customer, lines, method)| Op::Place { customer, lines, method }),
        2 => index.clone().prop_map(Op::Repeat),
        7 => (index.clone(), requested(), any::<bool>())
            .prop_map(|(order, requested, by_admin)| Op::Change { order, requested, by_admin }),
        1 => index.clone().prop_map(Op::RepeatChange),
        1 => (0..3_usize, -4..6_i64).prop_map(|(product, delta)| Op::Adjust { product, delta }),
        8 => Just(Op::Work),
        1 => Just(Op::Sweep),
        4 => prop_oneof![
            4 => Just(1), 2 => Just(40), 1 => Just(600), 1 => Just(1_000), 1 => Just(4_000)
        ].prop_map(Op::Advance),
        1 => prop_oneof![Just(5), Just(2_000)].prop_map(Op::TurnBack),
        1 => index.prop_map(Op::Webhook),
        4 => (0..6_usize, how()).prop_map(|(skip, how)| Op::Fault { skip, how }),
    ]
}

fn how() -> impl Strategy<Value = InjectedFault> {
    prop_oneof![
        Just(InjectedFault::Unavailable),
        Just(InjectedFault::Lost),
        Just(InjectedFault::CrashBefore),
        Just(InjectedFault::CrashAfter),
    ]
}

fn requested() -> impl Strategy<Value = RequestedChange> {
    let some = (0..2_usize, 1..4_u32);
    prop_oneof![
        Just(RequestedChange::Cancel),
        Just(RequestedChange::Ship),
        Just(RequestedChange::Deliver),
        Just(RequestedChange::Refund),
        some.clone()
            .prop_map(|(line, units)| RequestedChange::ShipSome(line, units)),
        (some, any::<bool>())
            .prop_map(|((line, units), restock)| RequestedChange::RefundSome(line, units, restock)),
    ]
}
