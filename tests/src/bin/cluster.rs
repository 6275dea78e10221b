//! Runs a whole cluster on this machine until Ctrl-C: `cargo xtask cluster`.

use stoa_tests::shop::{PASSWORD, REPLICAS};
use stoa_tests::{Mode, Shop, servers};
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    if !servers::replicas_available() {
        eprintln!("cluster: cannot start");
        std::process::exit(1);
    }
    println!("Starting PostgreSQL, Redis and NATS, then {REPLICAS} replicas of each role ...");
    // Rate limits are on, as in production, unless the environment says otherwise.
    let limit = std::env::var("STOA_RATE_LIMIT").unwrap_or_else(|_| "on".to_owned());
    let shop = Shop::start_with(Mode::Real, &[("STOA_RATE_LIMIT", &limit)]);
    println!("\n  The cluster is running.\n");
    println!("  Playground  {}/", shop.url);
    println!("  GraphQL     {}/graphql", shop.url);
    println!("  Logs        {}/*.log", shop.folder().display());
    for (name, value) in shop.settings() {
        println!("  {name}={value}");
    }
    println!("\n  Sign in as ada@stoa.test, lin@stoa.test or admin@stoa.test, password {PASSWORD}");
    println!("\n  Stop with Ctrl-C.\n");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals can be heard");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    });
    println!("  Stopping; the data is deleted.");
    drop(shop);
}
