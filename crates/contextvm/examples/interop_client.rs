//! The test client in plain JSON-RPC: runs the steps of interop/README.md against one server and prints one JSON line for each.
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program of `cargo xtask`: JSON lines on standard output"
)]
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contextvm::client::{CallError, Client, EncryptionMode, GiftWrapMode};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::read()?;
    let mut run = Run { only: arguments.only, failed: Vec::new(), ran: 0, timeout: arguments.timeout };
    let keys = match &arguments.key {
        Some(key) => contextvm::Keys::parse(key)?,
        None => contextvm::new_keys()?,
    };
    let me = keys.public_key().to_hex();
    let mut builder = Client::builder(keys, arguments.server.parse()?)
        .relays(arguments.relays)
        .encryption(arguments.encryption)
        .gift_wrap(arguments.gift_wrap)
        .request_timeout(run.timeout);
    if arguments.stateless {
        builder = builder.stateless();
    }
    let (client, mut messages) = builder.connect().await?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            ear.lock().map(|mut heard| heard.push(message)).unwrap_or_default();
        }
    });
    let peer = Peer { client, heard, me };
    let connected = run.step("connect", true, peer.connect()).await;
    if connected {
        run.step("list", false, peer.list()).await;
        run.step("call", false, peer.echo_and_add()).await;
        run.hold();
        run.step("large", false, peer.large()).await;
        run.step("parallel", false, peer.parallel()).await;
        run.step("progress", false, peer.progress()).await;
        run.step("unknown-method", false, peer.unknown_method()).await;
        run.step("unknown-tool", false, peer.unknown_tool()).await;
        run.step("tool-failure", false, peer.failure()).await;
        run.step("whoami", false, peer.whoami()).await;
        run.step("ping", false, peer.ping()).await;
        run.step("notification", false, peer.notification()).await;
        run.step("cancel", false, peer.cancel()).await;
    }
    peer.client.close().await;
    run.finish()
}

/// Runs steps and prints what became of them.
struct Run {
    only: Vec<String>,
    failed: Vec<String>,
    ran: usize,
    timeout: Duration,
}

impl Run {
    async fn step(
        &mut self,
        name: &str,
        needed: bool,
        body: impl Future<Output = Result<Value, Failure>>,
    ) -> bool {
        if !needed && !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
            return true;
        }
        self.ran += 1;
        let started = Instant::now();
        let outcome = match tokio::time::timeout(self.timeout, body).await {
            Ok(outcome) => outcome,
            Err(_late) => Err("no outcome in time".into()),
        };
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(error) => (false, Value::String(error.to_string())),
        };
        println!(
            "{}",
            json!({ "step": name, "ok": ok, "detail": detail, "ms": started.elapsed().as_millis() as u64 })
        );
        if !ok {
            self.failed.push(name.to_owned());
        }
        ok
    }

    /// When asked to, says that it waits, and goes on at the next line of standard input: the server starts anew meanwhile.
    fn hold(&self) {
        if self.only.iter().any(|only| only == "hold") {
            println!("{}", json!({ "step": "hold", "ok": true }));
            // The end of the input is as good as a line.
            let _line = std::io::stdin().read_line(&mut String::new());
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let ok = self.failed.is_empty();
        println!(
            "{}",
            json!({ "step": "done", "ok": ok, "detail": { "ran": self.ran, "failed": self.failed } })
        );
        if ok { Ok(()) } else { Err("steps failed".into()) }
    }
}

/// The server under test, and what it said without being asked.
struct Peer {
    client: Client,
    heard: Arc<Mutex<Vec<String>>>,
    me: String,
}

