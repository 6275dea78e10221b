//! Connections between router and services that fail: which requests are repeated, which
//! fail, and that nothing happens twice. `STOA_FAULT_SECONDS=60` is the full size,
//! `STOA_SEED=N` draws the faults of an earlier run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::fault_proxy::{Entry, Fault};
use stoa_tests::{Client, FaultProxies, Mode, Shop, servers};

use crate::support::*;

const CLIENTS: usize = 50;
/// In a run of `.ci/run`; the full size is 60.
const SECONDS: u64 = 12;
/// What the services get at least, so that every kind of fault occurs: a slow machine needs
/// longer for it.
const REQUESTS: usize = 1_000;
/// A restart in each; longer than the retry budget's window.
const PERIOD: Duration = Duration::from_secs(20);
const UNITS: i64 = 1_000_000;

const CATALOGUE: &str =
    "{ products(query: \"coffee\", first: 3) { nodes { name stock category { name } } } }";
const MINE: &str = "{ me { firstName notifications(first: 2) { totalCount } orders(first: 3) { nodes { number status lines { quantity product { name stock } } } } } }";
const ADD: &str = "mutation ($lines: [CartLineInput!]!) { cartLinesAdd(lines: $lines) { cart { totalQuantity } userErrors { code message } } }";
const ADJUST: &str = "mutation ($input: AdjustStockInput!, $key: ID!) { adjustStock(input: $input, idempotencyKey: $key) { product { stock } userErrors { code message } } }";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub fn faults_that_are_not_repeated_are_the_only_errors() {
    run(Mode::Separate);
}

pub fn faults_with_two_replicas_of_each_role() {
    if servers::replicas_available() {
        run(Mode::Real);
    }
}

