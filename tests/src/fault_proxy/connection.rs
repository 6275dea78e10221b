//! One connection of a client of a proxy. Requests are read by hand, as the faults are of
//! the connection and its bytes, which a server of a library hides.

use std::io::{Error, Result, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use flate2::Compression;
use flate2::write::GzEncoder;
use stoa_runtime::telemetry::CORRELATION_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Ending, Entry, Fault, Proxy};

/// How long a closed connection is read on, to log the request that was on its way.
const LINGER: Duration = Duration::from_millis(500);
const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";

/// Opens a connection for each request: the faults must all be the proxy's own.
pub fn upstream_client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .expect("an HTTP client")
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn is_mutation(&self) -> bool {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let query = body["query"].as_str().unwrap_or_default();
        query.trim_start().starts_with("mutation")
    }
}

/// Reads a request; `None` if the client closed the connection instead. Cancelled, it leaves
/// what it has read in the buffer.
async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Request>> {
    loop {
        if let Some((request, length)) = parse(buffer) {
            buffer.drain(..length);
            return Ok(Some(request));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The first request and its length, if it is there as a whole.
fn parse(buffer: &[u8]) -> Option<(Request, usize)> {
    let head_end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&buffer[..head_end]);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let mut request = Request {
        method,
        path,
        headers: headers.collect(),
        body: Vec::new(),
    };
    let begin = head_end + 4;
    let end = begin + request.header("content-length").parse().unwrap_or(0);
    request.body = buffer.get(begin..end)?.to_vec();
    Some((request, end))
}

pub async fn serve(proxy: Arc<Proxy>, mut socket: TcpStream) {
    // The client sees whatever goes wrong here, which is what the proxy is for.
    let _ = socket.set_nodelay(true);
    let _ = converse(&proxy, &mut socket).await;
}

async fn converse(proxy: &Proxy, socket: &mut TcpStream) -> Result<()> {
    let mut generation = proxy.generation.subscribe();
    let mut buffer = Vec::new();
    let mut is_reused = false;
    let mut idle = None;
    loop {
        let closing = async {
            match idle {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            biased;
            read = read_request(socket, &mut buffer) => read?,
            _ = generation.changed() => {
                return close_idle(proxy, socket, buffer, Duration::ZERO).await;
            }
            () = closing => {
                return close_idle(proxy, socket, buffer, idle.unwrap_or_default()).await;
            }
        };
        let Some(request) = request else {
            return Ok(());
        };
        let fault = proxy.draw(request.is_mutation());
        let is_forwarded = !matches!(fault, Some(Fault::ClosedUnanswered(_) | Fault::BadGateway));
        // This request is answered; the next one may meet the fault.
        let own_fault = fault.filter(|fault| !matches!(fault, Fault::ClosedIdle(_)));
        // Logged before the client can know of it.
        proxy.note(Entry {
            is_forwarded,
            ..entry(proxy, &request, own_fault, is_reused)
        });
        let response = match is_forwarded {
            true => Some(forward(proxy, &request).await?),
            false => None,
        };
        idle = match (fault, response) {
            (Some(Fault::LostResponse(ending) | Fault::ClosedUnanswered(ending)), _) => {
                return end(socket, ending).await;
            }
            (Some(Fault::BadGateway), _) | (_, None) => {
                let head =
                    "HTTP/1.1 502 Bad Gateway\r\nserver: nginx/1.22.1\r\ncontent-type: text/html";
                socket
                    .write_all(&message(head, BAD_GATEWAY.as_bytes()))
                    .await?;
                None
            }
            (Some(Fault::CutResponse(part)), Some(response)) => {
                let bytes = response.to_bytes();
                let sent = 1 + bytes.len() * usize::from(part) / 1_000;
                socket
                    .write_all(&bytes[..sent.min(bytes.len() - 1)])
                    .await?;
                return socket.shutdown().await;
            }
            (fault, Some(response)) => send(socket, &request, response, fault).await?,
        };
        is_reused = true;
        if generation.has_changed().unwrap_or(true) {
            return socket.shutdown().await;
        }
    }
}

fn entry(proxy: &Proxy, request: &Request, fault: Option<Fault>, is_reused: bool) -> Entry {
    Entry {
        proxy: proxy.name.clone(),
        correlation: request.header(CORRELATION_HEADER).to_owned(),
        fault,
        is_reused,
        is_mutation: request.is_mutation(),
        is_forwarded: false,
    }
}

/// Sends a response; returns after which time the idle connection is to be closed.
async fn send(
    socket: &mut TcpStream,
    request: &Request,
    mut response: Response,
    fault: Option<Fault>,
) -> Result<Option<Duration>> {
    match fault {
        Some(Fault::DelayedHead(time)) => tokio::time::sleep(time).await,
        Some(Fault::Compressed) if request.header("accept-encoding").contains("gzip") => {
            response.compress()?;
        }
        _ => {}
    }
    socket.write_all(&response.to_bytes()).await?;
    Ok(match fault {
        Some(Fault::ClosedIdle(after)) => Some(after),
        _ => None,
    })
}

/// Closes our side; a request that was on its way is logged, and gets no answer.
async fn close_idle(
    proxy: &Proxy,
    socket: &mut TcpStream,
    mut buffer: Vec<u8>,
    after: Duration,
) -> Result<()> {
    socket.shutdown().await?;
    let read = tokio::time::timeout(LINGER, read_request(socket, &mut buffer)).await;
    if let Ok(Ok(Some(request))) = read {
        proxy.note(entry(proxy, &request, Some(Fault::ClosedIdle(after)), true));
    }
    Ok(())
}

/// Ends the connection without a byte.
async fn end(socket: &mut TcpStream, ending: Ending) -> Result<()> {
    match ending {
        Ending::Closed => socket.shutdown().await,
        // Takes effect when the socket is dropped.
        Ending::Reset => socket.set_zero_linger(),
    }
}

struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Response {
    fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} ", self.status);
        for (name, value) in &self.headers {
            let own = [
                "content-length",
                "connection",
                "transfer-encoding",
                "keep-alive",
            ];
            if !own.contains(&name.as_str()) {
                let value = String::from_utf8_lossy(value.as_bytes());
                head.push_str(&format!("\r\n{name}: {value}"));
            }
        }
        message(&head, &self.body)
    }

    fn compress(&mut self) -> Result<()> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.body)?;
        self.body = encoder.finish()?;
        let gzip = axum::http::HeaderValue::from_static("gzip");
        self.headers.insert("content-encoding", gzip);
        Ok(())
    }
}

fn message(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn forward(proxy: &Proxy, request: &Request) -> Result<Response> {
    let url = format!("http://{}{}", proxy.upstream, request.path);
    let method = request.method.parse().map_err(Error::other)?;
    let mut made = proxy.http.request(method, url);
    for (name, value) in &request.headers {
        if !["host", "connection", "content-length", "accept-encoding"].contains(&name.as_str()) {
            made = made.header(name, value);
        }
    }
    let answered = made.body(request.body.clone()).send().await;
    let response = answered.map_err(Error::other)?;
    Ok(Response {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.map_err(Error::other)?.to_vec(),
    })
}
