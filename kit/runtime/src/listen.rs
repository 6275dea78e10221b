//! The accept loop: HTTP/1.1 and HTTP/2 on one port, with limits on
//! connections, on headers, and on how long headers may take to arrive.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The maximum of open connections per process; more wait to be accepted.
const MAX_CONNECTIONS: usize = 20_000;
/// How long a request's headers may take, or a keep-alive connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// The maximum size of a request's line and headers together, in bytes.
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
/// The maximum of concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 200;
const PING_EVERY: Duration = Duration::from_secs(30);
/// The pause after `accept` fails, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled; then finishes the requests in progress.
///
/// # Errors
/// None of its own; connections that fail are dropped.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) -> io::Result<()> {
    let builder = Arc::new(builder());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let next = async || {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => return Some((slot, stream, address)),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    while let Some(Some((slot, stream, address))) = stop.run_until_cancelled(next()).await {
        // Responses are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request
                .extensions_mut()
                .insert(ConnectInfo::<SocketAddr>(address));
            app.clone().oneshot(request)
        });
        let watcher = graceful.watcher();
        let builder = builder.clone();
        tokio::spawn(async move {
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection failed");
            }
            drop(slot);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(32 * 1024)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY);
    builder
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn sent(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = Router::new().route("/", get(|| async { "hello" }));
        let serving = tokio::spawn(serve(listener, app, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        serving.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn headers_are_bounded() {
        let close = "connection: close\r\n\r\n";
        let plain = format!("GET / HTTP/1.1\r\nhost: x\r\n{close}");
        assert!(sent(plain.as_bytes()).await.ends_with("hello"));
        let many = format!(
            "GET / HTTP/1.1\r\n{}{close}",
            "a: b\r\n".repeat(MAX_HEADERS)
        );
        assert!(sent(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let long = format!(
            "GET / HTTP/1.1\r\na: {}\r\n{close}",
            "x".repeat(MAX_HEADER_BYTES)
        );
        assert!(sent(long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn requests_under_way_are_finished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let cancelled = stop.clone();
        let app = Router::new().route(
            "/",
            get(|| async move {
                cancelled.cancelled().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                "done"
            }),
        );
        let serving = tokio::spawn(serve(listener, app, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        serving.await.unwrap().unwrap();
    }
}
