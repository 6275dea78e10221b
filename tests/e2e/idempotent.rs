//! Every mutation that is declared `@idempotent`: its response is lost, the router sends it
//! once more, and it happened once.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use stoa_federation::apollo_compiler::Schema;
use stoa_tests::client::text;
use stoa_tests::fault_proxy::{Ending, Fault};
use stoa_tests::{Client, FaultProxies, Mode, Shop};

use crate::support::*;

const SUPERGRAPH: &str = include_str!("../../schema/supergraph.graphql");

struct Repeating {
    proxies: Arc<FaultProxies>,
    admin: Client,
    customer: Client,
    product: String,
    tested: BTreeSet<String>,
}

pub fn every_idempotent_mutation_is_repeated() {
    let proxies = Arc::new(FaultProxies::new(0));
    let unlimited = [("STOA_RATE_LIMIT", "off")];
    let shop = Shop::start_behind(Mode::Separate, &unlimited, Some(proxies.clone()));
    block_on(async {
        let admin = shop.sign_in("admin").await;
        let mut repeating = Repeating {
            proxies: proxies.clone(),
            customer: new_customer(&shop.client()).await,
            product: new_product(&admin, 100).await,
            admin,
            tested: BTreeSet::new(),
        };
        repeating.orders().await;
        repeating.a_cart().await;
        repeating.the_stock().await;
        assert_eq!(repeating.tested, declared());
    });
}

fn declared() -> BTreeSet<String> {
    let schema = Schema::parse(SUPERGRAPH, "supergraph.graphql").unwrap();
    let mutation = schema.get_object("Mutation").unwrap();
    let fields = mutation.fields.iter();
    let idempotent = fields.filter(|(_, field)| field.directives.has("idempotent"));
    idempotent.map(|(name, _)| name.to_string()).collect()
}

impl Repeating {
    /// Sends a mutation whose response gets lost on a kept connection. Returns the client's
    /// response, and how often the service got the mutation.
    async fn lose(&self, client: &Client, query: &str, variables: Value) -> (Value, usize) {
        let service = match query.contains("adjustStock") {
            true => "products",
            false => "orders",
        };
        // Only what was sent on a kept connection is sent again.
        let ask = match service {
            "products" => "{ categories { id } }",
            _ => "{ me { orders(first: 1) { totalCount } } }",
        };
        client.ok(ask, json!({})).await;
        let before = self.mutations(service);
        let lost = Fault::LostResponse(Ending::Closed);
        self.proxies.arm(service, lost);
        let answer = client.query(query, variables).await;
        (answer, self.mutations(service) - before)
    }

    fn mutations(&self, service: &str) -> usize {
        let log = self.proxies.log();
        let mutations = log
            .iter()
            .filter(|entry| entry.proxy == service && entry.is_mutation);
        mutations.filter(|entry| entry.is_forwarded).count()
    }

    /// The same for a mutation that must be repeated and succeed; returns its payload.
    async fn repeat(
        &mut self,
        client: &Client,
        field: &str,
        query: &str,
        variables: Value,
    ) -> Value {
        let (answer, count) = self.lose(client, query, variables).await;
        let payload = answer["data"][field].clone();
        assert_eq!(count, 2, "{field} reached its service so often: {answer:#}");
        assert_eq!(payload["userErrors"], json!([]), "{field}: {answer:#}");
        self.tested.insert(field.to_owned());
        payload
    }

