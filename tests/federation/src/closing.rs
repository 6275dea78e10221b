//! Serves mock subgraphs as servers do that close kept connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::federation::respond;
use crate::mock_subgraph::MockSubgraphs;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves subgraphs over HTTP at `/{name}`; returns the listen address. A request on a
/// connection that had one before meets its end instead of a response, and is counted.
/// Mutations are answered, as nobody may repeat them.
///
/// # Errors
/// If no port is available.
pub async fn serve_closing(
    subgraphs: Arc<MockSubgraphs>,
    closed: Arc<AtomicUsize>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve_connection(socket, subgraphs.clone(), closed.clone()));
        }
    });
    Ok(address)
}

async fn serve_connection(
    socket: TcpStream,
    subgraphs: Arc<MockSubgraphs>,
    closed: Arc<AtomicUsize>,
) -> hyper::Result<()> {
    let received = AtomicUsize::new(0);
    let service = service_fn(move |request| {
        let is_first = received.fetch_add(1, Ordering::Relaxed) == 0;
        respond_or_close(request, is_first, subgraphs.clone(), closed.clone())
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await
}

/// An error closes the connection without a response.
async fn respond_or_close(
    request: Request<Incoming>,
    is_first: bool,
    subgraphs: Arc<MockSubgraphs>,
    closed: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body)?;
    if !is_first && !is_mutation(&body) {
        closed.fetch_add(1, Ordering::Relaxed);
        return Err("closed".into());
    }
    let answer = respond(&subgraphs, &name, &body).to_string();
    Ok(Response::new(Full::from(answer)))
}

/// The planner writes the kind of a mutation first, and nothing before it.
fn is_mutation(body: &Value) -> bool {
    let query = body["query"].as_str().unwrap_or_default();
    query.starts_with("mutation")
}
