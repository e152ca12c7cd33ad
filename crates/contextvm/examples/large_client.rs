//! The test client for large messages and streams: runs the steps of interop/README.md against one server, one JSON line each.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
#[path = "large/payload.rs"]
mod payload;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use contextvm::Limits;
use contextvm::client::{CallError, Client, EncryptionMode, GiftWrapMode, StreamedCall};
use serde_json::{Value, json};

use payload::{digest, freeze, line, text_of};

type Failure = Box<dyn Error + Send + Sync>;

const REQUESTS: [(&str, usize); 3] =
    [("request-100KB", 100_000), ("request-1MiB", 1 << 20), ("request-8MiB", 8 << 20)];
const ANSWERS: [(&str, usize); 3] =
    [("answer-100KB", 100_000), ("answer-1MiB", 1 << 20), ("answer-8MiB", 8 << 20)];

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let arguments = Arguments::read()?;
    let mut run = Run { only: arguments.only, failed: Vec::new(), ran: 0, timeout: arguments.timeout };
    let mut limits = Limits { request_timeout: run.timeout, ..Limits::default() };
    if let Some(idle) = arguments.idle {
        (limits.stream_idle, limits.stream_probe) = (idle, idle);
    }
    let mut builder = Client::builder(contextvm::new_keys()?, arguments.server.parse()?)
        .relays(arguments.relays)
        .encryption(arguments.encryption)
        .gift_wrap(arguments.gift_wrap)
        .open_streams(arguments.streams)
        .limits(limits);
    if arguments.stateless {
        builder = builder.stateless();
    }
    let (client, mut messages) = builder.connect().await?;
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    let peer = Peer { client };
    if run.step("connect", true, peer.connect()).await {
        for sizes in [REQUESTS, ANSWERS] {
            let mut failed = false;
            for (step, bytes) in sizes {
                let is_request = step.starts_with("request");
                let moved = run.step(step, false, async {
                    check(!failed, "not tried: the one before failed")?;
                    if is_request { peer.sends(bytes).await } else { peer.receives(bytes).await }
                });
                failed = !moved.await;
            }
        }
        if arguments.streams {
            run.step("answer-beside-streams", false, peer.receives_beside_streams()).await;
            run.step("stream", false, peer.reads(1_000, 0, 0)).await;
            run.step("stream-slow-reader", false, peer.reads(60, 500, 5)).await;
            run.step("stream-overrun", false, peer.reads(300, 1_000, 0)).await;
            run.step("stream-server-abort", false, peer.server_aborts()).await;
            run.step("stream-client-abort", false, peer.aborts()).await;
            run.step("stream-silent-client", false, peer.falls_silent()).await;
            run.step("stream-silent-server", false, peer.hears_silence()).await;
        }
    }
    peer.client.close().await;
    Ok(run.finish())
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

    fn finish(self) -> ExitCode {
        let ok = self.failed.is_empty();
        println!(
            "{}",
            json!({ "step": "done", "ok": ok, "detail": { "ran": self.ran, "failed": self.failed } })
        );
        if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The server under test.
struct Peer {
    client: Client,
}

impl Peer {
    async fn ask(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let params = serde_json::value::to_raw_value(&params).ok();
        let result = self.client.request(method, params).await?;
        Ok(serde_json::from_str(result.get()).unwrap_or_default())
    }

    async fn text(&self, name: &str, arguments: Value) -> Result<String, Failure> {
        text_in(self.ask("tools/call", json!({ "name": name, "arguments": arguments })).await?)
    }

    async fn connect(&self) -> Result<Value, Failure> {
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "interop-rust-large-client", "version": "1.0.0" },
        });
        let answer = self.ask("initialize", hello).await?;
        self.client.notify("notifications/initialized", None).await?;
        Ok(answer.pointer("/serverInfo/name").cloned().unwrap_or_default())
    }

    async fn sends(&self, bytes: usize) -> Result<Value, Failure> {
        let text = text_of(bytes);
        let heard = self.text("sha", json!({ "text": text })).await?;
        check(heard == digest(&text), format!("the server has {heard}, not {}", digest(&text)))?;
        Ok(Value::Null)
    }

    async fn receives(&self, bytes: usize) -> Result<Value, Failure> {
        let (heard, wanted) = (self.text("blow", json!({ "bytes": bytes })).await?, text_of(bytes));
        check(heard == wanted, format!("the client has {}, not {}", digest(&heard), digest(&wanted)))?;
        Ok(Value::Null)
    }

    /// Before it, there is time to learn how this server answers calls that could stream.
    async fn receives_beside_streams(&self) -> Result<Value, Failure> {
        self.aborted().await?;
        pause(300).await;
        self.receives(1 << 20).await
    }

    async fn open(&self, arguments: Value) -> Result<StreamedCall, Failure> {
        let params = json!({ "name": "stream", "arguments": arguments });
        let params = serde_json::value::to_raw_value(&params).ok();
        Ok(self.client.call_stream("tools/call", params).await?)
    }

    async fn aborted(&self) -> Result<u64, Failure> {
        let text = self.text("streams-seen", json!({})).await?;
        let seen: Value = serde_json::from_str(&text)?;
        Ok(seen.get("aborted").and_then(Value::as_u64).ok_or(text)?)
    }

    /// Reads a whole stream, from some time after its beginning and at some pace.
    async fn reads(&self, chunks: usize, wait: u64, delay: u64) -> Result<Value, Failure> {
        let mut call = self.open(json!({ "chunks": chunks })).await?;
        pause(wait).await;
        let count = read(&mut call, chunks.saturating_add(1), delay).await?;
        check(count == chunks, format!("{count} chunks"))?;
        let text = answer(call).await?;
        check(text == format!("{chunks} chunks"), text)?;
        Ok(Value::Null)
    }

    async fn server_aborts(&self) -> Result<Value, Failure> {
        let mut call = self.open(json!({ "chunks": 10, "end": "abort" })).await?;
        read(&mut call, 10, 0).await?;
        match call.chunk().await {
            Some(Err(failure)) if failure.reason.as_deref() == Some("on purpose") => {}
            other => return Err(format!("ended: {other:?}").into()),
        }
        Ok(json!(answer(call).await.unwrap_or_else(|error| error.to_string())))
    }

    async fn aborts(&self) -> Result<Value, Failure> {
        let before = self.aborted().await?;
        let mut call = self.open(json!({ "chunks": 10, "end": "wait" })).await?;
        read(&mut call, 10, 0).await?;
        call.abort(Some("no longer wanted"));
        let text = answer(call).await.unwrap_or_else(|error| error.to_string());
        let after = self.aborted().await?;
        check(after == before.saturating_add(1), format!("aborted {before} before and {after} after"))?;
        Ok(json!(text))
    }

    /// The server gives up a stream whose reader does not answer its pings.
    async fn falls_silent(&self) -> Result<Value, Failure> {
        let before = self.aborted().await?;
        let mut call = self.open(json!({ "chunks": 10, "end": "wait" })).await?;
        read(&mut call, 10, 0).await?;
        freeze(4);
        pause(500).await;
        let end = tokio::time::timeout(Duration::from_secs(3), call.chunk()).await;
        let end = end.map_err(|_late| "the server did not give the stream up")?;
        check(matches!(end, Some(Err(_))), format!("ended: {end:?}"))?;
        let after = self.aborted().await?;
        check(after == before.saturating_add(1), format!("aborted {before} before and {after} after"))?;
        Ok(json!(format!("{end:?}")))
    }

    /// We give up a stream whose writer does not answer our pings.
    async fn hears_silence(&self) -> Result<Value, Failure> {
        let mut call = self.open(json!({ "chunks": 10, "end": "freeze" })).await?;
        read(&mut call, 10, 0).await?;
        let started = Instant::now();
        let end = call.chunk().await;
        let took = started.elapsed();
        check(took < Duration::from_millis(5_800), format!("only after {took:?}"))?;
        check(matches!(end, Some(Err(_))), format!("ended: {end:?}"))?;
        pause(6_500_u64.saturating_sub(took.as_millis() as u64)).await;
        Ok(json!(format!("{end:?}")))
    }
}

