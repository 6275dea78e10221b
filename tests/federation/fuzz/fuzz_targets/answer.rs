#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use stoa_federation_tests::fuzz;

fuzz_target!(|bytes: &[u8]| {
    static GRAPH: LazyLock<Arc<fuzz::Graph>> = LazyLock::new(|| Arc::new(fuzz::graph()));
    let plan = fuzz::answered_plan(&GRAPH);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    if let Ok(runtime) = runtime {
        runtime.block_on(fuzz::answer(&GRAPH, &plan, bytes));
    }
});
