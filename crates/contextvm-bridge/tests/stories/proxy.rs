//! Stories of a stdio host and a server on Nostr.
use std::time::{Duration, Instant};

use contextvm_bridge::{CancellationToken, Error, Proxy};
use contextvm_client::ClientOptions;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines};
use tokio::task::JoinHandle;

use crate::stage::{Notices, Stage, child, keys, until};

/// A host with its proxy.
struct Host {
    input: DuplexStream,
    output: Lines<BufReader<DuplexStream>>,
    notices: Notices,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Host {
    fn start(relay: &str, ready: Duration) -> Self {
        let mut options = ClientOptions::new(keys(1), keys(100).public_key().into());
        options.relays = vec![relay.to_owned()];
        options.ready_timeout = ready;
        let (input, reader) = tokio::io::duplex(64 * 1024);
        let (writer, output) = tokio::io::duplex(64 * 1024);
        let (notices, stop) = (Notices::default(), CancellationToken::new());
        let proxy = Proxy::builder(options).reporter(notices.reporter()).hint("ask somebody").build();
        let running = tokio::spawn(proxy.run(reader, writer, stop.clone()));
        Self { input, output: BufReader::new(output).lines(), notices, stop, running }
    }

    async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(10), self.output.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_talks_to_a_server_far_away() {
    let stage = Stage::serve(child(&[])).await;
    let mut host = Host::start(&stage.relay.url(), Duration::from_secs(5));
    host.say(INITIALIZE).await;
    assert_eq!(host.hear().await["result"]["serverInfo"]["name"], "test-child");
    host.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    host.say(r#"{"jsonrpc":"2.0","id":"x y","method":"tools/call","params":{"name":"echo","arguments":{"n":1.50}}}"#).await;
    let answer = host.hear().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&"x y".into(), &r#"echo:{"n":1.5}"#.into())
    );
    drop(host.input);
    host.running.await.unwrap().unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_host_cancels_what_is_open_and_is_quick() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let stage = Stage::serve(child(&[]).env("SEEN", &seen).unwrap()).await;
    let mut host = Host::start(&stage.relay.url(), Duration::from_secs(5));
    host.say(INITIALIZE).await;
    host.hear().await;
    host.say(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"hang"}}"#).await;
    let child_saw = |what: &str| std::fs::read_to_string(&seen).unwrap_or_default().contains(what);
    until("the call", || child_saw("hang")).await;
    let begun = Instant::now();
    drop(host.input);
    host.running.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("the cancellation", || child_saw("notifications/cancelled")).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_every_request_is_answered_with_the_reason() {
    let mut host = Host::start("ws://127.0.0.1:9", Duration::from_millis(300));
    host.say(INITIALIZE).await;
    host.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    host.say(r#"{"jsonrpc":"2.0","id":"b","method":"tools/list"}"#).await;
    for id in [Value::from(0), Value::from("b")] {
        let answer = host.hear().await;
        assert_eq!(answer["id"], id);
        let data = &answer["error"]["data"];
        assert_eq!((&data["reason"], &data["hint"]), (&"relay_unreachable".into(), &"ask somebody".into()));
        assert_eq!(data["relays"][0]["url"], "ws://127.0.0.1:9");
        assert!(
            data["waitedMs"].as_u64().unwrap() >= 250
                && data["server"].as_str().unwrap().starts_with("npub1")
        );
    }
    // Between two attempts, too.
    host.say(r#"{"jsonrpc":"2.0","id":"c","method":"ping"}"#).await;
    assert_eq!(host.hear().await["id"], "c");
    drop(host.input);
    host.running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_later_is_found() {
    let stage = Stage::serve(child(&[])).await;
    let port = stage.relay.port();
    let url = stage.relay.url();
    stage.end().await;
    let mut host = Host::start(&url, Duration::from_millis(300));
    host.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(host.hear().await["error"]["data"]["reason"], "relay_unreachable");
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let options = contextvm_local_relay::RelayOptions { addr, ..Default::default() };
    let relay = contextvm_local_relay::LocalRelay::start(options).await.unwrap();
    let notices = host.notices.clone();
    until("the connection", || notices.all().contains(&contextvm_bridge::Notice::Connected)).await;
    host.stop.cancel();
    host.running.await.unwrap().unwrap();
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_or_reported() {
    let mut host = Host::start("ws://127.0.0.1:9", Duration::from_millis(200));
    host.say("hello").await;
    host.say("").await;
    host.say(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await;
    host.say(r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":1,"a":2}}"#).await;
    let answer = host.hear().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&7.into(), &(-32600).into()));
    assert_eq!(answer["error"]["data"]["reason"], "invalid_request");
    drop(host.input);
    host.running.await.unwrap().unwrap();
    let noise = host
        .notices
        .all()
        .into_iter()
        .filter(|notice| matches!(notice, contextvm_bridge::Notice::HostNoise(_)));
    assert_eq!(noise.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_host_answers_what_still_waits_for_the_connection() {
    let mut host = Host::start("ws://127.0.0.1:9", Duration::from_secs(30));
    host.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let Host { input, mut output, running, .. } = host;
    drop(input);
    let line = output.next_line().await.unwrap().unwrap();
    assert!(line.contains(r#""reason":"closed""#), "{line}");
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_reading_ends_the_proxy() {
    let mut host = Host::start("ws://127.0.0.1:9", Duration::from_millis(100));
    host.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    let Host { input, output, running, .. } = host;
    drop(output);
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Stream(_))), "{ended:?}");
    drop(input);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_told_of_in_the_answer() {
    let relay = contextvm_local_relay::LocalRelay::start(Default::default()).await.unwrap();
    let mut options = ClientOptions::new(keys(1), keys(100).public_key().into());
    options.relays = vec![relay.url()];
    options.config.limits.request_timeout = Duration::from_millis(500);
    let (mut input, reader) = tokio::io::duplex(4_096);
    let (writer, output) = tokio::io::duplex(4_096);
    let running = tokio::spawn(Proxy::builder(options).build().run(reader, writer, CancellationToken::new()));
    input.write_all(format!("{INITIALIZE}\n").as_bytes()).await.unwrap();
    let line = BufReader::new(output).lines().next_line().await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["data"]["reason"]),
        (&(-32001).into(), &"no_reply".into())
    );
    drop(input);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_is_told_with_the_relays_the_time_and_what_to_do() {
    let stage = Stage::serve(child(&[])).await;
    let mut host = Host::start(&stage.relay.url(), Duration::from_secs(5));
    host.say(INITIALIZE).await;
    host.hear().await;
    host.say(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"die"}}"#).await;
    let answer = host.hear().await;
    let data = &answer["error"]["data"];
    assert_eq!((&answer["id"], &data["reason"]), (&5.into(), &"child_exited".into()));
    assert_eq!(data["relays"][0]["state"], "connected");
    assert!(data["waitedMs"].is_u64() && data["hint"].is_string() && data["server"].is_string(), "{data}");
    drop(host.input);
    host.running.await.unwrap().unwrap();
    stage.end().await;
}
