//! Names at domains (NIP-05), asked for over http on loopback.
use std::time::Duration;

use contextvm_client::{NameOptions, Nip05, Nip05Error, Verification, nip05};
use contextvm_relay::FetchError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::*;

/// Starts a domain that gives this answer to everybody; returns its host with the port, and what it was asked.
async fn domain(answer: String) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let count = stream.read(&mut request).await.unwrap();
            let line =
                String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_owned();
            let _closed = tell.send(line);
            let _closed = stream.write_all(answer.as_bytes()).await;
        }
    });
    (host, told)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn local() -> NameOptions {
    NameOptions::default().with_dangerous_local(true).with_deadline(Duration::from_millis(500))
}

fn named(host: &str) -> Nip05 {
    format!("bob@{host}").parse().unwrap()
}

#[tokio::test]
async fn a_domain_names_a_key_and_its_relays() {
    let hex = keys(1).public_key().to_hex();
    let body = format!(r#"{{"names":{{"bob":"{hex}"}},"relays":{{"{hex}":["wss://a.example"]}}}}"#);
    let (host, mut asked) = domain(ok(&body)).await;
    let identity = nip05::resolve(&named(&host), &local()).await.unwrap();
    assert_eq!((identity.key, identity.relays), (keys(1).public_key(), vec!["wss://a.example".to_owned()]));
    assert_eq!(asked.recv().await.unwrap(), "GET /.well-known/nostr.json?name=bob HTTP/1.1");
    let claim = format!("Bob@{host}");
    assert_eq!(nip05::verify(&keys(1).public_key(), &claim, &local()).await, Verification::Verified);
    let other = nip05::verify(&keys(2).public_key(), &claim, &local()).await;
    assert_eq!(other, Verification::Mismatch(Some(keys(1).public_key())));
    let unknown = nip05::verify(&keys(1).public_key(), &format!("eve@{host}"), &local()).await;
    assert_eq!(unknown, Verification::Mismatch(None));
    let malformed = nip05::verify(&keys(1).public_key(), "a b@c", &local()).await;
    assert_eq!(malformed, Verification::Malformed);
}

#[tokio::test]
async fn redirects_large_documents_and_silence_are_not_waited_out() {
    let (elsewhere, mut asked_elsewhere) = domain(ok("{}")).await;
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (moved, _asked) = domain(moved).await;
    let failure = |host: String| async move { nip05::resolve(&named(&host), &local()).await.unwrap_err() };
    assert_eq!(failure(moved).await, Nip05Error::Fetch(FetchError::Status(302)));
    assert!(asked_elsewhere.try_recv().is_err());
    let (large, _asked) = domain(ok(&" ".repeat(nip05::LARGEST_DOCUMENT + 1))).await;
    assert_eq!(failure(large).await, Nip05Error::Fetch(FetchError::TooLarge(nip05::LARGEST_DOCUMENT)));
    let (silent, _asked) = domain("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned()).await;
    assert!(matches!(failure(silent).await, Nip05Error::Fetch(_)));
    let (page, _asked) = domain(ok("<html>")).await;
    assert_eq!(failure(page).await, Nip05Error::Document);
    let nobody = dead().await.replace("ws://", "");
    let refused = nip05::verify(&keys(1).public_key(), &format!("a@{nobody}"), &local()).await;
    assert!(matches!(refused, Verification::Unreachable(Nip05Error::Fetch(_))), "{refused:?}");
}

#[tokio::test]
async fn names_do_not_lead_into_our_own_network_unless_asked_for() {
    let (host, mut asked) = domain(ok("{}")).await;
    let port = host.split_once(':').unwrap().1;
    for domain in
        [host.clone(), format!("localhost:{port}"), format!("0x7f.1:{port}"), format!("127.1:{port}")]
    {
        let refused = nip05::resolve(&named(&domain), &NameOptions::default()).await;
        assert!(matches!(refused, Err(Nip05Error::Fetch(FetchError::Dial(_)))), "{domain}: {refused:?}");
    }
    assert!(asked.try_recv().is_err());
}