    async fn orders(&mut self) {
        let (admin, customer) = (self.admin.clone(), self.customer.clone());
        let place = json!({ "input": order_of(&self.product, 3, "sandbox_approve"), "key": key() });
        let placed = self.repeat(&customer, "placeOrder", PLACE, place).await;
        let order = text(&placed, "/order/id");
        assert_eq!(settled(&customer, &order).await, "CONFIRMED");
        assert_eq!(stock_of(&admin, &self.product).await, 97);

        let one_unit = json!([{ "productId": self.product, "quantity": 1 }]);
        let ship = change_of("shipOrder", "shipment", "ShipmentInput");
        let shipment = json!({ "id": order, "key": key(), "change": { "lines": one_unit } });
        self.repeat(&admin, "shipOrder", &ship, shipment).await;
        let refund = change_of("refundOrder", "refund", "RefundInput");
        let refunded = json!({ "id": order, "key": key(), "change": { "lines": one_unit } });
        self.repeat(&admin, "refundOrder", &refund, refunded).await;
        let rest = json!({ "id": order, "key": key() });
        admin.ok(&ship, rest).await;
        let deliver = change_of("deliverOrder", "reason", "String");
        let delivered = json!({ "id": order, "key": key() });
        self.repeat(&admin, "deliverOrder", &deliver, delivered)
            .await;
        let after = "query ($id: ID!) { order(id: $id) { status lines { shippedQuantity refundedQuantity } shipments { lines { quantity } } refunds { lines { quantity } } history { kind status } } }";
        let after = admin.ok(after, json!({ "id": order })).await;
        let after = &after["order"];
        assert_eq!(after["status"], "DELIVERED");
        assert_eq!(after["shipments"].as_array().unwrap().len(), 2, "{after:#}");
        assert_eq!(after["refunds"], json!([{ "lines": [{ "quantity": 1 }] }]));
        let history = after["history"].as_array().unwrap();
        let delivered = history
            .iter()
            .filter(|entry| entry["status"] == "DELIVERED");
        assert_eq!(delivered.count(), 1, "{after:#}");

        let order = place_order(&customer, &self.product).await;
        let cancel = change_of("cancelOrder", "reason", "String");
        let cancelled = json!({ "id": order, "key": key() });
        let payload = self
            .repeat(&customer, "cancelOrder", &cancel, cancelled)
            .await;
        assert_eq!(payload["order"]["status"], "CANCELLED");
        eventually("one unit goes back", async || {
            stock_of(&admin, &self.product).await == 98
        })
        .await;
    }

    /// What is not declared is not repeated: the unit was added once.
    async fn a_cart(&mut self) {
        let customer = self.customer.clone();
        let add = "mutation ($lines: [CartLineInput!]!) { cartLinesAdd(lines: $lines) { userErrors { code } } }";
        let lines = json!({ "lines": [{ "productId": self.product, "quantity": 1 }] });
        let (answer, count) = self.lose(&customer, add, lines).await;
        assert_eq!(count, 1);
        assert_eq!(
            answer["errors"][0]["extensions"],
            json!({ "code": "SUBGRAPH_UNREACHABLE", "service": "orders" })
        );
        let cart = "{ me { cart { version totalQuantity } orders { totalCount } } }";
        let data = customer.ok(cart, json!({})).await;
        assert_eq!(data["me"]["cart"]["totalQuantity"], 1);
        let before = data["me"]["orders"]["totalCount"].as_i64().unwrap();

        let checkout = "mutation ($version: Int!, $input: CheckoutInput!, $key: ID!) { checkout(version: $version, input: $input, idempotencyKey: $key) { order { id } userErrors { code message } } }";
        let input = json!({ "shippingAddress": address(), "paymentMethod": "sandbox_approve" });
        let version = &data["me"]["cart"]["version"];
        let variables = json!({ "version": version, "input": input, "key": key() });
        let payload = self
            .repeat(&customer, "checkout", checkout, variables)
            .await;
        settled(&customer, &text(&payload, "/order/id")).await;
        let data = customer.ok(cart, json!({})).await;
        assert_eq!(data["me"]["orders"]["totalCount"], before + 1);
    }

    async fn the_stock(&mut self) {
        let admin = self.admin.clone();
        let before = stock_of(&admin, &self.product).await;
        let adjust = "mutation ($input: AdjustStockInput!, $key: ID!) { adjustStock(input: $input, idempotencyKey: $key) { product { stock } userErrors { code message } } }";
        let input = json!({ "productId": self.product, "delta": 5, "reason": "found" });
        let variables = json!({ "input": input, "key": key() });
        self.repeat(&admin, "adjustStock", adjust, variables).await;
        assert_eq!(stock_of(&admin, &self.product).await, before + 5);
    }
}

/// A mutation of an order with `$change` as one more argument.
fn change_of(field: &str, argument: &str, kind: &str) -> String {
    format!(
        "mutation ($id: ID!, $key: ID!, $change: {kind}) {{ {field}(orderId: $id, idempotencyKey: $key, {argument}: $change) {{ order {{ status }} userErrors {{ field code message }} }} }}"
    )
}

async fn place_order(customer: &Client, product: &str) -> String {
    let order = place(customer, product, 1, "sandbox_approve").await;
    assert_eq!(settled(customer, &order).await, "CONFIRMED");
    order
}
