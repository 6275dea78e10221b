//! One operation, from text to response: parse and validate, limit, plan,
//! coerce variables, execute. Parsed documents and plans are cached by their
//! full text.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use apollo_compiler::parser::Parser;
use apollo_compiler::validation::Valid;

use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::{Map, Value, json};
use stoa_engine::{Execution, GraphQLError, Response, Transport, Variables};
use stoa_federation::operation::{condition_variables, demands, percent};
use stoa_federation::plan::{Decisions, PlanError, plan};
use stoa_federation::{
    CostFormula, Grants, Labels, QueryPlan, Supergraph, apollo_compiler, one_of,
};
use stoa_runtime::clock::Clock;
use stoa_runtime::identity::{IDENTITY_HEADER, IdentityKey};
use stoa_runtime::telemetry::{CORRELATION_HEADER, TRACE_HEADER, in_span, inject_trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Span;

use crate::config::Config;
use crate::cost::{self, Cost};
use crate::document::without_descriptions;
use crate::limits;
use crate::operation::{Client, GraphqlRequest, Prepared};

/// How many documents are cached.
const MAX_CACHED_DOCUMENTS: u64 = 1_000;
/// Documents longer than this, in bytes, are not cached, so that clients cannot
/// fill the memory with them.
const MAX_CACHED_BYTES: usize = 16 * 1024;
/// How many plans are cached for each document: one for each combination of
/// condition values, override labels and unmet access demands.
const MAX_PLANS_PER_DOCUMENT: usize = 64;
const MAX_RECURSION: usize = 200;

/// Executes operations of one graph.
pub struct Pipeline {
    graph: Arc<Supergraph>,
    transport: Arc<dyn Transport>,
    identity: Option<IdentityKey>,
    config: Config,
    documents: moka::sync::Cache<(String, Option<String>), Arc<Prepared>>,
    subscriptions: Arc<Semaphore>,
    clock: Clock,
}

impl Pipeline {
    pub fn new(
        graph: Arc<Supergraph>,
        transport: Arc<dyn Transport>,
        identity: Option<IdentityKey>,
        config: Config,
        clock: Clock,
    ) -> Self {
        Self {
            subscriptions: Arc::new(Semaphore::new(config.limits.subscriptions)),
            graph,
            transport,
            identity,
            config,
            documents: moka::sync::Cache::new(MAX_CACHED_DOCUMENTS),
            clock,
        }
    }

    /// Parses a document, validates it and checks its limits, or returns it from the
    /// cache.
    ///
    /// # Errors
    /// The request's errors, each with a code.
    pub fn prepare(&self, request: &GraphqlRequest) -> Result<Arc<Prepared>, Vec<GraphQLError>> {
        let key = (request.query.clone(), request.operation_name.clone());
        if let Some(known) = self.documents.get(&key) {
            return Ok(known);
        }
        let prepared = Arc::new(self.parse(request)?);
        if request.query.len() <= MAX_CACHED_BYTES {
            self.documents.insert(key, prepared.clone());
        }
        Ok(prepared)
    }

    fn parse(&self, request: &GraphqlRequest) -> Result<Prepared, Vec<GraphQLError>> {
        let limits = &self.config.limits;
        let mut parser = Parser::new()
            .token_limit(limits.tokens)
            .recursion_limit(MAX_RECURSION);
        let text = without_descriptions(&request.query);
        let parsed = parser.parse_ast(&*text, "request");
        if parser.tokens_reached() > limits.tokens {
            return Err(vec![GraphQLError::new(
                "QUERY_TOO_LARGE",
                format!("the document has more than {} tokens", limits.tokens),
            )]);
        }
        let ast = parsed.map_err(|e| diagnostics("GRAPHQL_PARSE_FAILED", &e.errors))?;
        let document = ast
            .to_executable_validate(self.graph.api())
            .map_err(|e| diagnostics("GRAPHQL_VALIDATION_FAILED", &e.errors))?;
        let operation = document
            .operations
            .get(request.operation_name.as_deref())
            .map_err(|error| {
                vec![GraphQLError::new(
                    "OPERATION_NOT_FOUND",
                    error.message().to_string(),
                )]
            })?
            .clone();
        limits::check(&document, &operation, limits).map_err(|error| vec![*error])?;
        one_of::check_operation(self.graph.api(), &document, &operation)
            .map_err(|error| vec![GraphQLError::new("GRAPHQL_VALIDATION_FAILED", error)])?;
        apollo_compiler::introspection::check_max_depth(&document, &operation).map_err(
            |error| {
                vec![GraphQLError::new(
                    "QUERY_TOO_DEEP",
                    error.message().to_string(),
                )]
            },
        )?;
        let conditions = condition_variables(&document, &operation)
            .into_iter()
            .collect();
        Ok(Prepared {
            demands: demands(&self.graph, &document, &operation),
            cost: CostFormula::of(&self.graph, &document, &operation),
            document,
            operation,
            conditions,
            plans: Mutex::default(),
        })
    }

    /// Executes a query or a mutation.
    pub async fn execute(
        &self,
        prepared: &Prepared,
        request: &GraphqlRequest,
        client: &Client,
    ) -> Response {
        let (execution, cost) = match self.execution(prepared, request, client) {
            Ok(made) => made,
            Err(error) => return Response::request_error(*error),
        };
        let timeout = self.config.limits.timeout;
        let mut response = tokio::time::timeout(timeout, stoa_engine::execute(&execution))
            .await
            .unwrap_or_else(|_| {
                Response::request_error(GraphQLError::new(
                    "TIMEOUT",
                    format!("the operation took longer than {timeout:?}"),
                ))
            });
        if request.explain && self.config.expose_plans {
            let plan = execution.plan.display(&self.graph).to_string();
            response
                .extensions
                .insert("plan".to_owned(), Value::from(plan));
            let cost = json!({ "estimate": cost.estimate, "limit": cost.limit });
            response.extensions.insert("cost".to_owned(), cost);
        }
        response
    }

    /// Starts a subscription. When the client's token expires, it ends with
    /// `TOKEN_EXPIRED`.
    ///
    /// # Errors
    /// The request error; no event was sent.
    pub async fn subscribe(
        &self,
        prepared: &Prepared,
        request: &GraphqlRequest,
        client: &Client,
    ) -> Result<BoxStream<'static, Response>, Response> {
        let permit = self
            .subscriptions
            .clone()
            .try_acquire_owned()
            .map_err(|_| {
                Response::request_error(GraphQLError::new(
                    "UNAVAILABLE",
                    "this server has reached its limit of subscriptions",
                ))
            })?;
        let (execution, _) = self
            .execution(prepared, request, client)
            .map_err(|error| Response::request_error(*error))?;
        let active = ActiveSubscription::new(permit);
        let left = client.principal.expires_at.map(|at| {
            let micros = u64::try_from(at - self.clock.now()).unwrap_or(0);
            Duration::from_micros(micros)
        });
        let expiry = async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let mut expiry = Box::pin(expiry);
        // A subgraph may answer with its first event only, which may never come.
        let events = tokio::select! {
            events = stoa_engine::subscribe(execution) => events?,
            () = &mut expiry => return Err(Response::request_error(token_expired())),
        };
        let ending = futures_util::stream::once(expiry)
            .map(|()| Some(Response::request_error(token_expired())));
        // Each stream ends with `None`, and the first `None` ends the whole: at the end
        // of the source or when the token expires, whichever comes first.
        let over = || futures_util::stream::once(async { None });
        let events = events.map(Some).chain(over());
        let both = futures_util::stream::select(events, ending.chain(over()));
        let both = both.scan(active, |_active, item| std::future::ready(item));
        Ok(in_span(Span::current(), both.boxed()).boxed())
    }

    fn execution(
        &self,
        prepared: &Prepared,
        request: &GraphqlRequest,
        client: &Client,
    ) -> Result<(Execution, Cost), Box<GraphQLError>> {
        // A WebSocket connection can outlive the token that it was opened with.
        if client
            .principal
            .expires_at
            .is_some_and(|at| at <= self.clock.now())
        {
            return Err(Box::new(token_expired()));
        }
        let given = request.variables.as_ref().map_or("{}", |given| given.get());
        let mut variables = Variables::coerce(self.graph.api(), &prepared.operation, given)
            .map_err(|problem| GraphQLError::new("BAD_USER_INPUT", problem))?;
        let limits = &self.config.limits.cost;
        let cost = cost::check(&self.graph, prepared, &variables, client, limits)?;
        let plan = self.plan(prepared, &variables, client)?;
        let introspection = if plan.introspects {
            self.introspect(prepared, &variables)?
        } else {
            Map::new()
        };
        if let (Some(resume), Some(id)) = (&plan.resume, &client.last_event_id)
            && let Some(variable) = &resume.variable
        {
            // An explicit `after` wins over the header.
            // Otherwise the stream resumes after the event that the client saw last.
            variables.set_string_if_null(variable, id);
        }
        let execution = Execution {
            graph: self.graph.clone(),
            plan,
            transport: self.transport.clone(),
            variables: Arc::new(variables),
            introspection: Arc::new(introspection),
            headers: self.subgraph_headers(client),
        };
        Ok((execution, cost))
    }

    fn plan(
        &self,
        prepared: &Prepared,
        variables: &Variables,
        client: &Client,
    ) -> Result<Arc<QueryPlan>, Box<GraphQLError>> {
        let nothing = Grants::default();
        let grants = client.principal.grants.as_deref().unwrap_or(&nothing);
        let all = self.graph.demands();
        // All that a plan depends on beside the document: the key of its cache.
        let decisions = Decisions {
            conditions: prepared
                .conditions
                .iter()
                .filter_map(|name| Some((name.clone(), variables.boolean(name)?)))
                .collect(),
            labels: self.labels(),
            denied: prepared
                .demands
                .iter()
                .copied()
                .filter(|id| {
                    all.get(*id as usize)
                        .is_some_and(|demand| !demand.is_met(grants))
                })
                .collect(),
        };
        // Used on after a panic: the map holds only finished plans.
        let plans = || {
            prepared
                .plans
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = plans().get(&decisions) {
            return Ok(known.clone());
        }
        // Not locked: others need not wait, and at worst two requests make the same plan.
        let started = Instant::now();
        let made = plan(
            &self.graph,
            &prepared.document,
            &prepared.operation,
            &decisions,
        )
        .map_err(|error| {
            let code = match error {
                PlanError::TooLarge => "QUERY_TOO_LARGE",
                PlanError::ReservedName(_) => "GRAPHQL_VALIDATION_FAILED",
                PlanError::Unresolvable { .. } | PlanError::RequiresCycle { .. } => {
                    "QUERY_PLANNING_FAILED"
                }
            };
            GraphQLError::new(code, error.to_string())
        })?;
        metrics::histogram!("stoa_plan_duration_seconds").record(started.elapsed());
        let made = Arc::new(made);
        let mut plans = plans();
        // Clients choose the conditions: without a limit they could fill the memory.
        if plans.len() >= MAX_PLANS_PER_DOCUMENT {
            plans.clear();
        }
        plans.insert(decisions, made.clone());
        Ok(made)
    }

    /// The override labels that are on for one operation.
    fn labels(&self) -> Labels {
        self.graph
            .labels()
            .iter()
            .filter(|label| match percent(label) {
                Some(share) => random_percent() < share,
                None => self.config.override_labels.contains(&***label),
            })
            .cloned()
            .collect()
    }

    fn introspect(
        &self,
        prepared: &Prepared,
        variables: &Variables,
    ) -> Result<Map<String, Value>, Box<GraphQLError>> {
        if self.config.hide_schema {
            return Err(Box::new(GraphQLError::new(
                "INTROSPECTION_DISABLED",
                "introspection is disabled on this server",
            )));
        }
        let answer = crate::introspection::execute_introspection(
            self.graph.api(),
            self.graph.implementers(),
            &prepared.document,
            &prepared.operation,
            // Coerced above to the types that the document was validated with.
            &Valid::assume_valid(variables.parsed()),
        );
        answer.map_err(|error| Box::new(GraphQLError::new("BAD_REQUEST", error)))
    }

    /// A function that makes the headers for each subgraph anew at each call: the
    /// signed identity is valid for a minute, a subscription lasts longer.
    fn subgraph_headers(&self, client: &Client) -> Arc<dyn Fn() -> Arc<[HeaderMap]> + Send + Sync> {
        let graph = self.graph.clone();
        let identity = self.identity.clone();
        let rules = self.config.headers.clone();
        let client = client.clone();
        Arc::new(move || {
            let mut common = HeaderMap::new();
            if let Ok(id) = HeaderValue::from_str(&client.correlation_id) {
                common.insert(CORRELATION_HEADER, id);
            }
            // Without traces of our own, the client's trace header is forwarded unchanged.
            if let Some(trace) = client.headers.get(TRACE_HEADER) {
                common.insert(TRACE_HEADER, trace.clone());
            }
            inject_trace(&mut common);
            match &identity {
                Some(key) => {
                    if let Some(identity) = key.sign(&client.principal.caller) {
                        common.insert(IDENTITY_HEADER, identity);
                    }
                }
                None => {
                    if let Some(value) = client.headers.get(header::AUTHORIZATION) {
                        common.insert(header::AUTHORIZATION, value.clone());
                    }
                }
            }
            graph
                .subgraphs
                .iter()
                .map(|subgraph| {
                    let mut headers = common.clone();
                    rules.to_subgraph(&client.headers, &subgraph.name, &mut headers);
                    headers
                })
                .collect()
        })
    }
}

/// A random number from 0 up to 100, uniformly distributed.
fn random_percent() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    // A float has 53 bits of precision.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let share = bits as f64 / (1_u64 << 53) as f64;
    share * 100.0
}

fn token_expired() -> GraphQLError {
    GraphQLError::new(
        "TOKEN_EXPIRED",
        "the access token has expired; refresh the session and resume",
    )
}

/// Counts a running subscription in the metrics until it is dropped.
struct ActiveSubscription {
    _permit: OwnedSemaphorePermit,
}

impl ActiveSubscription {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("stoa_active_subscriptions").increment(1);
        Self { _permit: permit }
    }
}

impl Drop for ActiveSubscription {
    fn drop(&mut self) {
        metrics::gauge!("stoa_active_subscriptions").decrement(1);
    }
}

fn diagnostics(
    code: &str,
    list: &apollo_compiler::validation::DiagnosticList,
) -> Vec<GraphQLError> {
    list.iter()
        .take(20)
        .map(|diagnostic| {
            let mut error = GraphQLError::new(code, diagnostic.error.to_string());
            if let Some(range) = diagnostic.line_column_range() {
                error.locations.push(serde_json::json!({
                    "line": range.start.line,
                    "column": range.start.column,
                }));
            }
            error
        })
        .collect()
}
