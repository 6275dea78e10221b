//! Stripe, with manually captured PaymentIntents
//! (<https://docs.stripe.com/api/payment_intents>,
//! <https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>).
//!
//! A payment method is the `pm_...` that the shop's page got from Stripe.js.
//! Cards that require customer authentication are declined
//! (`error_on_requires_action`).

use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use stoa_runtime::clock::Clock;
use stoa_schema::{Money, OrderId};

use super::{
    Authorised, BadEvent, Captured, NoResponse, Payment, PaymentEvent, PaymentProvider, Voided,
    signature,
};

/// The public API.
pub const URL: &str = "https://api.stripe.com";
/// The API version that this code was written for.
const VERSION: &str = "2024-06-20";
const SIGNATURE: &str = "stripe-signature";
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_METHOD: usize = 64;
/// The longest event type that is stored in full.
const MAX_KIND: usize = 64;

/// The settings for a Stripe account.
#[derive(Clone)]
pub struct StripeOptions {
    /// [`URL`], or a server with the same API.
    pub url: String,
    /// `sk_...`
    pub secret_key: SecretString,
    /// `whsec_...`
    pub webhook_secret: SecretString,
}

pub struct Stripe {
    client: reqwest::Client,
    options: StripeOptions,
    clock: Clock,
}

/// The fields of a PaymentIntent that are used.
#[derive(Debug, Deserialize)]
struct Intent {
    id: String,
    status: String,
}

/// A final refusal by Stripe.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(rename = "type", default)]
    kind: String,
    message: Option<String>,
}

impl Refusal {
    fn reason(self) -> String {
        let default_reason = || "the payment was declined".to_owned();
        self.message.unwrap_or_else(default_reason)
    }
}

/// A conclusive response: an object, or a refusal.
type StripeResult<T> = Result<T, Refusal>;

