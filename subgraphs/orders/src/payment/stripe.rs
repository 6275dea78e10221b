//! Stripe, by PaymentIntents that are captured by hand
//! (<https://docs.stripe.com/api/payment_intents>,
//! <https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>).
//!
//! A payment method is the `pm_...` that the shop's page got from Stripe.js.
//! Cards that want the customer to authenticate in the middle are declined
//! (`error_on_requires_action`).

use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::Value;
use stoa_kit::clock::Clock;
use stoa_schema::{Money, OrderId};

use super::{
    Authorised, BadEvent, Captured, Event, NoAnswer, Payment, PaymentProvider, Voided, signature,
};

/// The public API.
pub const URL: &str = "https://api.stripe.com";
/// The version of the API that this was written for.
const VERSION: &str = "2024-06-20";
const SIGNATURE: &str = "stripe-signature";
const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_METHOD: usize = 64;
const UNEXPECTED_STATE: &str = "payment_intent_unexpected_state";

/// What the shop needs to be told of its Stripe account.
#[derive(Clone)]
pub struct StripeOptions {
    /// [`URL`], or where something speaks the same.
    pub url: String,
    /// `sk_...`
    pub secret_key: String,
    /// `whsec_...`
    pub webhook_secret: String,
}

pub struct Stripe {
    client: reqwest::Client,
    options: StripeOptions,
    clock: Clock,
}

/// A PaymentIntent, as far as we read it.
#[derive(Debug, Deserialize)]
struct Intent {
    id: String,
    status: String,
}

/// What Stripe refused.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    payment_intent: Option<Intent>,
}

/// An answer that says something: an object, or a refusal.
type Answer<T> = Result<T, Refusal>;

impl Stripe {
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(options: StripeOptions, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            client,
            options,
            clock,
        })
    }

    async fn send<T: for<'de> Deserialize<'de>>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer<T>, NoAnswer> {
        let lost = |error: reqwest::Error| NoAnswer(error.without_url().to_string());
        let response = request
            .bearer_auth(&self.options.secret_key)
            .header("Stripe-Version", VERSION)
            .send()
            .await
            .map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response.json().await.map_err(lost)?));
        }
        let mut body: Value = response.json().await.map_err(lost)?;
        let refusal: Refusal = serde_json::from_value(body["error"].take()).unwrap_or_default();
        // A card that is refused, and a state that does not fit, are answers;
        // limits, conflicts, and errors of either side are asked again.
        let is_answer = status == StatusCode::PAYMENT_REQUIRED
            || (status == StatusCode::BAD_REQUEST && refusal.code == UNEXPECTED_STATE);
        if is_answer {
            Ok(Err(refusal))
        } else {
            let Refusal { kind, message, .. } = refusal;
            Err(NoAnswer(format!("stripe: {status} {kind} {message}")))
        }
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        key: &str,
        form: &[(&str, &str)],
    ) -> Result<Answer<T>, NoAnswer> {
        let url = format!("{}{path}", self.options.url);
        let request = self.client.post(url).header("Idempotency-Key", key);
        self.send(request.form(form)).await
    }

    async fn intent(&self, id: &str) -> Result<Intent, NoAnswer> {
        let url = format!("{}/v1/payment_intents/{id}", self.options.url);
        let found = self.send(self.client.get(url)).await?;
        found.map_err(|refusal| NoAnswer(format!("stripe: {}", refusal.message)))
    }

    /// Makes the payment's intent, or learns what became of it: under one key
    /// there is one, and the first answer is given each time.
    async fn create(&self, payment: &Payment) -> Result<Answer<Intent>, NoAnswer> {
        let amount = payment.amount.amount_minor.to_string();
        let currency = payment.amount.currency.code().to_ascii_lowercase();
        let form = [
            ("amount", amount.as_str()),
            ("currency", &currency),
            ("payment_method", &payment.method),
            ("payment_method_types[]", "card"),
            ("capture_method", "manual"),
            ("confirm", "true"),
            ("error_on_requires_action", "true"),
            ("metadata[order_id]", payment.order_id.as_str()),
        ];
        let key = format!("{}:authorise", payment.order_id);
        self.post("/v1/payment_intents", &key, &form).await
    }

    /// The intent's name, if there is an intent.
    async fn reference(&self, payment: &Payment) -> Result<Option<String>, NoAnswer> {
        if let Some(reference) = &payment.reference {
            return Ok(Some(reference.clone()));
        }
        Ok(match self.create(payment).await? {
            Ok(intent) => Some(intent.id),
            Err(refusal) => refusal.payment_intent.map(|intent| intent.id),
        })
    }
}

