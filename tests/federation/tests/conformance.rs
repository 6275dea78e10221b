//! The conformance suite: small federations from subgraph SDL to the client's response,
//! over real HTTP subgraphs.
//!
//! `cargo test -p stoa-federation-tests --test conformance -- NAME` runs some.
//! Each query runs again, three times, over subgraphs that close kept connections, with
//! the circuit breaker on: retries and breaker must change no response.
//! With `STOA_SUPERGRAPHS=DIR` it runs only those for which that folder has a supergraph
//! from another composer (`tests/clients/foreign.mjs` writes them).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use stoa_engine::{BreakerSettings, HttpLimits, HttpSettings, HttpTransport};
use stoa_federation::{CompositionErrors, Subgraph, compose};
use stoa_federation_tests::Answer;
use stoa_federation_tests::case::{self, Case, QueryCase};
use stoa_federation_tests::closing::serve_closing;
use stoa_federation_tests::federation::{Federation, RequestContext, ServedTransport, serve};

/// Opens at the first failure: a request that was repeated must not count as one.
const STRICT: BreakerSettings = BreakerSettings {
    share: f64::MIN_POSITIVE,
    window: Duration::from_secs(60),
    least: 1,
    pause: Duration::from_secs(60),
    probes: 1,
};

/// Answers that were compared with those without retries.
static COMPARED: AtomicUsize = AtomicUsize::new(0);
/// Requests that met a closed connection.
static REPEATED: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let foreign = std::env::var_os("STOA_SUPERGRAPHS").map(PathBuf::from);
    let mut trials = Vec::new();
    for file in files {
        let family = file.file_stem().unwrap().to_string_lossy().into_owned();
        let cases = case::parse(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in cases {
            let name = format!("{family}::{}", case.name.replace(' ', "_"));
            let supergraph = match &foreign {
                None => None,
                Some(folder) => {
                    match std::fs::read_to_string(folder.join(format!("{name}.graphql"))) {
                        Ok(sdl) => Some(sdl),
                        Err(_) => continue,
                    }
                }
            };
            trials.push(Trial::test(name, move || run(&case, supergraph.as_deref())));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Tools read the list.
    if !arguments.list {
        let compared = COMPARED.load(Ordering::Relaxed);
        let repeated = REPEATED.load(Ordering::Relaxed);
        println!("with retries: {compared} answers compared, {repeated} requests repeated");
        let is_whole_suite = conclusion.num_filtered_out == 0;
        assert!(repeated > 0 || !is_whole_suite, "nothing was repeated");
    }
    conclusion.exit();
}

fn run(case: &Case, supergraph: Option<&str>) -> Result<(), Failed> {
    let supergraph = supergraph.or(case.supergraph.as_deref());
    if supergraph.is_none() {
        check_order(case)?;
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let federation = match (Federation::over(&case.subgraphs, supergraph), &case.refused) {
                (Err(errors), Some(text)) if refuses(&errors, text) => return Ok(()),
                (Ok(_), Some(text)) => return Err(format!("composed, but expected: {text}").into()),
                (composed, _) => composed?,
            };
            if let (Some(wanted), None) = (&case.hints, supergraph) {
                let mut codes: Vec<_> = federation.hints.iter().map(|hint| hint.code).collect();
                codes.sort_unstable();
                if codes != *wanted {
                    let hints = &federation.hints;
                    return Err(format!("hints {codes:?}, not {wanted:?}\n{hints:?}").into());
                }
            }
            if supergraph.is_none() {
                let has = |text: &&String| federation.sdl.contains(text.as_str());
                let missing = case.includes.iter().find(|text| !has(text));
                if let Some(text) = missing.or(case.excludes.iter().find(has)) {
                    return Err(format!("{text}: is it there?\n{}", federation.sdl).into());
                }
            }
            let address = serve(federation.subgraphs.clone()).await?;
            for ask in &case.asks {
                let transport = Arc::new(ServedTransport {
                    http: HttpTransport::new(HttpLimits::default())?,
                    address,
                });
                let given = RequestContext {
                    labels: ask.labels.iter().map(String::as_str).collect(),
                    grants: ask.grants.clone(),
                };
                let answer = federation
                    .ask(&ask.query, &ask.variables, &given, transport)
                    .await;
                let wrong = |reason: &str| {
                    Failed::from(format!(
                        "{reason}\n{}\n\nexpected {}\nanswered {}\nfetches  {:?}\n{}",
                        ask.query,
                        ask.expect,
                        answer.json,
                        answer.fetches,
                        answer.plan.as_deref().unwrap_or("(no plan)")
                    ))
                };
                case::check(&ask.expect, &answer.json).map_err(|reason| wrong(&reason))?;
                if ask
                    .ordered
                    .as_ref()
                    .is_some_and(|text| *text != answer.text)
                {
                    return Err(wrong("the order differs"));
                }
                if let Some(fetches) = &ask.fetches
                    && *fetches != answer.fetches
                {
                    return Err(wrong(&format!("expected fetches {fetches:?}")));
                }
                check_with_retries(&federation, ask, &answer).await?;
            }
            Ok(())
        })
}

/// Retries and breaker must change nothing: response, or number of fetches. The first
/// run opens connections, the second meets their end, and the third would be refused if
/// the breaker had opened.
async fn check_with_retries(
    federation: &Federation,
    ask: &QueryCase,
    expected: &Answer,
) -> Result<(), Failed> {
    // Without a request there is nothing to repeat.
    if expected.fetches.is_empty() {
        return Ok(());
    }
    let closed = Arc::new(AtomicUsize::new(0));
    let address = serve_closing(federation.subgraphs.clone(), closed.clone()).await?;
    let settings = HttpSettings {
        breaker: Some(STRICT),
        ..HttpSettings::default()
    };
    let transport = Arc::new(ServedTransport {
        http: HttpTransport::with_settings(settings, HashMap::new())?,
        address,
    });
    let given = RequestContext {
        labels: ask.labels.iter().map(String::as_str).collect(),
        grants: ask.grants.clone(),
    };
    for _ in 0..3 {
        let answer = federation
            .ask(&ask.query, &ask.variables, &given, transport.clone())
            .await;
        if (&answer.text, &answer.fetches) != (&expected.text, &expected.fetches) {
            return Err(format!(
                "with retries\n{}\nanswered {} after {:?}\ninstead  {} after {:?}",
                ask.query, answer.text, answer.fetches, expected.text, expected.fetches
            )
            .into());
        }
        COMPARED.fetch_add(1, Ordering::Relaxed);
    }
    REPEATED.fetch_add(closed.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(())
}

/// The order of the subgraphs must change nothing: supergraph, hints or errors.
fn check_order(case: &Case) -> Result<(), Failed> {
    let parsed: Result<Vec<Subgraph>, CompositionErrors> = case
        .subgraphs
        .iter()
        .map(|(name, sdl, _)| Subgraph::parse(name, &format!("http://{name}"), sdl))
        .collect();
    // What is wrong with a subgraph by itself does not depend on the others.
    let Ok(mut subgraphs) = parsed else {
        return Ok(());
    };
    let composed = |subgraphs: &[Subgraph]| match compose(subgraphs) {
        Ok(composed) => format!("{}\n{:#?}", composed.supergraph_sdl, composed.hints),
        Err(errors) => format!("{:#?}", errors.0),
    };
    let first = composed(&subgraphs);
    let count = subgraphs.len();
    subgraphs.reverse();
    let mut orders = vec![subgraphs.clone()];
    // Every rotation, and every other subgraph first: of up to three, that is all orders.
    for _ in 1..count {
        subgraphs.rotate_left(1);
        orders.push(subgraphs.clone());
        let (mut even, mut odd) = (Vec::new(), Vec::new());
        for (index, subgraph) in subgraphs.iter().enumerate() {
            match index % 2 {
                0 => even.push(subgraph.clone()),
                _ => odd.push(subgraph.clone()),
            }
        }
        even.append(&mut odd);
        orders.push(even);
    }
    for order in orders {
        let other = composed(&order);
        if other != first {
            let names: Vec<&str> = order.iter().map(|s| s.name.as_str()).collect();
            let order = names.join(", ");
            return Err(format!("another result in the order {order}:\n{first}\n\n{other}").into());
        }
    }
    Ok(())
}

/// Whether the errors have exactly the expected codes, or contain the expected text.
fn refuses(errors: &str, expected: &str) -> bool {
    let is_code = |word: &str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if !expected.split_whitespace().all(is_code) {
        return errors.contains(expected);
    }
    let mut found: Vec<&str> = errors
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(code, _)| code)
        .filter(|code| is_code(code))
        .collect();
    found.sort_unstable();
    found.dedup();
    let mut wanted: Vec<&str> = expected.split_whitespace().collect();
    wanted.sort_unstable();
    found == wanted
}
