//! A relay, a gateway with the test child, and clients.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contextvm_bridge::{
    CancellationToken, ChildCommand, Error, Gateway, GatewayBuilder, Notice, Reporter, Target,
};
use contextvm_client::{CallError, Client, Messages};
use contextvm_core::Limits;
use contextvm_crypto::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_server::{Server, ServerHandle};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

pub(crate) fn keys(number: u8) -> Keys {
    Keys::from_secret_bytes([number; 32]).unwrap()
}

/// Finds an example of this crate: they are built together with the tests.
pub(crate) fn example(name: &str) -> std::path::PathBuf {
    let tests = std::env::current_exe().unwrap();
    let file = tests.parent().and_then(std::path::Path::parent).unwrap().join("examples").join(name);
    assert!(file.is_file(), "{} is missing: cargo build --examples -p contextvm-bridge", file.display());
    file
}

pub(crate) fn child(args: &[&str]) -> ChildCommand {
    let program = example("misbehaving_server");
    let args = args.iter().map(std::ffi::OsStr::new);
    ChildCommand::new(std::iter::once(program.as_os_str()).chain(args)).unwrap()
}

/// Everything that was noticed.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Vec<Notice>>>);

impl Notices {
    pub(crate) fn reporter(&self) -> Reporter {
        let sink = Arc::clone(&self.0);
        Reporter::new(move |notice| sink.lock().unwrap().push(notice.clone()))
    }

    pub(crate) fn all(&self) -> Vec<Notice> {
        self.0.lock().unwrap().clone()
    }
}

/// A served test child.
pub(crate) struct Stage {
    pub(crate) relay: LocalRelay,
    pub(crate) notices: Notices,
    pub(crate) pid: u32,
    pub(crate) server: ServerHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), Error>>,
}

impl Stage {
    pub(crate) async fn serve(command: ChildCommand) -> Self {
        Self::serve_with(command, |gateway| gateway, None).await
    }

    pub(crate) async fn serve_with(
        target: impl Into<Target>,
        tune: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
        allow: Option<Vec<nostr::key::PublicKey>>,
    ) -> Self {
        let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
        let notices = Notices::default();
        let gateway = tune(Gateway::builder(target).reporter(notices.reporter())).start().await.unwrap();
        let pid = gateway.pid().unwrap_or_default();
        let limits = Limits { in_flight: 4_096, ..Limits::default() };
        let mut server = Server::builder(keys(100)).relay(relay.url()).limits(limits).fresh_key();
        if let Some(allow) = allow {
            server = server.allow(allow);
        }
        let listener = server.start().await.unwrap();
        let (server, stop) = (listener.handle(), CancellationToken::new());
        let running = tokio::spawn(gateway.run(listener, stop.clone()));
        Self { relay, notices, pid, server, stop, running }
    }

    pub(crate) async fn client(&self, number: u8) -> (Client, Messages) {
        let server = keys(100).public_key().into();
        let client = Client::builder(keys(number), server).relay(self.relay.url());
        client.request_timeout(Duration::from_secs(10)).connect().await.unwrap()
    }

    /// Connects a caller that answers what a server asks.
    pub(crate) async fn answering_client(&self, number: u8) -> (Client, Messages) {
        let server = keys(100).public_key().into();
        let client = Client::builder(keys(number), server).relay(self.relay.url()).answer_server_requests();
        client.request_timeout(Duration::from_secs(10)).connect().await.unwrap()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.relay.shutdown().await;
    }
}

pub(crate) async fn request(client: &Client, method: &str, params: &str) -> Result<Value, CallError> {
    let params = RawValue::from_string(params.to_owned()).unwrap();
    client.request(method, Some(params)).await.map(|result| serde_json::from_str(result.get()).unwrap())
}

pub(crate) async fn initialize(client: &Client) -> Value {
    let params =
        r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    let result = request(client, "initialize", params).await.unwrap();
    client.notify("notifications/initialized", None).await.unwrap();
    result
}

pub(crate) async fn call(client: &Client, tool: &str, arguments: &str) -> Result<String, CallError> {
    let tool = serde_json::to_string(tool).unwrap();
    let result =
        request(client, "tools/call", &format!(r#"{{"name":{tool},"arguments":{arguments}}}"#)).await?;
    Ok(result["content"][0]["text"].as_str().unwrap().to_owned())
}

/// Waits for the next message that a closure wants.
pub(crate) async fn hear(messages: &mut Messages, wanted: impl Fn(&Value) -> bool) -> Value {
    let next = async {
        loop {
            let message: Value = serde_json::from_str(&messages.recv().await.unwrap()).unwrap();
            if wanted(&message) {
                return message;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("the message did not come")
}

pub(crate) fn reason(error: &CallError) -> String {
    if let CallError::Server { data: Some(data), .. } = error {
        let data: Value = serde_json::from_str(data.get()).unwrap();
        return data["reason"].as_str().unwrap_or_default().to_owned();
    }
    format!("{error:?}")
}

pub(crate) fn alive(pid: u32) -> bool {
    // A zombie is not alive.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..400 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not happen within 10 s");
}
