//! A GraphQL client as an app would have one.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use stoa_runtime::telemetry::CORRELATION_HEADER;

/// How long a test waits for an event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub token: Option<String>,
    pub user_id: String,
}

impl Client {
    pub fn new(url: &str) -> Self {
        Self {
            // Shorter than nginx and the shop keep their side of a connection.
            http: reqwest::Client::builder()
                .pool_idle_timeout(std::time::Duration::from_secs(4))
                .build()
                .expect("an HTTP client"),
            url: url.to_owned(),
            token: None,
            user_id: String::new(),
        }
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Self {
        let data = self
            .ok(
                "mutation ($input: LoginInput!) { login(input: $input) { user { id } session { accessToken } userErrors { code } } }",
                json!({ "input": { "email": email, "password": password } }),
            )
            .await;
        Self {
            token: Some(text(&data, "/login/session/accessToken")),
            user_id: text(&data, "/login/user/id"),
            ..self.clone()
        }
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/graphql", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Status, headers and body of an operation.
    pub async fn raw(&self, query: &str, variables: Value) -> reqwest::Response {
        self.request()
            .header("accept", "application/graphql-response+json")
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await
            .expect("the router answers")
    }

    /// The whole response body.
    pub async fn query(&self, query: &str, variables: Value) -> Value {
        self.raw(query, variables)
            .await
            .json()
            .await
            .expect("an answer is JSON")
    }

    /// The whole response body, or the transport error.
    pub async fn try_query(&self, query: &str, variables: &Value) -> reqwest::Result<Value> {
        let correlation = uuid::Uuid::now_v7().to_string();
        self.try_query_as(&correlation, query, variables).await
    }

    /// The same, with this correlation id.
    pub async fn try_query_as(
        &self,
        correlation: &str,
        query: &str,
        variables: &Value,
    ) -> reqwest::Result<Value> {
        self.request()
            .header(CORRELATION_HEADER, correlation)
            .header("accept", "application/graphql-response+json")
            .timeout(EVENT_TIMEOUT)
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await?
            .json()
            .await
    }

    /// Subscribes over server-sent events, or returns the transport error.
    pub async fn try_subscribe(&self, query: &str, variables: &Value) -> reqwest::Result<Events> {
        let response = self
            .request()
            .header("accept", "text/event-stream")
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await?
            .error_for_status()?;
        Ok(Events::of(response))
    }

    /// The response's data; panics if it has errors.
    pub async fn ok(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.query(query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}\n{answer:#}");
        answer["data"].take()
    }

    /// The code of the response's first error; panics without one.
    pub async fn code(&self, query: &str, variables: Value) -> String {
        let answer = self.query(query, variables).await;
        code(&answer).unwrap_or_else(|| panic!("no error: {query}\n{answer:#}"))
    }

    /// Subscribes over server-sent events.
    pub async fn subscribe(&self, query: &str, variables: Value) -> Events {
        self.subscribe_after(query, variables, None).await
    }

    /// Subscribes as a reconnecting browser does, with a `Last-Event-ID` header.
    pub async fn subscribe_after(
        &self,
        query: &str,
        variables: Value,
        last_event_id: Option<&str>,
    ) -> Events {
        let mut request = self.request().header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await
            .expect("the router answers");
        assert_eq!(response.status(), 200, "an event stream answers 200");
        Events::of(response)
    }
}

/// A stream of server-sent events.
pub struct Events {
    chunks: BoxStream<'static, Result<Vec<u8>, reqwest::Error>>,
    buffer: String,
}

/// One event: its id and its payload; the value of a `complete` event is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub value: Option<Value>,
}

impl Events {
    fn of(response: reqwest::Response) -> Self {
        Self {
            chunks: response
                .bytes_stream()
                .map(|chunk| chunk.map(Into::into))
                .boxed(),
            buffer: String::new(),
        }
    }

    /// The next event; `None` once the stream has ended or failed.
    pub async fn try_next(&mut self) -> Option<Event> {
        self.read().await
    }

    /// The next event; panics if none arrives within the timeout.
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(EVENT_TIMEOUT, self.read())
            .await
            .expect("an event comes in time")
            .expect("the stream goes on")
    }

    /// The data at a pointer of the next event.
    pub async fn next_text(&mut self, pointer: &str) -> String {
        let event = self.next().await;
        let value = event.value.expect("not complete yet");
        text(&value, pointer)
    }

    /// Whether no event arrives for this long.
    pub async fn is_silent(&mut self, during: Duration) -> bool {
        tokio::time::timeout(during, self.read()).await.is_err()
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..at + 2).collect();
                let field = |name: &str| {
                    block.lines().find_map(|line| {
                        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
                        Some(rest.trim_start().to_owned())
                    })
                };
                match field("event").as_deref() {
                    Some("next") => {
                        return Some(Event {
                            id: field("id"),
                            value: field("data").and_then(|data| serde_json::from_str(&data).ok()),
                        });
                    }
                    Some("complete") => {
                        return Some(Event {
                            id: None,
                            value: None,
                        });
                    }
                    _ => continue,
                }
            }
            let chunk = self.chunks.next().await?.ok()?;
            self.buffer.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

/// The code of a response's first error.
pub fn code(answer: &Value) -> Option<String> {
    Some(
        answer
            .pointer("/errors/0/extensions/code")?
            .as_str()?
            .to_owned(),
    )
}

/// The string at a pointer.
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} of {value:#}"))
        .to_owned()
}