#[async_trait]
impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn check_method(&self, method: &str) -> Result<(), String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits =
            method.starts_with("pm_") && method.len() <= MAX_METHOD && method.bytes().all(plain);
        let bad = || "must be a payment method of Stripe's, such as pm_card_visa".to_owned();
        fits.then_some(()).ok_or_else(bad)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoAnswer> {
        let answer = match &payment.reference {
            // A repeat of the creation would tell what was so at first.
            Some(reference) => Ok(self.intent(reference).await?),
            None => self.create(payment).await?,
        };
        Ok(match answer {
            Ok(Intent { id, status }) => match status.as_str() {
                "requires_capture" | "succeeded" => Authorised::Yes { reference: id },
                "requires_payment_method" | "canceled" => Authorised::Declined {
                    reason: "the payment was declined".to_owned(),
                },
                _ => Authorised::Pending { reference: id },
            },
            Err(refusal) => Authorised::Declined {
                reason: refusal.message,
            },
        })
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoAnswer> {
        let declined = |reason: &str| Captured::Declined {
            reason: reason.to_owned(),
        };
        let Some(id) = self.reference(payment).await? else {
            return Ok(declined("the payment was declined"));
        };
        let key = format!("{}:capture", payment.order_id);
        let path = format!("/v1/payment_intents/{id}/capture");
        let status = match self.post::<Intent>(&path, &key, &[]).await? {
            Ok(intent) => intent.status,
            Err(refusal) if refusal.code != UNEXPECTED_STATE => {
                return Ok(declined(&refusal.message));
            }
            Err(_) => self.intent(&id).await?.status,
        };
        match status.as_str() {
            "succeeded" => Ok(Captured::Yes),
            "canceled" => Ok(declined("the authorisation was let go")),
            other => Err(NoAnswer(format!("stripe: the payment is {other}"))),
        }
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoAnswer> {
        let Some(id) = self.reference(payment).await? else {
            return Ok(Voided::Yes);
        };
        let key = format!("{}:void", payment.order_id);
        let path = format!("/v1/payment_intents/{id}/cancel");
        let status = match self.post::<Intent>(&path, &key, &[]).await? {
            Ok(intent) => intent.status,
            Err(_) => self.intent(&id).await?.status,
        };
        match status.as_str() {
            "canceled" => Ok(Voided::Yes),
            "succeeded" => Ok(Voided::Captured),
            other => Err(NoAnswer(format!("stripe: the payment is {other}"))),
        }
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoAnswer> {
        let Some(id) = self.reference(payment).await? else {
            return Err(NoAnswer("stripe: there is no such payment".to_owned()));
        };
        let amount = amount.amount_minor.to_string();
        let form = [
            ("payment_intent", id.as_str()),
            ("amount", &amount),
            ("metadata[order_id]", payment.order_id.as_str()),
        ];
        let refund = self.post::<Value>("/v1/refunds", key, &form).await?;
        let problem = match refund {
            Ok(refund) => match refund["status"].as_str() {
                Some("succeeded" | "pending" | "requires_action") => return Ok(()),
                status => format!("the refund is {}", status.unwrap_or("lost")),
            },
            Err(refusal) => refusal.message,
        };
        Err(NoAnswer(format!("stripe: {problem}")))
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadEvent> {
        let header = headers.get(SIGNATURE);
        let header = header.and_then(|value| value.to_str().ok());
        let header = header.ok_or(signature::BadSignature::Malformed)?;
        let secret = &self.options.webhook_secret;
        signature::verify(secret, header, body, self.clock.now())?;
        let event: Value = serde_json::from_slice(body).map_err(|_| BadEvent::Body)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let order = &event["data"]["object"]["metadata"]["order_id"];
        let fits = |text: &String| !text.is_empty() && text.len() <= 255;
        Ok(Event {
            id: text(&event["id"]).filter(fits).ok_or(BadEvent::Body)?,
            kind: text(&event["type"]).filter(fits).ok_or(BadEvent::Body)?,
            order_id: order.as_str().and_then(OrderId::parse),
        })
    }
}
