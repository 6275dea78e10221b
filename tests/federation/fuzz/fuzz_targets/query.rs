#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stoa_federation_tests::{Federation, fuzz};

fuzz_target!(|text: &str| {
    static GRAPH: LazyLock<Federation> = LazyLock::new(fuzz::graph);
    fuzz::query(&GRAPH, text);
});
