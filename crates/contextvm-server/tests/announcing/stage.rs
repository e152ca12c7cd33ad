//! A stage: relays, an announcing server, and an MCP application that answers from a table.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contextvm_announce::Signed;
use contextvm_crypto::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::{Post, PublishEvent, Query};
use contextvm_server::{
    AnnounceOptions, AnnounceStatus, Announcing, Delivery, Listener, Server, ServerBuilder, ServerHandle,
    Session,
};
use nostr::event::{Event, Tags};
use nostr::types::RelayUrl;
use serde_json::{Value, json};

/// Waits at most so long for what must happen soon.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens soon")
}

pub(crate) fn keys() -> Arc<Keys> {
    Arc::new(Keys::from_secret_bytes([0x11; 32]).unwrap())
}

pub(crate) async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}

/// A server on these relays whose application answers from the table.
pub(crate) fn builder(relays: &[&LocalRelay]) -> ServerBuilder {
    let keys = Keys::from_secret_bytes([0x11; 32]).unwrap();
    Server::builder(keys).relays(relays.iter().map(|relay| relay.url())).fresh_key()
}

/// What an MCP application answers: a result or an error code per method; of lists, page by page.
#[derive(Clone, Default)]
pub(crate) struct App(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    pages: BTreeMap<String, Vec<Value>>,
    asked: Vec<String>,
    /// Ends every session.
    leaving: Arc<tokio::sync::Notify>,
    /// Questions that stay open: subscriptions.
    listens: Vec<(Value, contextvm_server::SessionSender)>,
}

impl App {
    /// An application of the older era with tools and prompts.
    pub(crate) fn legacy() -> Self {
        let app = Self::default();
        app.set(
            "initialize",
            &[json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": { "listChanged": true }, "prompts": {} },
                "serverInfo": { "name": "table", "version": "1" },
            })],
        );
        app.tools(&["a"]);
        app.set("prompts/list", &[json!({ "prompts": [] })]);
        app
    }

    /// An application of the newer era with tools.
    pub(crate) fn modern() -> Self {
        let app = Self::default();
        app.set(
            "server/discover",
            &[json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": { "listChanged": true } },
                "resultType": "complete",
            })],
        );
        app.tools(&["a"]);
        app
    }

    pub(crate) fn set(&self, method: &str, pages: &[Value]) {
        self.0.lock().unwrap().pages.insert(method.to_owned(), pages.to_vec());
    }

    pub(crate) fn unset(&self, method: &str) {
        self.0.lock().unwrap().pages.remove(method);
    }

    /// Offers these tools, each on a page of its own.
    pub(crate) fn tools(&self, names: &[&str]) {
        let page = |(place, name): (usize, &&str)| {
            let mut page = json!({ "tools": [{ "name": name, "inputSchema": { "type": "object" } }] });
            if place + 1 < names.len() {
                page["nextCursor"] = json!((place + 1).to_string());
            }
            page
        };
        self.set("tools/list", &names.iter().enumerate().map(page).collect::<Vec<_>>());
    }

    /// Lists the methods that were asked since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// Ends every session.
    pub(crate) fn drop_sessions(&self) {
        self.0.lock().unwrap().leaving.notify_waiters();
    }

    /// Tells every subscriber that the tools changed.
    pub(crate) async fn tell_subscribers(&self) {
        let listens: Vec<_> = self.0.lock().unwrap().listens.clone();
        for (id, sender) in listens {
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
            let params = json!({ "_meta": meta });
            let note =
                json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params });
            sender.send(note.to_string()).await.unwrap();
        }
    }

    pub(crate) fn serve(&self, mut listener: Listener) {
        let app = self.clone();
        tokio::spawn(async move {
            while let Some(session) = listener.accept().await {
                tokio::spawn(app.clone().serve_session(session));
            }
        });
    }

    async fn serve_session(self, mut session: Session) {
        let leaving = Arc::clone(&self.0.lock().unwrap().leaving);
        loop {
            let inbound = tokio::select! {
                inbound = session.recv() => inbound,
                () = leaving.notified() => return,
            };
            let Some(inbound) = inbound else { return };
            let Delivery::Request { method, .. } = &inbound.delivery else { continue };
            let message: Value = serde_json::from_str(&inbound.message).unwrap();
            if let Some(answer) = self.answer(method, &message, &session) {
                session.sender().send(answer).await.unwrap();
            }
        }
    }

    fn answer(&self, method: &str, message: &Value, session: &Session) -> Option<String> {
        let mut table = self.0.lock().unwrap();
        table.asked.push(method.to_owned());
        let id = message["id"].clone();
        if method == "subscriptions/listen" && table.pages.contains_key("server/discover") {
            table.listens.push((id, session.sender()));
            return None;
        }
        let place = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse::<usize>().unwrap());
        let answer = match table.pages.get(method).and_then(|pages| pages.get(place)) {
            Some(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            None => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no" } }),
        };
        Some(answer.to_string())
    }
}

/// Options for relays of the test alone.
pub(crate) fn options() -> AnnounceOptions {
    AnnounceOptions { deadline: Duration::from_secs(2), ..AnnounceOptions::default() }
}

/// Starts a server with this application and announces it.
pub(crate) async fn announced(
    builder: ServerBuilder,
    app: &App,
    options: AnnounceOptions,
) -> (ServerHandle, Announcing, AnnounceStatus) {
    let listener = builder.start().await.unwrap();
    let handle = listener.handle();
    app.serve(listener);
    let mut announcing = handle.announce(options).unwrap();
    let status = soon(announcing.settled()).await.unwrap();
    (handle, announcing, status)
}

/// Leaves an event of an earlier run on a relay.
pub(crate) async fn leave(relay: &LocalRelay, kind: u16, created_at: u64) {
    let event = keys().sign_event(kind, created_at, Tags::new(), "{}".to_owned(), [3; 32]);
    let event = PublishEvent { id: event.id, json: event.as_json().into() };
    Post::new(vec![event]).to(&[RelayUrl::parse(&relay.url()).unwrap()]).await.unwrap();
}

/// What a relay holds, checked, in order of the kinds.
pub(crate) async fn stored(relay: &LocalRelay) -> Vec<Event> {
    let url = RelayUrl::parse(&relay.url()).unwrap();
    let report = Query::new("{}").ask(&[url]).await.unwrap();
    let read = |(_, json): (&RelayUrl, &str)| Signed::read(json).unwrap().into_event();
    let mut events: Vec<Event> = report.events().map(read).collect();
    events.sort_by_key(|event| (event.kind, event.created_at));
    events
}

pub(crate) async fn stored_kinds(relay: &LocalRelay) -> Vec<u16> {
    stored(relay).await.iter().map(|event| event.kind.as_u16()).collect()
}

pub(crate) fn of_kind(events: &[Event], kind: u16) -> &Event {
    events
        .iter()
        .find(|event| event.kind.as_u16() == kind)
        .unwrap_or_else(|| panic!("no event of kind {kind}"))
}

pub(crate) fn tags(event: &Event) -> Vec<Vec<String>> {
    event.tags.iter().map(|tag| tag.as_slice().to_vec()).collect()
}

/// Says to everybody that a list changed.
pub(crate) async fn changed(handle: &ServerHandle, list: &str) {
    let note = json!({ "jsonrpc": "2.0", "method": format!("notifications/{list}/list_changed") });
    handle.broadcast(note.to_string()).await.unwrap();
}
