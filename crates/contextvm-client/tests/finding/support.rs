//! Servers that announce themselves, and relays that are not honest.
use std::time::Duration;

use contextvm_client::{Discovery, Found, RelayAnswer};
use contextvm_core::event;
use contextvm_crypto::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::{Post, PublishEvent};
use futures_util::{SinkExt as _, StreamExt as _};
use nostr::event::{Event, Tag, Tags};
use nostr::types::RelayUrl;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

/// The time by the clock of every search in these tests.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}

pub(crate) fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

/// One of very many keys.
pub(crate) fn many(number: u16) -> Keys {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    Keys::from_secret_bytes(secret).unwrap()
}

pub(crate) fn signed(keys: &Keys, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| Tag::custom(tag[0], tag[1..].iter().copied()));
    keys.sign_event(kind, created_at, Tags::from_list(tags.collect()), content.to_owned(), [0; 32])
}

/// The announcement of a server of this name.
pub(crate) fn announcement(keys: &Keys, created_at: u64, name: &str) -> Event {
    let info = json!({"name": name, "version": "1"});
    let content = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info});
    signed(keys, 11316, created_at, &[&["name", name], &["support_encryption"]], &content.to_string())
}

pub(crate) fn relay_list(keys: &Keys, created_at: u64, urls: &[&str]) -> Event {
    let tags: Vec<_> = urls.iter().map(|url| ["r", *url]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(|tag| tag.as_slice()).collect();
    signed(keys, 10002, created_at, &tags, "")
}

/// Publishes at one relay, which must take everything.
pub(crate) async fn publish(on: &LocalRelay, events: impl IntoIterator<Item = Event>) {
    let report = post(events).to(&[url(&on.url())]).await.unwrap();
    for posted in report.events {
        assert_eq!(posted.accepted().count(), 1, "{posted:?}");
    }
}

pub(crate) fn post(events: impl IntoIterator<Item = Event>) -> Post {
    let events =
        events.into_iter().map(|event| PublishEvent { id: event.id, json: event::print(&event).into() });
    Post::new(events.collect())
}

pub(crate) fn url(text: &str) -> RelayUrl {
    RelayUrl::parse(text).unwrap()
}

/// A search on these relays that gives up on each after a second.
pub(crate) fn discovery(relays: &[&str]) -> Discovery {
    Discovery::new(relays).unwrap().with_deadline(Duration::from_secs(1)).at(NOW)
}

pub(crate) fn names(found: &Found) -> Vec<String> {
    let mut names: Vec<_> = found.directory.servers().map(|entry| entry.name()).collect();
    names.sort();
    names
}

pub(crate) fn answer<'a>(answers: &'a [RelayAnswer], relay: &str) -> &'a RelayAnswer {
    answers.iter().find(|answer| answer.url == url(relay)).unwrap()
}

/// The address of a relay that is not there.
pub(crate) async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

/// Starts a relay that answers each question with these texts, whatever was asked.
pub(crate) async fn liar(events: Vec<String>) -> String {
    inventor(move |_filter| events.clone()).await
}

/// Starts a relay that makes up an answer to each filter; without one it refuses the question.
pub(crate) async fn inventor<A: Into<Option<Vec<String>>> + 'static>(
    answer: impl Fn(&Value) -> A + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(lie(stream, answer.clone()));
        }
    });
    url
}

pub(crate) async fn lie<A: Into<Option<Vec<String>>>>(
    stream: tokio::net::TcpStream,
    answer: impl Fn(&Value) -> A,
) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(Value::Array(frame)) = serde_json::from_str(&text) else { continue };
        if frame[0] != "REQ" {
            continue;
        }
        let (events, last) = match answer(&frame[2]).into() {
            Some(events) => (events, json!(["EOSE", frame[1]])),
            None => (Vec::new(), json!(["CLOSED", frame[1], "error: not that"])),
        };
        let frames = events.iter().map(|event| format!("[\"EVENT\",{},{event}]", frame[1]));
        for frame in frames.chain([last.to_string()]) {
            if socket.send(Message::text(frame)).await.is_err() {
                return;
            }
        }
    }
}
