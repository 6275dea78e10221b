//! Connections to subgraphs. Each knows whether it answered a request before, and
//! whether anything was received since something was sent: what a retry depends on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Extensions, HeaderValue, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client as PooledClient, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use super::settings::HttpSettings;

/// A lost connection is noticed by unanswered probes, not by a quiet source.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

pub type Client = PooledClient<Connector, Full<Bytes>>;
pub type Failure = Error;

type Tls = MaybeHttpsStream<TokioIo<TcpStream>>;

/// What is known of a connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionState(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    used: AtomicBool,
    received: AtomicBool,
}

impl ConnectionState {
    /// Notes that a response came.
    pub fn mark_used(&self) {
        self.0.used.store(true, Ordering::Relaxed);
    }

    /// Whether it answered an earlier request.
    pub fn was_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Notes an attempt to send; a failed one counts, too: nothing was received since.
    fn note_sent(&self, sent: &Poll<io::Result<usize>>) {
        if sent.is_ready() {
            self.0.received.store(false, Ordering::Relaxed);
        }
    }

    pub fn has_received_since_sending(&self) -> bool {
        self.0.received.load(Ordering::Relaxed)
    }
}

/// The connection on which a request failed, if it had one, and whether it speaks
/// HTTP/2.
pub fn connection_of(error: &Failure) -> Option<(ConnectionState, bool)> {
    let connected = error.connect_info()?;
    let mut extensions = Extensions::new();
    connected.get_extras(&mut extensions);
    let state = extensions.remove::<ConnectionState>()?;
    Some((state, connected.is_negotiated_h2()))
}

/// The name and password that a URL may have, as `Authorization`.
pub fn credentials(uri: &Uri) -> Option<HeaderValue> {
    let (user, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let user: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    let value = format!("Basic {}", data_encoding::BASE64.encode(&user));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The certificate authorities of the platform. Without any, only subgraphs without
/// TLS can be reached.
///
/// # Errors
/// If the TLS library is broken.
pub fn tls() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate authority cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A client that keeps its connections, or one that opens one for each request.
pub fn client(tls: &ClientConfig, settings: &HttpSettings, keeps_connections: bool) -> Client {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    let connector = Connector {
        inner: HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp),
        timeout: settings.connect_timeout,
    };
    PooledClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(settings.limits.idle)
        .pool_max_idle_per_host(match keeps_connections {
            true => settings.connections,
            false => 0,
        })
        .http2_only(settings.http2)
        .http2_keep_alive_interval(PROBE_AFTER)
        .build(connector)
}

/// Opens connections within a time.
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Tracked>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let timeout = self.timeout;
        Box::pin(async move {
            let stream = tokio::time::timeout(timeout, connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(TokioIo::new(Tracked {
                inner: TokioIo::new(stream),
                state: ConnectionState::default(),
            }))
        })
    }
}

/// A connection that notes what passes over it.
pub struct Tracked {
    inner: TokioIo<Tls>,
    state: ConnectionState,
}

impl Connection for Tracked {
    fn connected(&self) -> Connected {
        self.inner.inner().connected().extra(self.state.clone())
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.0.received.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.state.note_sent(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.state.note_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_attempt_to_send_nothing_was_received() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (sent, expected) in [
            (Poll::Pending, true),
            (Poll::Ready(Ok(1)), false),
            (Poll::Ready(Err(reset())), false),
        ] {
            let state = ConnectionState::default();
            state.0.received.store(true, Ordering::Relaxed);
            state.note_sent(&sent);
            assert_eq!(state.has_received_since_sending(), expected, "{sent:?}");
        }
    }

    #[test]
    fn a_url_may_have_credentials() {
        let of = |url: &'static str| credentials(&Uri::from_static(url));
        assert_eq!(of("http://host/path@x"), None);
        // RFC 7617, with a percent-encoded password.
        let found = of("https://Aladdin:open%20sesame@host:8080/");
        assert_eq!(found.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