impl Stripe {
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(options: StripeOptions, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
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
    ) -> Result<StripeResult<T>, NoResponse> {
        let lost = |error: reqwest::Error| NoResponse(error.without_url().to_string());
        let response = request
            .bearer_auth(self.options.secret_key.expose_secret())
            .header("Stripe-Version", VERSION)
            .send()
            .await
            .map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response.json().await.map_err(lost)?));
        }
        let body: Value = response.json().await.map_err(lost)?;
        let error = body.get("error").cloned().unwrap_or_default();
        let refusal: Refusal = serde_json::from_value(error).unwrap_or_default();
        // A refused card and an invalid request are final; rate limits, conflicts and
        // other errors are retried.
        let never_will = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&status)
            && refusal.kind == "invalid_request_error";
        let is_answer = status == StatusCode::PAYMENT_REQUIRED || never_will;
        if is_answer {
            Ok(Err(refusal))
        } else {
            let kind = refusal.kind.clone();
            let reason = refusal.reason();
            Err(NoResponse(format!("stripe: {status} {kind}: {reason}")))
        }
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        key: Option<&str>,
        form: &[(&str, &str)],
    ) -> Result<StripeResult<T>, NoResponse> {
        let mut request = self.client.post(format!("{}{path}", self.options.url));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.send(request.form(form)).await
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, NoResponse> {
        let url = format!("{}{path}", self.options.url);
        let found = self.send(self.client.get(url)).await?;
        found.map_err(|refusal: Refusal| NoResponse(format!("stripe: {}", refusal.reason())))
    }

    /// The payment's intent in its current state, created if there is none; the
    /// idempotency key prevents a second one. Only confirming it authorises money.
    async fn intent(&self, payment: &Payment) -> Result<StripeResult<Intent>, NoResponse> {
        let id = match &payment.reference {
            Some(reference) => reference.clone(),
            None => {
                let amount = payment.amount.amount_minor.to_string();
                let currency = payment.amount.currency.code().to_ascii_lowercase();
                let form = [
                    ("amount", amount.as_str()),
                    ("currency", &currency),
                    ("payment_method", &payment.method),
                    ("payment_method_types[]", "card"),
                    ("capture_method", "manual"),
                    ("metadata[order_id]", payment.order_id.as_str()),
                ];
                let key = format!("{}:create", payment.order_id);
                let path = "/v1/payment_intents";
                match self.post::<Intent>(path, Some(&key), &form).await? {
                    Ok(intent) => intent.id,
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
        };
        // A retried creation returns the original response: fetch the current state.
        Ok(Ok(self.get(&format!("/v1/payment_intents/{id}")).await?))
    }

    /// Confirms or captures an intent. If that is refused, another worker may have
    /// advanced the intent meanwhile: then its current state counts.
    async fn advance(
        &self,
        intent: &Intent,
        verb: &str,
        form: &[(&str, &str)],
    ) -> Result<StripeResult<Intent>, NoResponse> {
        let refusal = match self.post_action(intent, verb, form).await? {
            Ok(moved) => return Ok(Ok(moved)),
            Err(refusal) => refusal,
        };
        let now: Intent = self
            .get(&format!("/v1/payment_intents/{}", intent.id))
            .await?;
        let refused = [
            intent.status.as_str(),
            "requires_payment_method",
            "canceled",
        ];
        Ok(match refused.contains(&now.status.as_str()) {
            true => Err(refusal),
            false => Ok(now),
        })
    }

    /// Confirms, captures or cancels an intent whose state allows it. Without an
    /// idempotency key: the state lets it happen only once, and with a key Stripe
    /// would keep returning a stored error.
    async fn post_action(
        &self,
        intent: &Intent,
        verb: &str,
        form: &[(&str, &str)],
    ) -> Result<StripeResult<Intent>, NoResponse> {
        let path = format!("/v1/payment_intents/{}/{verb}", intent.id);
        self.post(&path, None, form).await
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
        let bad = || "must be a Stripe payment method, such as pm_card_visa".to_owned();
        fits.then_some(()).ok_or_else(bad)
    }

    async fn authorise(&self, payment: &Payment) -> Result<Authorised, NoResponse> {
        let declined = |reason: String| Ok(Authorised::Declined { reason });
        // Stripe requires three-decimal amounts to be rounded, but refunds of single
        // units are not.
        if payment.amount.currency.exponent() > 2 {
            return declined(format!(
                "the shop does not accept {} by card",
                payment.amount.currency.code()
            ));
        }
        let mut intent = match self.intent(payment).await? {
            Ok(intent) => intent,
            Err(refusal) => return declined(refusal.reason()),
        };
        if intent.status == "requires_confirmation" {
            let form = [("error_on_requires_action", "true")];
            intent = match self.advance(&intent, "confirm", &form).await? {
                Ok(intent) => intent,
                Err(refusal) => return declined(refusal.reason()),
            };
        }
        match intent.status.as_str() {
            "requires_capture" | "succeeded" => Ok(Authorised::Approved {
                reference: intent.id,
            }),
            "requires_payment_method" | "canceled" => {
                declined("the payment was declined".to_owned())
            }
            _ => Ok(Authorised::Pending {
                reference: intent.id,
            }),
        }
    }

    async fn capture(&self, payment: &Payment) -> Result<Captured, NoResponse> {
        let declined = |reason: String| Ok(Captured::Declined { reason });
        let mut intent = match self.intent(payment).await? {
            Ok(intent) => intent,
            Err(refusal) => return declined(refusal.reason()),
        };
        if intent.status == "requires_capture" {
            intent = match self.advance(&intent, "capture", &[]).await? {
                Ok(intent) => intent,
                Err(refusal) => return declined(refusal.reason()),
            };
        }
        match intent.status.as_str() {
            "succeeded" => Ok(Captured::Done),
            "canceled" | "requires_payment_method" => {
                declined("the authorisation was released".to_owned())
            }
            other => Err(NoResponse(format!("stripe: the payment is {other}"))),
        }
    }

    async fn void(&self, payment: &Payment) -> Result<Voided, NoResponse> {
        let intent = match self.intent(payment).await? {
            Ok(intent) => intent,
            // The intent could not be created: there is nothing to void.
            Err(_) => return Ok(Voided::Done),
        };
        match intent.status.as_str() {
            "canceled" => return Ok(Voided::Done),
            "succeeded" => return Ok(Voided::Captured),
            _ => {}
        }
        match self.post_action(&intent, "cancel", &[]).await? {
            Ok(_) => Ok(Voided::Done),
            Err(refusal) => Err(NoResponse(format!("stripe: {}", refusal.reason()))),
        }
    }

    async fn refund(&self, payment: &Payment, amount: Money, key: &str) -> Result<(), NoResponse> {
        let Some(id) = &payment.reference else {
            return Err(NoResponse("stripe: the payment has no intent".to_owned()));
        };
        // Stripe drops idempotency keys after a day, so existing refunds are searched first.
        let path = format!("/v1/refunds?payment_intent={id}&limit=100");
        let known: Value = self.get(&path).await?;
        let known = known["data"].as_array().cloned().unwrap_or_default();
        let ours = |refund: &&Value| refund["metadata"]["refund_id"] == key;
        let refund = match known.iter().find(ours) {
            Some(refund) => refund.clone(),
            None => {
                let amount = amount.amount_minor.to_string();
                let form = [
                    ("payment_intent", id.as_str()),
                    ("amount", &amount),
                    ("metadata[order_id]", payment.order_id.as_str()),
                    ("metadata[refund_id]", key),
                ];
                let made = self.post("/v1/refunds", Some(key), &form).await?;
                made.map_err(|refusal| NoResponse(format!("stripe: {}", refusal.reason())))?
            }
        };
        match refund["status"].as_str() {
            Some("succeeded" | "pending" | "requires_action") => Ok(()),
            status => Err(NoResponse(format!(
                "stripe: the refund is {}",
                status.unwrap_or("lost")
            ))),
        }
    }

    fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<PaymentEvent, BadEvent> {
        let header = headers.get(SIGNATURE);
        let header = header.and_then(|value| value.to_str().ok());
        let header = header.ok_or(signature::BadSignature::Malformed)?;
        let secret = self.options.webhook_secret.expose_secret();
        signature::verify(secret, header, body, self.clock.now())?;
        let event: Value = serde_json::from_slice(body).map_err(|_| BadEvent::Body)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let order = &event["data"]["object"]["metadata"]["order_id"];
        let plain = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
        let id = text(&event["id"]).filter(plain);
        let kind = text(&event["type"]).filter(plain).ok_or(BadEvent::Body)?;
        Ok(PaymentEvent {
            id: id.filter(|id| id.len() <= 255).ok_or(BadEvent::Body)?,
            kind: kind.chars().take(MAX_KIND).collect(),
            order_id: order.as_str().and_then(OrderId::parse),
        })
    }
}
