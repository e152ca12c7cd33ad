//! One GET: what comes back is bounded, direct and in time, or a typed failure.
use std::time::Duration;

use crate::support::{PATIENCE, soon};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::{Addresses, DialError, Fetch, FetchError, relay_info};
use nostr::types::RelayUrl;
use nostr::types::url::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Serves one connection with these bytes; returns where, and what was asked.
async fn server(answer: Vec<u8>) -> (Url, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/.well-known/nostr.json?name=a#part", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        // The client may hang up on what it does not want.
        let _ = stream.write_all(&answer).await;
        head
    });
    (Url::parse(&url).unwrap(), asked)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn fetch(url: Url) -> Fetch {
    Fetch::new(url).with_addresses(Addresses::Any).with_deadline(PATIENCE)
}

#[tokio::test]
async fn a_document_is_fetched_with_nothing_but_its_name() {
    let (url, asked) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()).await;
    let port = url.port().unwrap();
    assert_eq!(soon(fetch(url).with_accept("application/json").get()).await, Ok(b"hello".to_vec()));
    let asked = asked.await.unwrap();
    let expected = format!(
        "GET /.well-known/nostr.json?name=a HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: application/json\r\n\
         connection: close\r\n\r\n"
    );
    assert_eq!(asked.to_ascii_lowercase(), expected.to_ascii_lowercase());
}

#[tokio::test]
async fn a_document_without_a_length_ends_with_the_connection() {
    let (url, _) = server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello".to_vec()).await;
    assert_eq!(soon(fetch(url).get()).await, Ok(b"hello".to_vec()));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (url, _) = server(chunked.to_vec()).await;
    assert_eq!(soon(fetch(url).get()).await, Ok(b"hello".to_vec()));
}

#[tokio::test]
async fn every_other_answer_is_a_typed_failure() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    for (answer, expected) in [
        (redirect.to_owned(), FetchError::Status(302)),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), FetchError::Status(404)),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), FetchError::Status(204)),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(101)),
            FetchError::TooLarge(100),
        ),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000)), FetchError::TooLarge(100)),
    ] {
        let (url, _) = server(answer.clone().into_bytes()).await;
        assert_eq!(soon(fetch(url).with_limit(100).get()).await, Err(expected), "{answer:.60}");
    }
    for answer in [
        "SSH-2.0-nothing\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_owned(),
        String::new(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
    ] {
        let (url, _) = server(answer.clone().into_bytes()).await;
        let result = soon(fetch(url).get()).await;
        assert!(matches!(result, Err(FetchError::Protocol(_))), "{answer:.60}: {result:?}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let deadline = Duration::from_millis(300);
    let result = soon(fetch(url).with_deadline(deadline).get()).await;
    assert_eq!(result, Err(FetchError::Timeout(deadline)));
}

#[tokio::test]
async fn under_the_public_rule_only_tls_to_public_addresses_is_tried() {
    let get = async |text: &str| Fetch::new(Url::parse(text).unwrap()).get().await;
    assert_eq!(get("http://1.1.1.1/").await, Err(FetchError::Dial(DialError::Plain)));
    for text in
        ["https://127.0.0.1:9/", "https://[::ffff:10.0.0.1]/", "https://0x7f.1/", "https://localhost/"]
    {
        let result = get(text).await;
        assert!(matches!(result, Err(FetchError::Dial(DialError::Private(_)))), "{text}: {result:?}");
    }
    assert_eq!(get("ftp://1.1.1.1/").await, Err(FetchError::Scheme));
}

#[tokio::test]
async fn a_relay_says_what_it_is() {
    let relay = LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap();
    let url = RelayUrl::parse(&relay.url()).unwrap();
    let info = relay_info(&url, Addresses::Any, PATIENCE).await.unwrap();
    assert_eq!(info.name.as_deref(), Some("contextvm-local-relay"));
    assert_eq!(info.supported_nips, [1, 9, 11, 42]);
    assert_eq!(info.limitation.auth_required, Some(true));
    let document = Some("not json".to_owned());
    let relay = LocalRelay::start(RelayOptions { document, ..RelayOptions::default() }).await.unwrap();
    let url = RelayUrl::parse(&relay.url()).unwrap();
    let result = relay_info(&url, Addresses::Any, PATIENCE).await;
    assert!(matches!(result, Err(FetchError::Document(_))), "{result:?}");
}
