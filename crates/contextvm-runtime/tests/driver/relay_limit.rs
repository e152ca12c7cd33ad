//! What relays take at most: asked once, in the background, and believed only as far as it is harmless.
use std::time::Duration;

use contextvm_core::{Limits, Protection};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::Addresses;
use nostr::types::RelayUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::puppet::Hand;

/// What relays take that say nothing about it.
const USUAL: usize = 65_280;

async fn relay_saying(bytes: &str) -> LocalRelay {
    let document = format!(r#"{{"limitation":{{"max_message_length":{bytes}}}}}"#);
    relay_with(&document).await
}

async fn relay_with(document: &str) -> LocalRelay {
    let options = RelayOptions { document: Some(document.to_owned()), ..RelayOptions::default() };
    LocalRelay::start(options).await.unwrap()
}

async fn hand(relay: &LocalRelay) -> Hand {
    Hand::start(relay, Limits::default()).await
}

impl Hand {
    async fn limit(&mut self) -> usize {
        tokio::time::timeout(Duration::from_secs(20), self.limits.recv())
            .await
            .expect("in time")
            .expect("told")
    }

    /// Makes what relays take matter now.
    async fn publish_something_large(&self) {
        self.publish(1, self.key(), "x".repeat(33_000), Protection::Plain).await;
    }

    /// Waits until relays have been asked and says whether anything was told.
    async fn is_told_nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(800), self.limits.recv()).await.is_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_relay_takes_what_it_says() {
    let relay =
        LocalRelay::start(RelayOptions { max_event: 40_000, ..RelayOptions::default() }).await.unwrap();
    assert_eq!(hand(&relay).await.limit().await, 40_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_of_what_all_relays_say_counts_and_silence_is_the_usual() {
    let (large, small, silent) =
        (relay_saying("200000").await, relay_saying("100000").await, relay_with("{}").await);
    let mut hand = hand(&large).await;
    assert_eq!(hand.limit().await, 199_744);
    for (relay, limit) in [(&small, 99_744), (&silent, USUAL)] {
        // Until it has spoken it counts as one that says nothing.
        hand.relays.add(RelayUrl::parse(&relay.url()).unwrap(), Addresses::Any).unwrap();
        assert_eq!(hand.limit().await, USUAL);
        if limit != USUAL {
            assert_eq!(hand.limit().await, limit);
        }
    }
    hand.relays.remove(&RelayUrl::parse(&silent.url()).unwrap()).await;
    hand.relays.remove(&RelayUrl::parse(&small.url()).unwrap()).await;
    // In between it may be what the other one takes.
    while hand.limit().await != 199_744 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_numbers_are_passed_on_as_numbers() {
    for (said, told) in [("0", 0), ("18446744073709551615", usize::MAX - 256)] {
        let relay = relay_saying(said).await;
        let mut hand = hand(&relay).await;
        hand.publish_something_large().await;
        assert_eq!(hand.limit().await, told, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_silence() {
    let documents = [
        "garbage".to_owned(),
        "[".repeat(60_000),
        "x".repeat(10_000_000),
        r#"{"limitation":{"max_message_length":-1}}"#.to_owned(),
        r#"{"limitation":{"max_message_length":"200000"}}"#.to_owned(),
        r#"{"limitation":[]}"#.to_owned(),
    ];
    for document in documents {
        let relay = relay_with(&document).await;
        let mut hand = hand(&relay).await;
        hand.publish_something_large().await;
        assert!(hand.is_told_nothing().await, "{:.40}", document);
    }
}

/// Stands before a relay: passes websockets on, and answers everything else with these bytes, or never.
struct Front {
    url: String,
    /// One item for each document that was asked for.
    asked: mpsc::UnboundedReceiver<()>,
}

impl Front {
    async fn before(relay: &LocalRelay, answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, port) = (format!("ws://{}", listener.local_addr().unwrap()), relay.port());
        let (ask, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, answer, ask.clone()));
            }
        });
        Self { url, asked }
    }

    async fn is_asked(&mut self) {
        tokio::time::timeout(Duration::from_secs(20), self.asked.recv()).await.expect("in time");
    }
}

async fn serve(mut stream: TcpStream, port: u16, answer: Option<&str>, ask: mpsc::UnboundedSender<()>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    if !head.windows(9).any(|part| part.eq_ignore_ascii_case(b"websocket")) {
        ask.send(()).unwrap();
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
            None => tokio::time::sleep(Duration::from_secs(60)).await,
        }
        return;
    }
    let mut relay = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    relay.write_all(&head).await.unwrap();
    // One of the two ends first; how does not matter.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_hangs_or_sends_elsewhere_delays_nothing() {
    let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n";
    for answer in [None, Some(redirect), Some("rubbish"), Some("")] {
        let relay = crate::puppet::relay().await;
        let mut front = Front::before(&relay, answer).await;
        let mut hand = Hand::start_at([front.url.clone()], Limits::default()).await;
        hand.publish_something_large().await;
        front.is_asked().await;
        for _ in 0..2 {
            // One opens it as it is addressed to itself, the other says that it was published.
            hand.heard().await;
        }
        assert!(hand.is_told_nothing().await, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_asked_once_however_often_it_comes_back() {
    let relay = crate::puppet::relay().await;
    let mut front = Front::before(&relay, Some("rubbish")).await;
    let hand = Hand::start_at([front.url.clone()], Limits::default()).await;
    hand.publish_something_large().await;
    front.is_asked().await;
    relay.drop_connections();
    let again = async {
        while relay.stats().accepted_connections < 2
            || hand.relays.statuses()[0].state != contextvm_relay::RelayState::Live
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("in time");
    assert!(tokio::time::timeout(Duration::from_millis(500), front.asked.recv()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_makes_a_small_call_asks_nothing() {
    let relay = crate::puppet::relay().await;
    let mut front = Front::before(&relay, None).await;
    let mut hand = Hand::start_at([front.url.clone()], Limits::default()).await;
    hand.publish(1, hand.key(), "x".into(), Protection::Plain).await;
    for _ in 0..2 {
        hand.heard().await;
    }
    hand.tell.send(contextvm_runtime::Effect::Stop).await.unwrap();
    hand.running.await.unwrap();
    assert!(front.asked.try_recv().is_err());
}
