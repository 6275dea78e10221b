#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stoa_federation_tests::{Federation, fuzz};

fuzz_target!(|bytes: &[u8]| {
    static GRAPH: LazyLock<Federation> = LazyLock::new(fuzz::graph);
    let query = fuzz::answered(&GRAPH.graph);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    if let Ok(runtime) = runtime {
        runtime.block_on(fuzz::answer(&GRAPH.graph, &query, bytes));
    }
});
