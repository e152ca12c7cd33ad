//! A relay that does exactly what a test tells it, over real sockets.
use std::sync::Arc;
use std::time::Duration;

use contextvm_relay::{Filter, Inbox, Incoming, PublishEvent, RelaysConfig, Timing};
use futures_util::{SinkExt as _, StreamExt as _};
use nostr::event::EventId;
use nostr::types::RelayUrl;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A listening relay; each connection is handed to the test.
pub(crate) struct Relay {
    listener: TcpListener,
    pub(crate) url: RelayUrl,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::listen("127.0.0.1:0").await
    }

    /// Listens at a given address, as after a restart.
    pub(crate) async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = RelayUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
        Self { listener, url }
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        };
        Peer { socket: soon(accepted).await }
    }

    /// Waits for the next connection and says what time it is while it is upgraded.
    #[expect(clippy::result_large_err, reason = "what tungstenite wants of a callback")]
    pub(crate) async fn accept_at(&self, date: &'static str) -> Peer {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let dated = |_: &Request, mut answer: Response| {
                answer.headers_mut().insert("date", HeaderValue::from_static(date));
                Ok(answer)
            };
            tokio_tungstenite::accept_hdr_async(stream, dated).await.unwrap()
        };
        Peer { socket: soon(accepted).await }
    }

    /// Says that nobody connects for a while.
    pub(crate) async fn is_left_alone(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(200), self.listener.accept()).await.is_err()
    }

    /// Waits for the next connection and its subscription, and answers that there is nothing stored.
    pub(crate) async fn accept_live(&self) -> (Peer, String) {
        let mut peer = self.accept().await;
        let (subscription, _) = peer.req().await;
        peer.say(&json!(["EOSE", subscription])).await;
        (peer, subscription)
    }
}

/// The relay's end of one connection.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Peer {
    /// Waits for the next text frame; `None` when the connection has ended.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for a subscription and returns its id and filters.
    pub(crate) async fn req(&mut self) -> (String, Vec<Value>) {
        let frame = self.word("REQ").await;
        let items = frame.as_array().unwrap();
        (items[1].as_str().unwrap().to_owned(), items[2..].to_vec())
    }

    /// Waits for an event and returns its id.
    pub(crate) async fn event(&mut self) -> String {
        self.word("EVENT").await[1]["id"].as_str().unwrap().to_owned()
    }

    /// Waits for a frame with this word, which must be the next one.
    pub(crate) async fn word(&mut self, word: &str) -> Value {
        let frame = self.hear().await.unwrap_or_else(|| panic!("connection ended before {word}"));
        assert_eq!(frame[0], word, "{frame}");
        frame
    }

    pub(crate) async fn say(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(crate) async fn ok(&mut self, id: &str, accepted: bool, message: &str) {
        self.say(&json!(["OK", id, accepted, message])).await;
    }
}

/// Delays that suit a test; deadlines stay long, because the machine may be busy.
pub(crate) fn timing() -> Timing {
    Timing {
        retry_first: Duration::from_millis(2),
        retry_most: Duration::from_millis(20),
        reopen_first: Duration::from_millis(10),
        reopen_most: Duration::from_millis(100),
        publish: PATIENCE,
        ..Timing::default()
    }
}

pub(crate) fn config(urls: impl IntoIterator<Item = RelayUrl>) -> RelaysConfig {
    let filter = Filter::new(r#"{"kinds":[25910]}"#, Duration::ZERO).unwrap();
    RelaysConfig::new(urls).with_filter(filter).with_timing(timing())
}

pub(crate) fn event(number: u32) -> PublishEvent {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let id = EventId::from_slice(&id).unwrap();
    let json: Arc<str> = json!({"id": id.to_hex(), "content": number.to_string()}).to_string().into();
    PublishEvent { id, json }
}

/// Waits for the next event and returns its text.
pub(crate) async fn next_event(inbox: &mut Inbox) -> String {
    next_numbered(inbox).await.1
}

/// Waits for the next event and returns its number and its text.
pub(crate) async fn next_numbered(inbox: &mut Inbox) -> (u64, String) {
    loop {
        if let Incoming::Event { number, json, .. } = soon(inbox.recv()).await.unwrap() {
            return (number, json);
        }
    }
}

/// Waits for the next loss of a connection and returns its reason.
pub(crate) async fn next_down(inbox: &mut Inbox) -> String {
    loop {
        if let Incoming::Down { reason, .. } = soon(inbox.recv()).await.unwrap() {
            return reason;
        }
    }
}

/// Fails the test rather than hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("nothing within {PATIENCE:?}"))
}
