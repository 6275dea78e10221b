//! A subgraph as a value: in one process it is called directly, in a process of
//! its own [`crate::server`] puts it on HTTP.

use std::sync::Arc;

use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection};
use async_graphql::{ObjectType, Request, Response, Schema, ServerError, SubscriptionType};
use async_trait::async_trait;
use axum::Router;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::json;
use stoa_runtime::health::Check;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::bus::Bus;
use crate::database::Database;
use crate::peer::PeerHandler;

/// A GraphQL schema, independent of its root types.
#[async_trait]
pub trait GraphqlService: Send + Sync {
    async fn execute(&self, request: Request) -> Response;
    fn subscribe(&self, request: Request) -> BoxStream<'static, Response>;
    fn sdl(&self) -> &str;
}

struct SchemaService<Q, M, S> {
    schema: Schema<Q, M, S>,
    sdl: String,
}

#[async_trait]
impl<Q, M, S> GraphqlService for SchemaService<Q, M, S>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    async fn execute(&self, mut request: Request) -> Response {
        if let Ok(document) = request.parsed_query()
            && asks_for_sdl(document)
        {
            return Response::new(
                async_graphql::Value::from_json(json!({ "_service": { "sdl": self.sdl } }))
                    .unwrap_or_default(),
            );
        }
        let mutates = request.parsed_query().is_ok_and(|document| {
            let mut operations = document.operations.iter();
            operations.any(|(_, operation)| operation.node.ty == OperationType::Mutation)
        });
        if !mutates {
            return self.schema.execute(request).await;
        }
        // A client that disconnects cancels a query, but not a mutation: what follows its
        // commit must still be done.
        let schema = self.schema.clone();
        let work = async move { schema.execute(request).await };
        tokio::spawn(work.in_current_span())
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "a mutation panicked or was cancelled");
                Response::from_errors(vec![ServerError::new("the operation failed", None)])
            })
    }

    fn subscribe(&self, request: Request) -> BoxStream<'static, Response> {
        self.schema.execute_stream(request).boxed()
    }

    fn sdl(&self) -> &str {
        &self.sdl
    }
}

/// Whether an operation is `{ _service { sdl } }`, which is resolved here
/// with the rewritten text.
fn asks_for_sdl(document: &ExecutableDocument) -> bool {
    document.operations.iter().all(|(_, operation)| {
        let items = &operation.node.selection_set.node.items;
        !items.is_empty()
            && items.iter().all(|item| {
                matches!(&item.node, Selection::Field(field)
                    if field.node.name.node == "_service" && field.node.alias.is_none())
            })
    })
}

/// HTTP routes besides GraphQL.
pub type Routes = Router;

/// A service's background work.
pub type Task = BoxFuture<'static, ()>;

/// A built subgraph.
pub struct Service {
    pub name: &'static str,
    pub graphql: Arc<dyn GraphqlService>,
    pub peer: Arc<dyn PeerHandler>,
    pub database: Database,
    /// HTTP routes besides GraphQL, such as images and keys.
    pub routes: Router,
    pub tasks: Vec<Task>,
    /// What the service depends on.
    pub checks: Vec<Check>,
}

impl Service {
    /// Whether the service's database responds.
    pub fn database_check(database: &Database) -> Check {
        let database = database.clone();
        Check::required("database", move || {
            let database = database.clone();
            async move { database.is_ready().await }
        })
    }

    /// Whether the event bus responds.
    pub fn bus_check(bus: &Arc<dyn Bus>) -> Check {
        let bus = bus.clone();
        Check::required("bus", move || {
            let bus = bus.clone();
            async move { bus.info().await.is_ok() }
        })
    }

    /// Takes a schema together with its rewritten SDL.
    pub fn graphql<Q, M, S>(schema: Schema<Q, M, S>) -> Arc<dyn GraphqlService>
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        let sdl = crate::sdl::sdl(&schema);
        Arc::new(SchemaService { schema, sdl })
    }
}

/// Runs tasks until `stop` is cancelled. One that ends before that has failed:
/// the process stops too, rather than go on without it. Returns whether none
/// failed.
pub fn spawn_tasks(tasks: Vec<Task>, stop: &CancellationToken) -> tokio::task::JoinHandle<bool> {
    let mut running = tokio::task::JoinSet::new();
    for task in tasks {
        running.spawn(stop.clone().run_until_cancelled_owned(task));
    }
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut all_well = true;
        while let Some(ended) = running.join_next().await {
            if !stop.is_cancelled() || ended.is_err() {
                tracing::error!(?ended, "a background task has ended; stopping");
                all_well = false;
                stop.cancel();
            }
        }
        all_well
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_graphql::{EmptySubscription, Object};
    use tokio::sync::Notify;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Where a mutation is, and when it may go on.
    #[derive(Default)]
    struct Gate {
        begun: Notify,
        released: Notify,
        done: Notify,
    }

    struct Query;

    #[Object]
    impl Query {
        async fn one(&self) -> i32 {
            1
        }
    }

    struct Mutation(Arc<Gate>);

    #[Object]
    impl Mutation {
        async fn change(&self) -> bool {
            self.0.begun.notify_one();
            self.0.released.notified().await;
            self.0.done.notify_one();
            true
        }
    }

    #[tokio::test]
    async fn a_mutation_goes_on_when_its_client_disconnects() {
        let gate = Arc::new(Gate::default());
        let mutation = Mutation(gate.clone());
        let service = Service::graphql(Schema::new(Query, mutation, EmptySubscription));
        let mut request = service.execute(Request::new("mutation { change }"));
        tokio::select! {
            response = &mut request => panic!("{response:?}"),
            () = gate.begun.notified() => drop(request),
        }
        gate.released.notify_one();
        let done = tokio::time::timeout(LIMIT, gate.done.notified()).await;
        assert!(done.is_ok(), "it was cancelled");
    }

    #[tokio::test]
    async fn the_process_stops_when_a_background_task_ends() {
        let ended: Task = Box::pin(async {});
        let failed: Task = Box::pin(async { panic!("a bug") });
        for task in [ended, failed] {
            let stop = CancellationToken::new();
            let tasks: Vec<Task> = vec![Box::pin(std::future::pending()), task];
            let running = spawn_tasks(tasks, &stop);
            let all_well = tokio::time::timeout(LIMIT, running).await;
            assert!(!all_well.unwrap().unwrap());
            assert!(stop.is_cancelled());
        }
    }

    #[tokio::test]
    async fn background_tasks_end_well_when_the_process_stops() {
        let stop = CancellationToken::new();
        let running = spawn_tasks(vec![Box::pin(std::future::pending())], &stop);
        stop.cancel();
        let all_well = tokio::time::timeout(LIMIT, running).await;
        assert!(all_well.unwrap().unwrap());
    }
}
