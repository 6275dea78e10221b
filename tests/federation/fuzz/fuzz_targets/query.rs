#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stoa_federation_tests::fuzz;

fuzz_target!(|text: &str| {
    static GRAPH: LazyLock<fuzz::Graph> = LazyLock::new(fuzz::graph);
    fuzz::query(&GRAPH, text);
});
