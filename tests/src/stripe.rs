//! A mock of the part of Stripe's API that the shop uses: PaymentIntents with manual
//! capture, refunds, idempotency keys and signed webhooks, as documented at
//! <https://docs.stripe.com/api>. It keeps a ledger, and loses responses on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use stoa_orders::payment::signature;

pub const SECRET_KEY: &str = "sk_test_0123456789abcdef0123456789abcdef";
pub const WEBHOOK_SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

type Form = HashMap<String, String>;

/// A payment as the mock stores it.
#[derive(Debug, Clone, Default)]
pub struct Intent {
    pub status: String,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    pub order_id: String,
    pub method: String,
}

#[derive(Default)]
struct Ledger {
    intents: HashMap<String, Intent>,
    /// By idempotency key: the request, and the status and body of its response.
    answers: HashMap<String, (String, StatusCode, Value)>,
    /// Responses to lose, by the end of the request's path.
    lose: Vec<String>,
    webhook: Option<String>,
    events: usize,
    /// Payment id and refund.
    refunds: Vec<(String, Value)>,
}

/// The mock server; it stops with the runtime.
#[derive(Clone, Default)]
pub struct FakeStripe(Arc<Mutex<Ledger>>);

impl FakeStripe {
    /// Listens on a free port; returns the URL.
    pub async fn serve(&self) -> String {
        let app = Router::new()
            .route("/v1/payment_intents", post(create))
            .route("/v1/payment_intents/{id}", get(read))
            .route("/v1/payment_intents/{id}/{verb}", post(change))
            .route("/v1/refunds", post(refund).get(list))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = listener.await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    fn books(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().expect("not poisoned")
    }

    /// Sets the URL that webhooks are sent to.
    pub fn set_webhook_url(&self, url: &str) {
        self.books().webhook = Some(url.to_owned());
    }

    /// Loses the response to the next request whose path ends so; the request is carried
    /// out.
    pub fn lose(&self, path: &str) {
        self.books().lose.push(path.to_owned());
    }

    /// The payment of an order.
    pub fn intent_of_order(&self, order: &str) -> Option<Intent> {
        let books = self.books();
        let mut intents = books.intents.values();
        intents.find(|intent| intent.order_id == order).cloned()
    }

    /// Carries out a request once per idempotency key, and replays the response.
    fn once(
        &self,
        headers: &HeaderMap,
        path: &str,
        body: &Bytes,
        work: impl FnOnce(&mut Ledger, &Form) -> (StatusCode, Value),
    ) -> Response {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("authorization") != Some(&format!("Bearer {SECRET_KEY}")) {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_request_error", "api_key");
        }
        let (Some(key), Some(_)) = (text("idempotency-key"), text("stripe-version")) else {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request_error", "headers");
        };
        let asked = format!("{path}?{}", String::from_utf8_lossy(body));
        let mut books = self.books();
        let (status, answer) = match books.answers.get(key) {
            Some((before, ..)) if *before != asked => {
                return refuse(StatusCode::BAD_REQUEST, "idempotency_error", "");
            }
            Some((_, status, answer)) => (*status, answer.clone()),
            None => {
                let (status, answer) = work(&mut books, &form(body));
                let kept = (asked, status, answer.clone());
                books.answers.insert(key.to_owned(), kept);
                (status, answer)
            }
        };
        let lost = books
            .lose
            .iter()
            .position(|lost| path.ends_with(lost.as_str()));
        if let Some(lost) = lost {
            books.lose.remove(lost);
            return refuse(StatusCode::BAD_GATEWAY, "api_error", "");
        }
        (status, Json(answer)).into_response()
    }

    /// Sends a webhook about a payment.
    fn send(&self, books: &mut Ledger, kind: &str, id: &str) {
        let Some(url) = books.webhook.clone() else {
            return;
        };
        books.events += 1;
        let event = json!({
            "id": format!("evt_{}", books.events),
            "object": "event",
            "type": kind,
            "data": { "object": object(id, &books.intents[id]) },
        });
        let body = event.to_string();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_micros());
        let now = i64::try_from(now).unwrap_or_default();
        let signed = signature::sign(WEBHOOK_SECRET, body.as_bytes(), now);
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            let request = client.post(url).header("Stripe-Signature", signed);
            let _ = request.body(body).send().await;
        });
    }
}