/// Reads up to `limit` chunks, each of which must be the one that is due.
async fn read(call: &mut StreamedCall, limit: usize, delay: u64) -> Result<usize, Failure> {
    for index in 0..limit {
        match call.chunk().await {
            None => return Ok(index),
            Some(Err(failure)) => return Err(format!("{failure} after {index} chunks").into()),
            Some(Ok(chunk)) => {
                let is_due = chunk.index == index as u64 && *chunk.data == line(index);
                check(is_due, format!("chunk {index} is {chunk:?}"))?;
            }
        }
        if delay > 0 {
            pause(delay).await;
        }
    }
    Ok(limit)
}

async fn answer(call: StreamedCall) -> Result<String, Failure> {
    let answered = call.answer().await?;
    text_in(serde_json::from_str(answered.result.get())?)
}

fn text_in(result: Value) -> Result<String, Failure> {
    let text = result.pointer("/content/0/text").and_then(Value::as_str);
    Ok(text.map(str::to_owned).ok_or_else(|| format!("no text in {result}"))?)
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn check(holds: bool, detail: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(detail.into().into()) }
}

/// The command line that all test clients share.
struct Arguments {
    relays: Vec<String>,
    server: String,
    stateless: bool,
    streams: bool,
    /// How long a quiet stream is left alone, and then how long an answer to a ping may take.
    idle: Option<Duration>,
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
            stateless: false,
            streams: false,
            idle: None,
            only: Vec::new(),
            timeout: Duration::from_secs(15),
            encryption: EncryptionMode::Disabled,
            gift_wrap: GiftWrapMode::Optional,
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            if flag == "--stateless" || flag == "--streams" {
                *(if flag == "--streams" { &mut read.streams } else { &mut read.stateless }) = true;
                continue;
            }
            let value = words.next().ok_or("a value is missing")?;
            match (flag.as_str(), value.as_str()) {
                ("--relay", url) => read.relays.push(url.to_owned()),
                ("--server", key) => key.clone_into(&mut read.server),
                ("--only", steps) => read.only.extend(steps.split(',').map(str::to_owned)),
                ("--timeout", ms) => read.timeout = Duration::from_millis(ms.parse()?),
                ("--idle", ms) => read.idle = Some(Duration::from_millis(ms.parse()?)),
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
