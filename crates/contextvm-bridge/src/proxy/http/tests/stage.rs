//! A front on a loopback socket, and the server side of its conversations in the hands of the test.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::{HttpOptions, PATH, bind, serve};
use super::client::{Answer, Call};
use crate::notice::Reporter;
use crate::proxy::conversation::{Conversations, Counterpart, Heard, Said};

pub(super) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
pub(super) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const WELCOME: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;

/// Waits for what must come soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("it did not come soon")
}

pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<()>,
    opened: mpsc::Receiver<Counterpart>,
}

/// The server side of one conversation.
pub(super) struct Server(pub(super) Counterpart);

/// A session that is open.
pub(super) struct Hosted {
    address: SocketAddr,
    pub(super) id: String,
}

impl Stage {
    pub(super) async fn open() -> Self {
        Self::with(|options| options).await
    }

    pub(super) async fn with(change: impl FnOnce(HttpOptions) -> HttpOptions) -> Self {
        let options = change(HttpOptions::new("127.0.0.1:0".parse().unwrap()));
        let listener = bind(&options).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (conversations, opened) = Conversations::new();
        let stop = CancellationToken::new();
        let servers = BTreeMap::from([(PATH.to_owned(), conversations)]);
        let reporter = Reporter::new(|_| {});
        let serving = tokio::spawn(serve(listener, servers, options, reporter, stop.clone()));
        Self { address, stop, serving, opened }
    }

    pub(super) fn call(&self, method: &str) -> Call {
        Call::new(self.address, method, PATH)
    }

    pub(super) fn at(&self, path: &str) -> Call {
        Call::new(self.address, "GET", path)
    }

    /// Posts a message of a session, or one that opens it.
    pub(super) fn post(&self, body: &str) -> Call {
        self.call("POST").body(body)
    }

    /// Posts a request of 2026-07-28 with the headers that it must have.
    pub(super) fn modern(&self, id: &str, method: &str, members: &str) -> Call {
        let name = members.split_once(r#""name":""#).map_or("", |rest| rest.1.split('"').next().unwrap());
        self.call("POST")
            .body(&modern_body(id, method, members))
            .with("mcp-protocol-version", "2026-07-28")
            .with("mcp-method", method)
            .with("mcp-name", name)
    }

    /// Waits for the next conversation.
    pub(super) async fn server(&mut self) -> Server {
        Server(soon(self.opened.recv()).await.unwrap())
    }

    /// Whether no conversation was begun.
    pub(super) fn is_silent(&mut self) -> bool {
        self.opened.try_recv().is_err()
    }

    /// Opens a session.
    pub(super) async fn session(&mut self) -> (Hosted, Server) {
        let posted = tokio::spawn(self.post(INITIALIZE).send());
        let mut server = self.server().await;
        assert_eq!(server.said().await, INITIALIZE);
        server.says(Some("0"), WELCOME).await;
        let mut answer = posted.await.unwrap();
        assert_eq!(answer.data().await.unwrap(), WELCOME);
        assert!(answer.event().await.is_none());
        let hosted = Hosted { address: self.address, id: answer.header("mcp-session-id").to_owned() };
        (hosted, server)
    }
}

pub(super) fn modern_body(id: &str, method: &str, members: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{members}{comma}{meta}}}}}"#)
}

pub(super) fn request(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}

pub(super) fn result(id: &str, n: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":{n}}}}}"#)
}

pub(super) fn progress(n: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{n}}}}}"#
    )
}

pub(super) fn error(id: &str, code: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"m"}}}}"#)
}

impl Server {
    /// Waits for the next message of the host.
    pub(super) async fn said(&mut self) -> String {
        match soon(self.0.said.recv()).await {
            Some(Said::Message(text)) => text,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Waits until the host gives up a request; returns its id.
    pub(super) async fn abandoned(&mut self) -> String {
        match soon(self.0.said.recv()).await {
            Some(Said::Abandon(id)) => id.get().to_owned(),
            other => panic!("{other:?} instead of an end"),
        }
    }

    /// Waits until the host's end is gone.
    pub(super) async fn is_over(&mut self) {
        assert!(soon(self.0.said.recv()).await.is_none());
        soon(self.0.heard.closed()).await;
    }

    pub(super) async fn says(&self, about: Option<&str>, text: &str) {
        let about = about.map(|id| RawValue::from_string(id.to_owned()).unwrap());
        soon(self.0.heard.send(Heard { text: text.to_owned(), about })).await.unwrap();
    }
}

impl Hosted {
    pub(super) fn call(&self, method: &str) -> Call {
        Call::new(self.address, method, PATH)
            .with("mcp-session-id", &self.id)
            .with("mcp-protocol-version", "2025-11-25")
            .with("accept", "application/json, text/event-stream")
    }

    pub(super) fn post(&self, body: &str) -> Call {
        self.call("POST").body(body)
    }

    /// Posts a request and waits for the event from which its stream can be resumed.
    pub(super) async fn ask(&self, body: &str) -> (Answer, String) {
        let mut answer = self.post(body).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
        let primed = soon(answer.event()).await.unwrap();
        assert_eq!((primed.data.as_str(), primed.retry), ("", Some(Duration::from_millis(500))));
        (answer, primed.id.unwrap())
    }

    pub(super) async fn resume(&self, event: &str) -> Answer {
        self.call("GET").with("last-event-id", event).send().await
    }
}
