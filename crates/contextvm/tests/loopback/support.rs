//! A small raw server application, and short ways to start things.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contextvm::Keys;
use contextvm::client::{Client, ClientBuilder, Messages};
use contextvm::server::{
    Delivery, Inbound, Listener, Server, ServerBuilder, ServerHandle, Session, SessionSender,
};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use nostr::key::PublicKey;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

/// Longer than anything should take on loopback.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}

pub(crate) fn keys() -> Keys {
    contextvm::new_keys().unwrap()
}

pub(crate) fn server(relay: &LocalRelay) -> ServerBuilder {
    Server::builder(keys()).relay(relay.url()).fresh_key()
}

pub(crate) fn client(relay: &LocalRelay, server: PublicKey) -> ClientBuilder {
    Client::builder(keys(), server.into()).relay(relay.url())
}

/// A stateless client that only makes calls.
pub(crate) async fn caller(relay: &LocalRelay, server: PublicKey) -> Client {
    let (client, messages) = client(relay, server).stateless().connect().await.unwrap();
    forget(messages);
    client
}

/// Reads messages and throws them away.
pub(crate) fn forget(mut messages: Messages) {
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
}

/// Ends the test when something takes too long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("in time")
}

pub(crate) async fn next(messages: &mut Messages) -> Value {
    let text = soon(messages.recv()).await.expect("a message");
    serde_json::from_str(&text).unwrap()
}

/// Waits until something becomes true.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    soon(async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) fn initialize(id: u64) -> String {
    let info = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params}).to_string()
}

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

pub(crate) fn call_text(id: &Value, tool: &str, value: &Value, token: Option<&Value>) -> String {
    let mut params = json!({"name": tool, "arguments": {"value": value}});
    if let Some(token) = token {
        params["_meta"] = json!({"progressToken": token});
    }
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

pub(crate) async fn call(
    client: &Client,
    tool: &str,
    value: Value,
) -> Result<Value, contextvm::client::CallError> {
    let params = json!({"name": tool, "arguments": {"value": value}});
    let params = serde_json::value::to_raw_value(&params).unwrap();
    let result = soon(client.request("tools/call", Some(params))).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

/// What the application has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) executed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) initialized: AtomicU64,
    pub(crate) sessions: AtomicU64,
    /// Lets `slow` calls finish.
    pub(crate) go: Notify,
}

impl Seen {
    pub(crate) fn executed(&self) -> u64 {
        self.executed.load(Ordering::SeqCst)
    }
}

/// A running raw application.
pub(crate) struct App {
    pub(crate) handle: ServerHandle,
    pub(crate) seen: Arc<Seen>,
}

impl App {
    pub(crate) fn key(&self) -> PublicKey {
        self.handle.public_key()
    }
}

/// Starts the raw application.
pub(crate) async fn app(builder: ServerBuilder) -> App {
    run(builder.start().await.unwrap())
}

pub(crate) fn run(mut listener: Listener) -> App {
    let seen = Arc::new(Seen::default());
    let handle = listener.handle();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Some(session) = listener.accept().await {
            shared.sessions.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(session, Arc::clone(&shared)));
        }
    });
    App { handle, seen }
}

/// Answers of the caller to requests of the application, by id.
type Asked = Arc<Mutex<BTreeMap<String, oneshot::Sender<Value>>>>;

async fn serve(mut session: Session, seen: Arc<Seen>) {
    let asked = Asked::default();
    let mut running = BTreeMap::new();
    while let Some(inbound) = session.recv().await {
        let message: Value = serde_json::from_str(&inbound.message).unwrap();
        match &inbound.delivery {
            Delivery::Request { key, .. } => {
                assert_eq!(message["id"], json!(key.id.to_hex()));
                let work =
                    answer(inbound.clone(), message, session.sender(), Arc::clone(&seen), Arc::clone(&asked));
                running.insert(key.id.to_hex(), tokio::spawn(work));
            }
            Delivery::Notification { method } if method == "notifications/cancelled" => {
                let id = message["params"]["requestId"].as_str().unwrap();
                if let Some(task) = running.remove(id) {
                    task.abort();
                    seen.cancelled.fetch_add(1, Ordering::SeqCst);
                }
            }
            Delivery::Notification { method } => {
                if method == "notifications/initialized" {
                    seen.initialized.fetch_add(1, Ordering::SeqCst);
                }
            }
            Delivery::Response => {
                let id = message["id"].as_str().unwrap();
                let waiting = asked.lock().unwrap().remove(id).expect("an answer to what was asked");
                waiting.send(message).unwrap();
            }
        }
    }
}

async fn answer(inbound: Inbound, message: Value, sender: SessionSender, seen: Arc<Seen>, asked: Asked) {
    let id = message["id"].clone();
    let value = message["params"]["arguments"]["value"].clone();
    let token = message["params"]["_meta"]["progressToken"].clone();
    let tool = message["params"]["name"].as_str().unwrap_or_default();
    let result = match (message["method"].as_str().unwrap(), tool) {
        ("initialize", _) => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "app", "version": "1"},
        }),
        ("tools/call", "slow") => {
            seen.executed.fetch_add(1, Ordering::SeqCst);
            seen.go.notified().await;
            json!({"value": value})
        }
        ("tools/call", "progress") => {
            seen.executed.fetch_add(1, Ordering::SeqCst);
            for step in 1..=3 {
                let params = json!({"progressToken": token, "progress": step});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
                sender.send(note.to_string()).await.unwrap();
            }
            json!({"value": value})
        }
        ("tools/call", "sample") => {
            let (tell, told) = oneshot::channel();
            asked.lock().unwrap().insert("ask-1".into(), tell);
            let ask =
                json!({"jsonrpc": "2.0", "id": "ask-1", "method": "sampling/createMessage", "params": {}});
            sender.send(ask.to_string()).await.unwrap();
            json!({"answer": told.await.unwrap()["result"]})
        }
        _ => {
            seen.executed.fetch_add(1, Ordering::SeqCst);
            json!({"value": value, "caller": inbound.event.unwrap().pubkey.to_hex()})
        }
    };
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
    let _closed = sender.send(answer.to_string()).await;
}
