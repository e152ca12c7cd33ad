//! A plain websocket client for the tests.
use contextvm_crypto::Keys;
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use futures_util::{SinkExt, StreamExt};
use nostr::event::{Event, Tag, Tags};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest wait for a frame that must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Wait after which a frame is taken not to come.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

pub(crate) struct Client(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn connect(relay: &LocalRelay) -> Self {
        Self(tokio_tungstenite::connect_async(relay.url()).await.unwrap().0)
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(SOON, self.0.next()).await.expect("a frame in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn quiet(&mut self) -> bool {
        tokio::time::timeout(QUIET, self.0.next()).await.is_err()
    }

    /// Publishes and returns `(accepted, reason)`.
    pub(crate) async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.post(event).await;
        let frame = self.next().await.expect("an OK");
        assert_eq!(frame[0], "OK", "{frame}");
        assert_eq!(frame[1], event.id.to_hex());
        (frame[2].as_bool().unwrap(), frame[3].as_str().unwrap().to_owned())
    }

    pub(crate) async fn post(&mut self, event: &Event) {
        self.send_text(&format!("[\"EVENT\",{}]", event.as_json())).await;
    }

    /// Subscribes and returns the ids of the stored events.
    pub(crate) async fn subscribe(&mut self, name: &str, filter: Value) -> Vec<String> {
        self.send(json!(["REQ", name, filter])).await;
        let mut ids = Vec::new();
        loop {
            let frame = self.next().await.expect("EOSE");
            if frame[0] == "EOSE" {
                assert_eq!(frame[1], name);
                return ids;
            }
            ids.push(id_of(&frame));
        }
    }

    /// The ids of the next events.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(id_of(&self.next().await.expect("an event")));
        }
        ids
    }
}

pub(crate) fn id_of(frame: &Value) -> String {
    assert_eq!(frame[0], "EVENT", "{frame}");
    frame[2]["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}

pub(crate) async fn relay_with(faults: Faults) -> LocalRelay {
    LocalRelay::start(RelayOptions { faults, seed: 42, ..RelayOptions::default() }).await.unwrap()
}

pub(crate) fn keys(number: u8) -> Keys {
    Keys::from_secret_bytes([number; 32]).unwrap()
}

pub(crate) fn event(author: u8, kind: u16, at: u64, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()).collect();
    keys(author).sign_event(kind, at, Tags::from_list(tags), content.to_owned(), [9; 32])
}

pub(crate) fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.to_hex()).collect()
}

pub(crate) fn notes(count: u64) -> Vec<Event> {
    (0..count).map(|number| event(1, 25_910, 1_000 + number, &[&["p", "aa"]], "note")).collect()
}
