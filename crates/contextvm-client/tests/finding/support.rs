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
    let events =
        events.into_iter().map(|event| PublishEvent { id: event.id, json: event::print(&event).into() });
    let report = Post::new(events.collect()).to(&[url(&on.url())]).await.unwrap();
    for posted in report.events {
        assert_eq!(posted.accepted().count(), 1, "{posted:?}");
    }
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(lie(stream, events.clone()));
        }
    });
    url
}

async fn lie(stream: tokio::net::TcpStream, events: Vec<String>) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(Value::Array(frame)) = serde_json::from_str(&text) else { continue };
        if frame[0] != "REQ" {
            continue;
        }
        for event in &events {
            let frame = format!("[\"EVENT\",{},{event}]", frame[1]);
            if socket.send(Message::text(frame)).await.is_err() {
                return;
            }
        }
        if socket.send(Message::text(json!(["EOSE", frame[1]]).to_string())).await.is_err() {
            return;
        }
    }
}