impl Peer {
    async fn ask(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let params = serde_json::value::to_raw_value(&params).ok();
        let result = self.client.request(method, params).await?;
        Ok(serde_json::from_str(result.get()).unwrap_or_default())
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value, CallError> {
        self.ask("tools/call", json!({ "name": name, "arguments": arguments })).await
    }

    async fn text(&self, name: &str, arguments: Value) -> Result<String, Failure> {
        let result = self.call(name, arguments).await?;
        Ok(result
            .pointer("/content/0/text")
            .and_then(Value::as_str)
            .ok_or(format!("no text in {result}"))?
            .to_owned())
    }

    async fn connect(&self) -> Result<Value, Failure> {
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "roots": { "listChanged": true } },
            "clientInfo": { "name": "interop-rust-client", "version": "1.0.0" },
        });
        let answer = self.ask("initialize", hello).await?;
        self.client.notify("notifications/initialized", None).await?;
        Ok(answer.pointer("/serverInfo/name").cloned().unwrap_or_default())
    }

    async fn list(&self) -> Result<Value, Failure> {
        let answer = self.ask("tools/list", json!({})).await?;
        let names: Vec<&str> = answer["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        for needed in ["echo", "add", "slow-with-progress", "whoami", "fail"] {
            check(names.contains(&needed), format!("{needed} is missing"))?;
        }
        Ok(json!(names))
    }

    async fn echo_and_add(&self) -> Result<Value, Failure> {
        let message = "zażółć \"gęślą\" \\ jaźń \u{1F980}\nsecond line";
        check(self.text("echo", json!({ "message": message })).await? == message, "echo differs")?;
        let sum = self.text("add", json!({ "a": 19, "b": 23 })).await?;
        check(sum == "42", format!("19 + 23 = {sum}"))?;
        Ok(Value::Null)
    }

    async fn large(&self) -> Result<Value, Failure> {
        let message = "x".repeat(20_000);
        check(self.text("echo", json!({ "message": message })).await? == message, "echo differs")?;
        Ok(Value::Null)
    }

    async fn parallel(&self) -> Result<Value, Failure> {
        let calls = (0..16).map(|a| async move { (a, self.text("add", json!({ "a": a, "b": 1000 })).await) });
        for (a, sum) in join_all(calls).await {
            check(sum? == (a + 1000).to_string(), format!("call {a} got another answer"))?;
        }
        Ok(Value::Null)
    }

    async fn progress(&self) -> Result<Value, Failure> {
        self.forget();
        let params = json!({
            "name": "slow-with-progress", "arguments": { "steps": 3, "delay_ms": 100 }, "_meta": { "progressToken": 7 },
        });
        let result = self.ask("tools/call", params).await?;
        check(result.pointer("/content/0/text") == Some(&json!("3 steps")), format!("answer {result}"))?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let heard: Vec<f64> = self
            .heard("notifications/progress")
            .iter()
            .filter(|note| note.pointer("/params/progressToken") == Some(&json!(7)))
            .filter_map(|note| note.pointer("/params/progress")?.as_f64())
            .collect();
        check(heard == [1.0, 2.0, 3.0], format!("progress heard: {heard:?}"))?;
        Ok(json!(heard))
    }

    async fn unknown_method(&self) -> Result<Value, Failure> {
        match self.ask("no/such/method", json!({})).await {
            Err(CallError::Server { code: -32601, .. }) => Ok(Value::Null),
            other => Err(format!("expected -32601, got {other:?}").into()),
        }
    }

    async fn unknown_tool(&self) -> Result<Value, Failure> {
        match self.call("no-such-tool", json!({})).await {
            Err(CallError::Server { code, .. }) if code == -32602 || code == -32601 => Ok(json!(code)),
            Ok(result) if result["isError"] == json!(true) => Ok(json!("isError")),
            other => Err(format!("got {other:?}").into()),
        }
    }

    async fn failure(&self) -> Result<Value, Failure> {
        let result = self.call("fail", json!({})).await?;
        check(result["isError"] == json!(true), format!("{result}"))?;
        Ok(Value::Null)
    }

    async fn whoami(&self) -> Result<Value, Failure> {
        let name = self.text("whoami", json!({})).await?;
        check(name == self.me, format!("server sees {name}, client is {}", self.me))?;
        Ok(Value::Null)
    }

    async fn ping(&self) -> Result<Value, Failure> {
        Ok(self.ask("ping", json!({})).await?)
    }

    async fn count(&self, what: &str) -> Result<u64, Failure> {
        let text = self.text("notifications-seen", json!({})).await?;
        let seen: Value = serde_json::from_str(&text)?;
        Ok(seen[what].as_u64().ok_or(format!("no {what} in {text}"))?)
    }

    async fn notification(&self) -> Result<Value, Failure> {
        let before = self.count("roots_changed").await?;
        self.client.notify("notifications/roots/list_changed", None).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = self.count("roots_changed").await?;
        check(after == before + 1, format!("server counted {before} before and {after} after"))?;
        Ok(Value::Null)
    }

    /// A call that is dropped is cancelled, and the server's handler stops.
    async fn cancel(&self) -> Result<Value, Failure> {
        let before = self.count("cancelled").await?;
        let slow = self.call("slow-with-progress", json!({ "steps": 50, "delay_ms": 50 }));
        check(tokio::time::timeout(Duration::from_millis(300), slow).await.is_err(), "answered too early")?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = self.count("cancelled").await?;
        check(after == before + 1, format!("server counted {before} before and {after} after"))?;
        Ok(Value::Null)
    }

    fn forget(&self) {
        self.heard.lock().map(|mut heard| heard.clear()).unwrap_or_default();
    }

    fn heard(&self, method: &str) -> Vec<Value> {
        let heard = self.heard.lock().map(|heard| heard.clone()).unwrap_or_default();
        let notes = heard.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
        notes.filter(|note| note["method"] == json!(method)).collect()
    }
}

fn check(holds: bool, detail: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(detail.into().into()) }
}

async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, slot) in waiting.iter_mut().zip(done.iter_mut()).filter(|(_, slot)| slot.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(std::mem::take(&mut done).into_iter().flatten().collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

/// The command line that all test clients share.
struct Arguments {
    relays: Vec<String>,
    server: String,
    key: Option<String>,
    stateless: bool,
    only: Vec<String>,
    timeout: Duration,
    encryption: EncryptionMode,
    gift_wrap: GiftWrapMode,
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        let mut read = Self {
            relays: Vec::new(),
            server: String::new(),
            key: None,
            stateless: false,
            only: Vec::new(),
            timeout: Duration::from_secs(15),
            encryption: EncryptionMode::Disabled,
            gift_wrap: GiftWrapMode::Optional,
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            if flag == "--stateless" {
                read.stateless = true;
                continue;
            }
            let value = words.next().ok_or("a value is missing")?;
            match (flag.as_str(), value.as_str()) {
                ("--relay", url) => read.relays.push(url.to_owned()),
                ("--server", key) => key.clone_into(&mut read.server),
                ("--key", secret) => read.key = Some(secret.to_owned()),
                ("--only", steps) => read.only.extend(steps.split(',').map(str::to_owned)),
                ("--timeout", ms) => read.timeout = Duration::from_millis(ms.parse()?),
                ("--wire", "plain") => {}
                ("--wire", "persistent") => read.wrapped(GiftWrapMode::Persistent),
                ("--wire", "ephemeral") => read.wrapped(GiftWrapMode::Ephemeral),
                _ => return Err(format!("unknown argument {flag}").into()),
            }
        }
        Ok(read)
    }

    fn wrapped(&mut self, gift_wrap: GiftWrapMode) {
        self.encryption = EncryptionMode::Required;
        self.gift_wrap = gift_wrap;
    }
}
