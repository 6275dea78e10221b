//! What composes has a plan, for every path to every field; and the federated response
//! equals the monolith's, for random graphs, data and queries.
//!
//! `STOA_SEED=N` runs from a seed that a failure printed, `STOA_CASES=N` more or
//! fewer cases.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;
use std::time::Instant;

use apollo_compiler::ExecutableDocument;
use proptest::collection::vec;
use proptest::num::u16;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Map, Value};
use stoa_federation_tests::random::{Choices, paths, query, world};

/// Queries of each graph.
const QUERIES: usize = 10;

fn main() {
    // Test runners ask for the list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        println!("federated_answers_equal_the_monoliths: test");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases: usize = number("STOA_CASES").unwrap_or(10_000);
    let seed = number("STOA_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        usize::try_from(now.unwrap().as_nanos() % 1_000_000_007).unwrap()
    });
    println!("property: seed {seed}");
    let started = Instant::now();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(cases.div_ceil(QUERIES)).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 3_000,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let planned = Cell::new(0_usize);
    let asked = Cell::new(0_usize);
    let fetched = Cell::new(0_usize);
    let outcome = runner.run(
        &(vec(u16::ANY, 300), vec(u16::ANY, 1_500)),
        |(graph, queries)| {
            let world = world(&mut Choices::new(&graph)).map_err(TestCaseError::fail)?;
            for path in paths(world.federation.graph.api()) {
                planned.set(planned.get() + 1);
                let plan = world
                    .federation
                    .plan(&path, &Map::new(), &Default::default());
                if let Err(error) = plan {
                    let sdls = world.sdls.join("\n---\n");
                    return Err(TestCaseError::fail(format!("{path}\n{error}\n{sdls}")));
                }
            }
            let mut choices = Choices::new(&queries);
            let mut valid = 0;
            // A few generated queries are invalid, because their fields do not merge.
            for _ in 0..QUERIES * 3 {
                if valid == QUERIES {
                    break;
                }
                let text = query(world.federation.graph.api(), &mut choices);
                if ExecutableDocument::parse_and_validate(
                    world.federation.graph.api(),
                    text.as_str(),
                    "q",
                )
                .is_err()
                {
                    continue;
                }
                valid += 1;
                asked.set(asked.get() + 1);
                let expected = world.monolith.answer(&text, &Map::new());
                let answer = runtime.block_on(world.federation.ask(
                    &text,
                    &Map::new(),
                    &Default::default(),
                    world.federation.in_process(),
                ));
                fetched.set(fetched.get() + answer.fetches.values().sum::<usize>());
                // Generated data satisfies the schema, so the monolith must not have errors either.
                if answer.json != expected
                    || expected.get("errors").is_some_and(|e| *e != Value::Null)
                {
                    return Err(TestCaseError::fail(format!(
                        "{text}\nmonolith  {expected}\nfederated {}\n{}\n{}",
                        answer.json,
                        answer.plan.as_deref().unwrap_or("(no plan)"),
                        world.sdls.join("\n---\n")
                    )));
                }
            }
            Ok(())
        },
    );
    match outcome {
        Ok(()) => println!(
            "property: {} queries over {} graphs, {} paths planned, {} fetches, in {:.1?}",
            asked.get(),
            cases.div_ceil(QUERIES),
            planned.get(),
            fetched.get(),
            started.elapsed()
        ),
        Err(error) => {
            let text = match error {
                proptest::test_runner::TestError::Fail(reason, _) => reason.to_string(),
                other => other.to_string(),
            };
            println!("property: FAILED with seed {seed}, shrunk to:\n{text}");
            std::process::exit(1);
        }
    }
}