fn run(mode: Mode) {
    let seed = number("STOA_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let during = Duration::from_secs(number("STOA_FAULT_SECONDS").unwrap_or(SECONDS));
    println!("faults on {}: STOA_SEED={seed}", mode.name());
    let proxies = Arc::new(FaultProxies::new(seed));
    let settings = [("STOA_RATE_LIMIT", "off")];
    let shop = Shop::start_behind(mode, &settings, Some(proxies.clone()));
    block_on(scenario(&shop, &proxies, during));
    assert!(!shop.logs().contains("panicked"), "{}", shop.logs());
    shop.doctor();
}

async fn scenario(shop: &Shop, proxies: &Arc<FaultProxies>, during: Duration) {
    let admin = shop.sign_in("admin").await;
    let product = new_product(&admin, UNITS).await;
    let mut buyers = Vec::new();
    for index in 0..CLIENTS {
        let client = new_customer(&shop.client()).await;
        buyers.push(Buyer::new(client, admin.clone(), product.clone(), index));
    }
    proxies.set_rate(1);
    let until = Instant::now() + during;
    let running: Vec<_> = (buyers.into_iter())
        .map(|buyer| tokio::spawn(buyer.use_shop(until, proxies.clone())))
        .collect();
    let periods = u32::try_from(during.as_secs() / PERIOD.as_secs()).unwrap();
    let period = PERIOD.min(during);
    proxies.restart_all(periods.max(1), period).await;
    let mut buyers = Vec::new();
    for buyer in running {
        buyers.push(buyer.await.unwrap());
    }
    proxies.set_rate(0);

    check_failures(&buyers, proxies);
    let (mut sold, mut adjusted) = (0, 0);
    for buyer in &buyers {
        sold += buyer.check_orders().await;
        adjusted += buyer.check_adjustments().await;
        buyer.check_cart().await;
    }
    assert_eq!(stock_of(&admin, &product).await, UNITS - sold + adjusted);
}

/// A request that did not get the response that it should have.
struct Failure {
    correlation: String,
    began: Instant,
    ended: Instant,
    is_repeatable: bool,
    answer: String,
}

impl Failure {
    /// Whether a fault was met that the rule of retries leaves to the client: bytes of the
    /// response had come, the service answered 502, the connection was refused or new, or
    /// the request may not be repeated.
    fn is_explained(&self, met: &[&Entry], restarts: &[(Instant, Instant)]) -> bool {
        let is_left = |entry: &&Entry| match entry.fault {
            Some(fault) if fault.is_harmless() => false,
            Some(fault) if fault.is_retried() => {
                !entry.is_reused || (entry.is_mutation && !self.is_repeatable)
            }
            Some(_) => true,
            None => false,
        };
        met.iter().any(is_left)
            || (restarts.iter()).any(|(from, to)| self.began <= *to && self.ended >= *from)
    }
}

struct Buyer {
    client: Client,
    admin: Client,
    product: String,
    random: fastrand::Rng,
    /// Requests so far, by kind.
    asked: BTreeMap<&'static str, usize>,
    /// The idempotency keys of orders and of changes of the stock.
    orders: Vec<String>,
    adjustments: Vec<String>,
    /// Changes of the cart that succeeded, and that may have.
    added: u64,
    added_perhaps: u64,
    /// The correlation ids of mutations that must reach their service once at most.
    not_idempotent: HashSet<String>,
    failures: Vec<Failure>,
}

impl Buyer {
    fn new(client: Client, admin: Client, product: String, index: usize) -> Self {
        Self {
            client,
            admin,
            product,
            random: fastrand::Rng::with_seed(index as u64),
            asked: BTreeMap::new(),
            orders: Vec::new(),
            adjustments: Vec::new(),
            added: 0,
            added_perhaps: 0,
            not_idempotent: HashSet::new(),
            failures: Vec::new(),
        }
    }

    async fn use_shop(mut self, until: Instant, proxies: Arc<FaultProxies>) -> Self {
        let before = proxies.requests();
        while Instant::now() < until || proxies.requests() < before + REQUESTS {
            match self.random.u8(0..100) {
                0..35 => {
                    self.ask("query", CATALOGUE, &json!({}), false).await;
                }
                35..70 => {
                    self.ask("query", MINE, &json!({}), false).await;
                }
                70..82 => {
                    let variables =
                        json!({ "lines": [{ "productId": self.product, "quantity": 1 }] });
                    match self.ask("cartLinesAdd", ADD, &variables, false).await {
                        true => self.added += 1,
                        false => self.added_perhaps += 1,
                    }
                }
                82..92 => {
                    let key = key();
                    let variables = self.order(&key);
                    self.orders.push(key);
                    self.ask("placeOrder", PLACE, &variables, true).await;
                }
                _ => {
                    let key = key();
                    let variables = self.adjustment(&key);
                    self.adjustments.push(key);
                    self.ask("adjustStock", ADJUST, &variables, true).await;
                }
            }
        }
        self
    }

    /// Sends a request; returns whether it succeeded.
    async fn ask(
        &mut self,
        kind: &'static str,
        query: &str,
        variables: &Value,
        is_idempotent: bool,
    ) -> bool {
        *self.asked.entry(kind).or_default() += 1;
        let client = match kind {
            "adjustStock" => &self.admin,
            _ => &self.client,
        };
        let correlation = key();
        let is_repeatable = kind == "query" || is_idempotent;
        if !is_repeatable {
            self.not_idempotent.insert(correlation.clone());
        }
        let began = Instant::now();
        let answer = client.try_query_as(&correlation, query, variables).await;
        let succeeded = (answer.as_ref())
            .is_ok_and(|answer| answer.get("errors").is_none() && has_no_user_error(answer));
        if !succeeded {
            self.failures.push(Failure {
                correlation,
                began,
                ended: Instant::now(),
                is_repeatable,
                answer: format!("{kind}: {answer:?}"),
            });
        }
        succeeded
    }

    fn order(&self, key: &str) -> Value {
        json!({ "input": order_of(&self.product, 1, "sandbox_approve"), "key": key })
    }

    fn adjustment(&self, key: &str) -> Value {
        let input = json!({ "productId": self.product, "delta": 1, "reason": "found" });
        json!({ "input": input, "key": key })
    }

    /// Sends every order again, as a client does that did not get a response; there is one
    /// for each key. Returns how many units were sold.
    async fn check_orders(&self) -> i64 {
        for key in &self.orders {
            let data = self.client.ok(PLACE, self.order(key)).await;
            let order = text(&data, "/placeOrder/order/id");
            assert_eq!(settled(&self.client, &order).await, "CONFIRMED");
        }
        let mine = "{ me { orders { totalCount } } }";
        let data = self.client.ok(mine, json!({})).await;
        assert_eq!(data["me"]["orders"]["totalCount"], self.orders.len());
        i64::try_from(self.orders.len()).unwrap()
    }

    async fn check_adjustments(&self) -> i64 {
        for key in &self.adjustments {
            let data = self.admin.ok(ADJUST, self.adjustment(key)).await;
            assert_eq!(data["adjustStock"]["userErrors"], json!([]));
        }
        i64::try_from(self.adjustments.len()).unwrap()
    }

    /// What succeeded is in the cart; what failed is there once or not at all.
    async fn check_cart(&self) {
        let mine = "{ me { cart { totalQuantity } } }";
        let data = self.client.ok(mine, json!({})).await;
        let found = data["me"]["cart"]["totalQuantity"].as_u64().unwrap_or(0);
        let possible = self.added..=self.added + self.added_perhaps;
        assert!(possible.contains(&found), "{found} not in {possible:?}");
    }
}

fn has_no_user_error(answer: &Value) -> bool {
    let payloads = answer["data"].as_object().into_iter().flatten();
    payloads
        .map(|(_, payload)| &payload["userErrors"])
        .all(|errors| errors.as_array().is_none_or(Vec::is_empty))
}

fn check_failures(buyers: &[Buyer], proxies: &FaultProxies) {
    let log = proxies.log();
    let mut by_correlation: HashMap<&str, Vec<&Entry>> = HashMap::new();
    let mut occurred: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &log {
        by_correlation
            .entry(&entry.correlation)
            .or_default()
            .push(entry);
        if let Some(fault) = entry.fault {
            let name = format!("{fault:?}");
            let name = name.split('(').next().unwrap_or_default().to_owned();
            *occurred.entry(name).or_default() += 1;
        }
    }
    let restarts = proxies.restarts();
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut unexplained = Vec::new();
    for buyer in buyers {
        for (kind, count) in &buyer.asked {
            *asked.entry(kind).or_default() += count;
        }
        for failure in &buyer.failures {
            failed.push(failure.correlation.as_str());
            let met = by_correlation.get(failure.correlation.as_str());
            let met = met.map(Vec::as_slice).unwrap_or_default();
            if !failure.is_explained(met, &restarts) {
                unexplained.push(format!("{} met {met:?}", failure.answer));
            }
        }
    }
    let retried = |entry: &&&Entry| entry.fault.is_some_and(Fault::is_retried);
    let repeated = (by_correlation.iter())
        .filter(|(id, met)| met.iter().any(|entry| retried(&entry)) && !failed.contains(id))
        .count();
    println!(
        "asked {asked:?}; {} requests to services met {occurred:?} and {} restarts; {} failed, {repeated} succeeded because they were repeated",
        log.len(),
        restarts.len(),
        failed.len(),
    );
    assert!(
        unexplained.is_empty(),
        "{}\n{unexplained:#?}",
        unexplained.len()
    );
    for kind in [
        "ClosedUnanswered",
        "LostResponse",
        "CutResponse",
        "BadGateway",
        "DelayedHead",
        "Compressed",
    ] {
        assert!(occurred.contains_key(kind), "no {kind}: {occurred:?}");
    }
    assert!(repeated > 0 && !failed.is_empty() && !restarts.is_empty());
    for (id, met) in &by_correlation {
        let forwarded = met
            .iter()
            .filter(|entry| entry.is_mutation && entry.is_forwarded);
        let may_repeat = !buyers
            .iter()
            .any(|buyer| buyer.not_idempotent.contains(*id));
        assert!(forwarded.count() <= 1 + usize::from(may_repeat), "{met:?}");
    }
}
