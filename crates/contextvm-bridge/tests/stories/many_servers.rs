//! Stories of one stdio host and several servers on Nostr behind one proxy.
use std::time::{Duration, Instant};

use contextvm_bridge::{CancellationToken, ChildCommand, Error, Gateway, Proxy};
use contextvm_client::ClientOptions;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_server::Server;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines};
use tokio::task::JoinHandle;

use crate::stage::{child, keys, until};

/// Two gateways on one relay, a server that is not there, and a host before all three.
struct Many {
    relay: LocalRelay,
    pids: Vec<u32>,
    stop: CancellationToken,
    running: Vec<JoinHandle<Result<(), Error>>>,
    input: DuplexStream,
    output: Lines<BufReader<DuplexStream>>,
    proxy: JoinHandle<Result<(), Error>>,
}

impl Many {
    async fn start(second: ChildCommand) -> Self {
        let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
        let stop = CancellationToken::new();
        let (mut pids, mut running) = (Vec::new(), Vec::new());
        for (number, command) in [(101, child(&[])), (102, second)] {
            let gateway = Gateway::builder(command).start().await.unwrap();
            pids.push(gateway.pid().unwrap());
            let server = Server::builder(keys(number)).relay(relay.url()).fresh_key();
            running.push(tokio::spawn(gateway.run(server.start().await.unwrap(), stop.clone())));
        }
        let options = |number, url: String| {
            let mut options = ClientOptions::new(keys(1), keys(number).public_key().into());
            options.relays = vec![url];
            options.config.answer_server_requests = true;
            options.ready_timeout = Duration::from_secs(5);
            options
        };
        let mut nowhere = options(103, "ws://127.0.0.1:9".to_owned());
        nowhere.ready_timeout = Duration::from_millis(300);
        let (input, reader) = tokio::io::duplex(64 * 1024);
        let (writer, output) = tokio::io::duplex(64 * 1024);
        let proxy = Proxy::builder_of("first", options(101, relay.url()))
            .server("second", options(102, relay.url()))
            .server("nowhere", nowhere)
            .merged()
            .build();
        let proxy = tokio::spawn(proxy.run(reader, writer, CancellationToken::new()));
        Self { relay, pids, stop, running, input, output: BufReader::new(output).lines(), proxy }
    }

    async fn say(&mut self, message: Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(20), self.output.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }

    async fn ask(&mut self, id: Value, method: &str, params: Value) -> Value {
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn end(self) {
        let begun = Instant::now();
        drop(self.input);
        self.proxy.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
        self.stop.cancel();
        for running in self.running {
            running.await.unwrap().unwrap();
        }
        self.relay.shutdown().await;
    }
}

fn names(answer: &Value) -> Vec<&str> {
    answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_uses_the_tools_of_all_servers_that_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let mut many = Many::start(child(&[]).env("SEEN", &seen).unwrap()).await;
    let client = json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "h", "version": "1"}});
    let welcome = many.ask(json!(0), "initialize", client).await;
    let result = &welcome["result"];
    assert_eq!(
        (&result["protocolVersion"], &result["serverInfo"]["title"]),
        (&json!("2025-06-18"), &json!("first, second, nowhere"))
    );
    let instructions = result["instructions"].as_str().unwrap();
    assert!(
        instructions.contains("# nowhere\n\nThis server is left out: the server cannot be reached"),
        "{instructions}"
    );
    many.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;

    let listed = many.ask(json!("l"), "tools/list", json!({})).await;
    assert_eq!(names(&listed), ["first__echo", "second__echo"]);
    for (name, pid) in ["first__pid", "second__pid"].into_iter().zip(many.pids.clone()) {
        let answer = many.ask(json!(name), "tools/call", json!({"name": name})).await;
        assert_eq!(answer["result"]["content"][0]["text"], pid.to_string());
    }
    let refused = many.ask(json!(3), "tools/call", json!({"name": "nowhere__pid"})).await;
    assert_eq!(
        (&refused["error"]["data"]["reason"], &refused["error"]["data"]["server"]),
        (&json!("left_out"), &json!("nowhere"))
    );

    // Both servers ask under the same id.
    for name in ["first__ask", "second__ask"] {
        many.say(json!({"jsonrpc": "2.0", "id": name, "method": "tools/call", "params": {"name": name}}))
            .await;
    }
    for asked in [many.hear().await, many.hear().await] {
        assert_eq!(asked["method"], "roots/list", "{asked}");
        many.say(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}})).await;
    }
    let answers = [many.hear().await, many.hear().await];
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");

    // Progress comes before its answer, with the host's own token.
    many.say(json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "second__progress", "_meta": {"progressToken": 0}}})).await;
    assert_eq!(many.hear().await["params"]["progressToken"], 0);
    assert_eq!(many.hear().await["id"], 4);

    many.say(json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "second__hang"}}))
        .await;
    let child_saw = |what: &str| std::fs::read_to_string(&seen).unwrap_or_default().contains(what);
    until("the call", || child_saw("hang")).await;
    many.say(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}))
        .await;
    until("the cancellation", || child_saw("notifications/cancelled")).await;
    many.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_the_newer_revision_uses_several_older_servers() {
    let mut many = Many::start(child(&[])).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let discovered = many.ask(json!(1), "server/discover", json!({"_meta": meta})).await;
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert!(discovered["result"]["instructions"].as_str().unwrap().contains("# nowhere"));
    let listed = many.ask(json!(2), "tools/list", json!({"_meta": meta})).await;
    assert_eq!(names(&listed), ["first__echo", "second__echo"]);
    assert!(listed["result"]["_meta"]["org.contextvm/leftOut"]["nowhere"].is_string(), "{listed}");
    let called = many.ask(json!(3), "tools/call", json!({"name": "second__pid", "_meta": meta})).await;
    assert_eq!(called["result"]["content"][0]["text"], many.pids[1].to_string());
    assert_eq!(called["result"]["resultType"], "complete");
    many.end().await;
}