/// Parses `application/x-www-form-urlencoded`, ASCII only.
fn form(body: &Bytes) -> Form {
    let text = String::from_utf8_lossy(body).into_owned();
    let text = text.replace("%5B", "[").replace("%5D", "]");
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn object(id: &str, intent: &Intent) -> Value {
    json!({
        "id": id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_received": intent.captured,
        "status": intent.status,
        "metadata": { "order_id": intent.order_id },
    })
}

fn error(kind: &str, code: &str) -> Value {
    json!({ "error": { "type": kind, "code": code, "message": format!("Refused: {code}.") } })
}

fn refuse(status: StatusCode, kind: &str, code: &str) -> Response {
    (status, Json(error(kind, code))).into_response()
}

async fn create(State(stripe): State<FakeStripe>, headers: HeaderMap, body: Bytes) -> Response {
    stripe.once(&headers, "/v1/payment_intents", &body, |books, form| {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        if of("capture_method") != "manual" || of("payment_method") == "pm_unknown" {
            let refusal = error("invalid_request_error", "resource_missing");
            return (StatusCode::BAD_REQUEST, refusal);
        }
        let id = format!("pi_{}", books.intents.len() + 1);
        // No money is held until it is confirmed.
        let intent = Intent {
            status: "requires_confirmation".to_owned(),
            amount: of("amount").parse().unwrap_or_default(),
            order_id: of("metadata[order_id]"),
            method: of("payment_method"),
            ..Intent::default()
        };
        let made = object(&id, &intent);
        books.intents.insert(id, intent);
        (StatusCode::OK, made)
    })
}

async fn read(State(stripe): State<FakeStripe>, Path(id): Path<String>) -> Response {
    let mut books = stripe.books();
    let Some(intent) = books.intents.get_mut(&id) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "resource_missing",
        );
    };
    // Simulates a slow bank: it has decided by the time of this request.
    if intent.status == "processing" {
        intent.status = "requires_capture".to_owned();
    }
    Json(object(&id, intent)).into_response()
}

async fn change(
    State(stripe): State<FakeStripe>,
    Path((id, verb)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {SECRET_KEY}")) {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_request_error", "api_key");
    }
    let mut books = stripe.books();
    let Some(intent) = books.intents.get_mut(&id) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "resource_missing",
        );
    };
    let fits = match verb.as_str() {
        "confirm" => intent.status == "requires_confirmation",
        "capture" => intent.status == "requires_capture",
        _ => !["succeeded", "canceled", "processing"].contains(&intent.status.as_str()),
    };
    if !fits {
        let code = "payment_intent_unexpected_state";
        return refuse(StatusCode::BAD_REQUEST, "invalid_request_error", code);
    }
    let (status, kind) = match (verb.as_str(), intent.method.as_str()) {
        ("confirm", "pm_card_visa") => (
            "requires_capture",
            "payment_intent.amount_capturable_updated",
        ),
        ("confirm", "pm_slow") => ("processing", "payment_intent.processing"),
        ("confirm", _) => ("requires_payment_method", "payment_intent.payment_failed"),
        ("capture", _) => ("succeeded", "payment_intent.succeeded"),
        _ => ("canceled", "payment_intent.canceled"),
    };
    intent.status = status.to_owned();
    if verb == "capture" {
        intent.captured = intent.amount;
    }
    let answer = object(&id, intent);
    stripe.send(&mut books, kind, &id);
    let lost = books
        .lose
        .iter()
        .position(|lost| format!("/{verb}").ends_with(lost.as_str()));
    if let Some(lost) = lost {
        books.lose.remove(lost);
        return refuse(StatusCode::BAD_GATEWAY, "api_error", "");
    }
    if status == "requires_payment_method" {
        return refuse(StatusCode::PAYMENT_REQUIRED, "card_error", "card_declined");
    }
    Json(answer).into_response()
}

async fn list(State(stripe): State<FakeStripe>, Query(asked): Query<Form>) -> Response {
    let books = stripe.books();
    let of = asked.get("payment_intent");
    let ours = books.refunds.iter().filter(|(id, _)| Some(id) == of);
    let data: Vec<_> = ours.map(|(_, refund)| refund.clone()).collect();
    Json(json!({ "object": "list", "data": data })).into_response()
}

async fn refund(State(stripe): State<FakeStripe>, headers: HeaderMap, body: Bytes) -> Response {
    stripe.once(&headers, "/v1/refunds", &body, |books, form| {
        let id = form.get("payment_intent").cloned().unwrap_or_default();
        let amount: i64 = (form.get("amount"))
            .and_then(|amount| amount.parse().ok())
            .unwrap_or_default();
        match books.intents.get_mut(&id) {
            Some(intent) if intent.refunded + amount <= intent.captured => {
                intent.refunded += amount;
                let refund_id = form.get("metadata[refund_id]");
                let made = json!({ "id": "re_1", "object": "refund", "amount": amount, "status": "succeeded", "metadata": { "refund_id": refund_id } });
                books.refunds.push((id, made.clone()));
                (StatusCode::OK, made)
            }
            _ => (
                StatusCode::BAD_REQUEST,
                error("invalid_request_error", "charge_already_refunded"),
            ),
        }
    })
}
