//! End-to-end tests of the shop: each scenario runs against a single process, against
//! router and subgraphs as separate processes, and against two replicas of each over
//! PostgreSQL, Redis and NATS.
//!
//! `cargo test -p stoa-tests --test e2e -- NAME` runs some of them.

mod accounts;
mod cart;
mod catalogue;
mod chaos;
mod connections;
mod cost;
mod crash;
mod doctor;
mod events;
mod faults;
mod http;
mod idempotent;
mod input;
mod live;
mod ordering;
mod payments;
mod settings;
mod support;
mod traces;

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use stoa_tests::{Mode, Shop, servers};

type Shared = Arc<OnceLock<Shop>>;

/// Tests of scenarios that share one shop per mode.
macro_rules! shared {
    ($shops:expr, $($module:ident :: $name:ident),+ $(,)?) => {{
        let mut trials = Vec::new();
        for (mode, shop) in $shops {
            $({
                let shop: Shared = shop.clone();
                let mode: Mode = mode;
                let name = format!("{}::{}::{}", mode.name(), stringify!($module), stringify!($name));
                trials.push(Trial::test(name, move || {
                    let shop = shop.get_or_init(|| Shop::start(mode));
                    run($module::$name(shop))
                }));
            })+
        }
        trials
    }};
}

/// Tests of scenarios that break their shop, so each starts its own.
macro_rules! own {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$(Trial::test(
            format!("own::{}::{}", stringify!($module), stringify!($name)),
            || { $module::$name(); Ok(()) },
        )),+]
    };
}

fn run(scenario: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failed::from)?
        .block_on(scenario);
    Ok(())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Limits the load: several shops and their clients may share two cores.
    arguments.test_threads.get_or_insert(4);
    let mut shops: Vec<(Mode, Shared)> = vec![
        (Mode::One, Shared::default()),
        (Mode::Separate, Shared::default()),
    ];
    if servers::replicas_available() {
        shops.push((Mode::Real, Shared::default()));
    }
    let mut trials = shared!(
        shops.clone(),
        accounts::register_sign_in_refresh_and_sign_out,
        accounts::a_stolen_refresh_token_is_worth_nothing,
        accounts::bad_input_changes_nothing,
        accounts::others_see_little,
        accounts::a_deleted_account_is_gone,
        cart::a_cart_from_guest_to_order,
        cart::an_address_book,
        catalogue::lists_search_and_pages,
        catalogue::administrators_keep_it,
        catalogue::bad_input_changes_nothing,
        catalogue::pictures_are_drawn,
        cost::nested_pages_have_a_limit,
        events::a_poison_event_is_dead_lettered,
        http::media_types_and_methods,
        http::malformed_and_oversized_requests,
        http::tokens,
        http::health_metrics_and_correlation,
        http::the_page_is_served,
        http::introspection,
        http::connections,
        http::plans_and_descriptions,
        live::an_order_from_click_to_door,
        live::resuming_misses_and_repeats_nothing,
        live::cursors_open_nothing_else,
        live::the_live_cursor_closes_the_gap,
        live::the_inbox,
        live::clients_that_we_did_not_write,
        ordering::one_query_crosses_all_services,
        ordering::a_declined_payment_returns_the_units,
        ordering::bad_orders_change_nothing,
        ordering::keys_are_good_for_one_order,
        ordering::illegal_moves_name_the_legal_ones,
        ordering::cancelling_and_refunding,
        ordering::shipments_and_partial_refunds,
        ordering::orders_of_others_are_closed,
        payments::every_sandbox_method_ends_as_it_says,
        payments::administrators_see_what_an_order_waits_for,
        payments::webhooks_of_others_are_refused,
        ordering::sixty_four_buyers_of_ten_units,
    );
    trials.extend(own![
        faults::an_unreachable_subgraph_takes_down_nothing_else,
        faults::a_killed_shop_forgets_nothing,
        faults::a_role_waits_for_what_it_needs,
        faults::the_commands_of_an_operator,
        faults::rate_limits,
        http::lists_of_requests,
        crash::every_step_of_the_saga,
        crash::every_step_of_the_saga_in_separate_processes,
        crash::every_step_of_the_saga_on_postgresql,
        input::of_every_mutation,
        input::of_every_mutation_on_postgresql,
        doctor::what_does_not_add_up_is_found,
        faults::production_refuses_development,
        payments::stripe_takes_and_returns_the_money,
        settings::everything_wrong_is_reported_at_once,
        settings::production_names_all_that_is_missing,
        settings::commands_create_no_folder,
        settings::a_file_may_hold_what_the_environment_may,
        settings::the_reference_is_the_table,
        settings::a_closed_pipe_ends_a_command_quietly,
        traces::an_order_is_one_trace,
        connections::faults_that_are_not_repeated_are_the_only_errors,
        connections::faults_with_two_replicas_of_each_role,
        idempotent::every_idempotent_mutation_is_repeated,
        chaos::kill_everything_while_customers_order_and_watch,
    ]);
    let of = |set: &str| {
        let prefix = format!("{set}::");
        let names = trials.iter().map(Trial::name);
        names.filter(|name| name.starts_with(&prefix)).count()
    };
    let counts = ["one", "separate", "real", "own"].map(|set| format!("{set} {}", of(set)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("scenarios by set: {}", counts.join(", "));
    // `exit` runs no destructors, so stop the shops' processes first.
    for (_, shop) in shops {
        drop(Arc::try_unwrap(shop).ok().and_then(OnceLock::into_inner));
    }
    conclusion.exit();
}
