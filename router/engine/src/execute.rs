//! Runs a plan. One task owns the data; fetches run concurrently, and each starts
//! as soon as the fetches that it depends on are done.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use stoa_federation::operation::Denied;
use stoa_federation::plan::{FetchKind, QueryPlan};

use crate::batch::Batch;
use crate::complete::complete;
use crate::execution::{Execution, log_failure};
use crate::paths;
use crate::representation;
use crate::request::{self, BatchPart, OperationTexts};
use crate::response::{GraphQLError, PathSegment, Response};
use crate::settle::{ExecutionState, Pending, SentRequest};
use crate::transport::TransportError;
use crate::tree::{Node, ObjectId, Tree};

/// The most errors in one response.
const MAX_ERRORS: usize = 1_000;

/// Executes a query or mutation.
pub async fn execute(execution: &Execution) -> Response {
    run(execution, ExecutionState::new(execution.plan.fetches.len())).await
}

/// Starts a subscription and executes the rest of the plan for each event.
///
/// The outer error is a request error: the source stream never began.
pub async fn subscribe(execution: Execution) -> Result<BoxStream<'static, Response>, Response> {
    let Some(source) = execution.plan.fetches.first() else {
        if let Some(denied) = execution.plan.denied.first() {
            return Err(Response::request_error(unauthorized(denied)));
        }
        return Err(Response::request_error(GraphQLError::new(
            "BAD_REQUEST",
            "a subscription must select a field of the graph",
        )));
    };
    let request = execution.request(
        source,
        &Batch::default(),
        &BatchPart::default(),
        &(execution.headers)(),
        &mut OperationTexts::default(),
    );
    let events = match execution.transport.subscribe(request).await {
        Ok(events) => events,
        Err(error) => {
            log_failure(&error);
            return Err(refused(&execution, error));
        }
    };
    // One event at a time: the next is read when the response to this one is
    // taken, so a slow client slows its source and fills no memory here.
    Ok(events
        .then(move |event| {
            let execution = execution.clone();
            async move {
                let mut state = ExecutionState::new(execution.plan.fetches.len());
                if let Some(pending) = state.pending.first_mut() {
                    *pending = Pending::Done;
                }
                let event = event.and_then(|event| state.read(event, &execution, 0));
                match event {
                    Ok(event) => {
                        let data = event.parsed.data;
                        let root = representation::find(&state.tree, &[]);
                        state.settle_root(event, &execution, 0, &root);
                        let cursor = cursor_of(&execution.plan, &state.tree, data);
                        let mut response = run(&execution, state).await;
                        response.cursor = cursor;
                        response
                    }
                    Err(error) => {
                        log_failure(&error);
                        Response::request_error(error.to_graphql())
                    }
                }
            }
        })
        .boxed())
}

/// The request error of a subscription that could not start: the subgraph's own
/// errors, if it gave any.
fn refused(execution: &Execution, error: TransportError) -> Response {
    let TransportError::Refused { mut errors, .. } = error else {
        return Response::request_error(error.to_graphql());
    };
    errors.truncate(MAX_ERRORS);
    let (shape, nothing) = (&execution.plan.shape, Tree::default());
    for error in &mut errors {
        error.path = paths::to_client(shape, &nothing, &error.path);
    }
    Response {
        errors,
        ..Response::default()
    }
}

fn cursor_of(plan: &QueryPlan, tree: &Tree, event: Option<ObjectId>) -> Option<String> {
    let resume = plan.resume.as_ref()?;
    let [field, cursor] = &resume.cursor;
    let Node::Object(payload) = tree.get(event?, field.id)? else {
        return None;
    };
    serde_json::from_slice(tree.raw(tree.get(payload, cursor.id)?)).ok()
}

async fn run(execution: &Execution, mut state: ExecutionState) -> Response {
    let mut running = FuturesUnordered::new();
    let headers = (execution.headers)();
    loop {
        // A fetch without objects is done at once, which may make others ready.
        while let Some(index) = state.next_ready_fetch(&execution.plan) {
            let fetch = &execution.plan.fetches[index];
            let batch = Arc::new(match &fetch.kind {
                FetchKind::Root { .. } => representation::find(&state.tree, &fetch.path),
                FetchKind::Entities { inputs, contexts } => {
                    representation::collect(&state.tree, &fetch.path, inputs, contexts.as_ref())
                }
            });
            if batch.overflow {
                return Response::request_error(too_large());
            }
            if batch.targets.is_empty() {
                state.pending[index] = Pending::Done;
                continue;
            }
            let parts = match &fetch.kind {
                FetchKind::Root { .. } => vec![BatchPart {
                    count: 1,
                    ..BatchPart::default()
                }],
                FetchKind::Entities { .. } => request::split_batch(&batch),
            };
            state.pending[index] = Pending::Started(parts.len());
            let mut texts = OperationTexts::default();
            for part in parts {
                let request = execution.request(fetch, &batch, &part, &headers, &mut texts);
                let transport = execution.transport.clone();
                let sent = SentRequest {
                    fetch: index,
                    batch: batch.clone(),
                    part,
                };
                running.push(async move { (sent, transport.execute(request).await) });
            }
        }
        let Some((sent, result)) = running.next().await else {
            break;
        };
        state.settle(&sent, result, execution);
        if state.overflow {
            return Response::request_error(too_large());
        }
    }
    finish(execution, state)
}

fn finish(execution: &Execution, state: ExecutionState) -> Response {
    let shape = &execution.plan.shape;
    let mut errors: Vec<GraphQLError> = Vec::with_capacity(state.errors.len());
    let mut seen = HashSet::new();
    for error in state.errors {
        let path = paths::to_client(shape, &state.tree, &error.path);
        // Several fetches of the same objects may fail for the same reason.
        let new = seen.insert((path.clone(), error.message.clone()));
        if new && errors.len() < MAX_ERRORS {
            errors.push(GraphQLError { path, ..error });
        }
    }
    errors.extend(execution.plan.denied.iter().map(unauthorized));
    let explained = state
        .explained
        .iter()
        .map(|path| paths::to_client(shape, &state.tree, path))
        .collect();
    let data = complete(
        shape,
        &state.tree,
        &execution.introspection,
        &mut errors,
        explained,
    );
    let Some(data) = data else {
        return Response::request_error(too_large());
    };
    Response {
        data: Some(data),
        errors,
        headers: state.headers,
        ..Response::default()
    }
}

fn too_large() -> GraphQLError {
    GraphQLError::new(
        "RESPONSE_TOO_LARGE",
        "the response would be too large: ask for less at a time",
    )
}

fn unauthorized(denied: &Denied) -> GraphQLError {
    let path = denied.path.iter();
    GraphQLError::new(
        "UNAUTHORIZED_FIELD_OR_TYPE",
        format!(
            "you are not allowed to see \"{}.{}\"",
            denied.ty, denied.field
        ),
    )
    .at(path
        .map(|key| PathSegment::Key(key.as_str().into()))
        .collect())
}
