//! Calls between services over sockets that end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stoa_runtime::clock::Clock;
use stoa_runtime::identity::IdentityKey;
use stoa_schema::peer::CommitStock;
use stoa_service::peer::{PeerError, Peers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Reads a request; false if the connection ended before.
async fn read_request(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4_096];
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") {
        match socket.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
    true
}

/// A peer of which each connection answers as many calls and then ends without a
/// response, at most `broken` times; counts the calls.
async fn peer(answers: usize, broken: usize) -> (Peers, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    if !read_request(&mut socket).await {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    if number == answers && connection < broken {
                        return;
                    }
                    let body = "{\"committed\":true}";
                    let length = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    let sent = socket.write_all(format!("{head}{body}").as_bytes()).await;
                    sent.unwrap();
                }
            });
        }
    });
    let key = IdentityKey::new("a secret of more than thirty-two bytes", Clock::system());
    let urls = HashMap::from([("products".to_owned(), url)]);
    (Peers::http("orders", urls, key).unwrap(), seen)
}

async fn call(peers: &Peers) -> Result<bool, PeerError> {
    let order_id = serde_json::from_str("\"0191d6a2-7c00-7000-8000-000000000001\"").unwrap();
    let done = peers.call("test", &CommitStock { order_id }).await?;
    Ok(done.committed)
}

#[tokio::test]
async fn a_call_whose_connection_ended_is_sent_once_more_on_a_new_one() {
    let (peers, seen) = peer(1, 1).await;
    assert!(call(&peers).await.unwrap());
    assert!(call(&peers).await.unwrap());
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn it_is_not_sent_a_third_time() {
    let (peers, seen) = peer(0, usize::MAX).await;
    assert!(matches!(
        call(&peers).await,
        Err(PeerError::Unreachable { .. })
    ));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
