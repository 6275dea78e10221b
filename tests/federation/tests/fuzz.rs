//! Runs the fuzz targets on the committed corpus and on a bounded number of random
//! mutations of it. `STOA_SEED=N` repeats a run, `STOA_FUZZ=N` makes it longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use stoa_federation_tests::fuzz;

/// The time limit of a single input, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Tokens to insert.
const WORDS: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\"",
    "\\",
    "@key(fields: \"id\")",
    "@requires(fields: \"",
    "... on ",
    "fragment F on User { ...F }",
    "__typename",
    "null",
    "-",
    "1e999",
    "\u{0}",
    "é",
    "\u{2028}",
    "extend ",
    "interface I @key(fields: \"id\") { id: ID! }",
    "@interfaceObject",
    "@override(from: \"fixed\")",
    "{\"data\":",
    "_entities",
    "union U = U",
    "type A implements A",
];

fn mutate(corpus: &[Vec<u8>], rng: &mut TestRng) -> Vec<u8> {
    let pick = |rng: &mut TestRng, bound: usize| (rng.next_u64() % bound.max(1) as u64) as usize;
    let mut bytes = corpus[pick(rng, corpus.len())].clone();
    for _ in 0..=pick(rng, 6) {
        let at = pick(rng, bytes.len() + 1);
        let end = (at + pick(rng, 40)).min(bytes.len());
        match pick(rng, 6) {
            0 => {
                bytes.drain(at..end);
            }
            1 => {
                let copied = bytes[at..end].to_vec();
                let to = pick(rng, bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            2 => {
                let word = WORDS[pick(rng, WORDS.len())].as_bytes();
                bytes.splice(at..at, word.iter().copied());
            }
            3 if at < bytes.len() => bytes[at] = rng.next_u32() as u8,
            4 => {
                let other = &corpus[pick(rng, corpus.len())];
                let from = pick(rng, other.len() + 1);
                let until = (from + pick(rng, 200)).min(other.len());
                bytes.splice(at..at, other[from..until].iter().copied());
            }
            _ => {
                let piece = bytes[at..end].to_vec();
                let times = pick(rng, 30);
                bytes.splice(at..at, piece.repeat(times));
            }
        }
    }
    bytes
}

fn run(target: &str, rounds: u64, mut one: impl FnMut(&[u8])) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("STOA_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_nanos() % 1_000_000_007).unwrap()
    });
    let rounds = rounds * number("STOA_FUZZ").unwrap_or(1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let corpus = corpus(target);
    let mutated = (0..rounds)
        .map(|_| mutate(&corpus, &mut rng))
        .collect::<Vec<_>>();
    for input in corpus.iter().chain(&mutated) {
        let started = Instant::now();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(input)));
        assert!(
            caught.is_ok() && started.elapsed() < LIMIT,
            "seed {seed}, {:?}: {:?}",
            started.elapsed(),
            String::from_utf8_lossy(input)
        );
    }
    println!(
        "fuzz {target}: seed {seed}, {} inputs",
        corpus.len() + mutated.len()
    );
}

#[test]
fn sdl() {
    run("sdl", 3_000, |bytes| {
        fuzz::sdl(&String::from_utf8_lossy(bytes))
    });
}

#[test]
fn query() {
    let graph = fuzz::graph();
    run("query", 5_000, |bytes| {
        fuzz::query(&graph, &String::from_utf8_lossy(bytes));
    });
}

#[test]
fn answer() {
    let graph = fuzz::graph().graph;
    let query = fuzz::answered(&graph);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    run("answer", 20_000, |bytes| {
        runtime.block_on(fuzz::answer(&graph, &query, bytes));
    });
}

/// Short valid documents that are as expensive to plan as their length allows.
#[test]
fn adversarial() {
    let graph = fuzz::graph();
    // Fragments that double: 2^n fields, each from both subgraphs.
    let doubling = |levels: usize, body: &str| {
        let mut text = "{ user { ...f0 } }".to_owned();
        for level in 0..levels {
            let n = level + 1;
            let inner = body.replace("NEXT", &format!("...f{n}"));
            text.push_str(&format!(" fragment f{level} on User {{ {inner} }}"));
        }
        text.push_str(&format!(" fragment f{levels} on User {{ id }}"));
        text
    };
    let nested = |depth: usize| {
        format!(
            "{{ user {}{}{} }}",
            "{ friends ".repeat(depth),
            "{ posts { title size } }",
            " }".repeat(depth)
        )
    };
    let wide = |count: usize| {
        let fields: String = (0..count)
            .map(|n| format!(" a{n}: posts(first: {n}) {{ title size }}"))
            .collect();
        format!("{{ user {{ {fields} }} }}")
    };
    for (name, text) in [
        (
            "12 levels that double",
            doubling(12, "a: friends { NEXT } b: friends { NEXT }"),
        ),
        (
            "14 levels that double",
            doubling(
                14,
                "a: friends { kind NEXT } b: friends { NEXT best { title } }",
            ),
        ),
        (
            "40 levels that double",
            doubling(40, "a: friends { NEXT } b: friends { NEXT }"),
        ),
        ("100 levels of nesting", nested(100)),
        ("100 aliases", wide(100)),
        (
            "fields two hundred times",
            format!("{{ user {{ {} }} }}", "kind posts { title } ".repeat(200)),
        ),
    ] {
        let started = Instant::now();
        let planned = fuzz::query(&graph, &text);
        println!(
            "fuzz: {name}, {} bytes: {planned:?} in {:.1?}",
            text.len(),
            started.elapsed()
        );
        assert!(!planned.is_empty(), "{name} is valid");
        assert!(started.elapsed() < LIMIT, "{name}: {:?}", started.elapsed());
    }
}
