//! Large and endless messages on the existing Rust SDK: runs the steps against one server and prints one JSON line for each.
use std::time::{Duration, Instant};

use contextvm_interop_rs_sdk::{Options, Outcome, Steps, check, digest, freeze, line, pause, text_of};
use contextvm_sdk::transport::client::{NostrClientTransport, NostrClientTransportConfig};
use contextvm_sdk::{
    ClientOpenStreamHandle, PeerRequestOptionsExt, ToolStreamCall, call_tool_stream, progress_aware_options,
};
use futures::StreamExt;
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientInfo, RawContent};
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt};
use serde_json::{Value, json};

const REQUESTS: [(&str, usize); 3] =
    [("request-100KB", 100_000), ("request-1MiB", 1 << 20), ("request-8MiB", 8 << 20)];
const ANSWERS: [(&str, usize); 3] =
    [("answer-100KB", 100_000), ("answer-1MiB", 1 << 20), ("answer-8MiB", 8 << 20)];

struct Ear;

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientInfo {
        ClientInfo::default()
    }
}

struct Caller {
    peer: Peer<RoleClient>,
    streams: ClientOpenStreamHandle,
    timeout: Duration,
}

impl Caller {
    async fn text(&self, name: &'static str, arguments: Value) -> Result<String, String> {
        let options = progress_aware_options(self.timeout, self.timeout);
        let called = self.peer.call_tool_with_options(params(name, arguments), options).await;
        called.map(|result| first(&result)).map_err(|error| error.to_string())
    }

    async fn request(&self, bytes: usize) -> Outcome {
        let text = text_of(bytes);
        let heard = self.text("sha", json!({ "text": text })).await?;
        check(heard == digest(&text), || format!("the server has {heard}, not {}", digest(&text)))?;
        Ok(json!(""))
    }

    async fn answer(&self, bytes: usize) -> Outcome {
        let (heard, wanted) = (self.text("blow", json!({ "bytes": bytes })).await?, text_of(bytes));
        check(heard == wanted, || format!("the client has {}, not {}", digest(&heard), digest(&wanted)))?;
        Ok(json!(""))
    }

    async fn open(&self, arguments: Value) -> Result<ToolStreamCall, String> {
        let opened = call_tool_stream(&self.peer, &self.streams, params("stream", arguments)).await;
        opened.map_err(|error| error.to_string())
    }

    async fn aborted(&self) -> Result<u64, String> {
        let counts: Value = serde_json::from_str(&self.text("streams-seen", json!({})).await?)
            .map_err(|error| error.to_string())?;
        counts["aborted"].as_u64().ok_or_else(|| counts.to_string())
    }
}

fn params(name: &'static str, arguments: Value) -> CallToolRequestParams {
    let params = CallToolRequestParams::new(name);
    match arguments {
        Value::Object(arguments) => params.with_arguments(arguments),
        _ => params,
    }
}

fn first(result: &CallToolResult) -> String {
    let texts = result.content.iter().filter_map(|content| match &content.raw {
        RawContent::Text(text) => Some(text.text.clone()),
        _ => None,
    });
    texts.take(1).collect()
}

/// Reads up to `limit` chunks, each of which must be the one that is due.
async fn read(call: &mut ToolStreamCall, limit: usize, delay: u64) -> Result<usize, String> {
    for index in 0..limit {
        match call.stream.next().await {
            None => return Ok(index),
            Some(Err(error)) => return Err(format!("{error} after {index} chunks")),
            Some(Ok(chunk)) => check(chunk == line(index), || format!("chunk {index} is {chunk:?}"))?,
        }
        if delay > 0 {
            pause(delay).await;
        }
    }
    Ok(limit)
}

async fn answer(call: ToolStreamCall) -> Result<String, String> {
    call.result.await.map(|result| first(&result)).map_err(|error| error.to_string())
}

async fn whole(caller: &Caller, chunks: usize, wait: u64, delay: u64) -> Outcome {
    // Written as fast as it goes, it can run over a reader that shares its machine with others.
    let pace = if wait == 0 { 2 } else { 0 };
    let mut call = caller.open(json!({ "chunks": chunks, "delay_ms": pace })).await?;
    pause(wait).await;
    let count = read(&mut call, chunks + 1, delay).await?;
    check(count == chunks, || format!("{count} chunks"))?;
    let heard = answer(call).await?;
    check(heard == format!("{chunks} chunks"), || heard.clone())?;
    Ok(json!(""))
}

async fn server_abort(caller: &Caller) -> Outcome {
    let mut call = caller.open(json!({ "chunks": 10, "end": "abort" })).await?;
    read(&mut call, 10, 0).await?;
    let end = read(&mut call, 1, 0).await;
    check(end.as_ref().is_err_and(|end| end.contains("on purpose")), || format!("ended: {end:?}"))?;
    Ok(json!(answer(call).await.unwrap_or_else(|error| error)))
}

async fn client_abort(caller: &Caller) -> Outcome {
    let before = caller.aborted().await?;
    let mut call = caller.open(json!({ "chunks": 10, "end": "wait" })).await?;
    read(&mut call, 10, 0).await?;
    call.abort(Some("no longer wanted".to_owned())).await;
    let heard = answer(call).await.unwrap_or_else(|error| error);
    let after = caller.aborted().await?;
    check(after == before + 1, || format!("aborted {before} before and {after} after"))?;
    Ok(json!(heard))
}

async fn silent_client(caller: &Caller) -> Outcome {
    let before = caller.aborted().await?;
    let mut call = caller.open(json!({ "chunks": 10, "end": "wait" })).await?;
    read(&mut call, 10, 0).await?;
    freeze(4);
    pause(500).await;
    let end = tokio::time::timeout(Duration::from_secs(3), call.stream.next()).await;
    let end = end.map_err(|_| "the server did not give the stream up".to_owned())?;
    check(matches!(end, Some(Err(_))), || format!("ended: {end:?}"))?;
    let after = caller.aborted().await?;
    check(after == before + 1, || format!("aborted {before} before and {after} after"))?;
    Ok(json!(format!("{end:?}")))
}

async fn silent_server(caller: &Caller) -> Outcome {
    let mut call = caller.open(json!({ "chunks": 10, "end": "freeze" })).await?;
    read(&mut call, 10, 0).await?;
    let started = Instant::now();
    let end = call.stream.next().await;
    let took = started.elapsed();
    check(took < Duration::from_millis(5_800), || format!("only after {took:?}"))?;
    check(matches!(end, Some(Err(_))), || format!("ended: {end:?}"))?;
    pause(6_500_u64.saturating_sub(took.as_millis() as u64)).await;
    Ok(json!(format!("{end:?}")))
}

#[tokio::main]
async fn main() {
    let options = Options::read(true);
    // What is pending is forgotten after this time, however much arrives, and streams are looked after twice in it.
    let retention = options.idle.map_or(options.timeout * 2, |idle| Duration::from_millis(idle * 4));
    let config = NostrClientTransportConfig::default()
        .with_relay_urls(options.relays.clone())
        .with_server_pubkey(options.server.clone())
        .with_encryption_mode(options.encryption)
        .with_gift_wrap_mode(options.wrap)
        .with_stateless(options.stateless)
        .with_timeout(retention)
        .with_open_stream(options.open_stream());
    let mut steps = Steps::new(&options);
    let mut running = None;
    let connected = steps
        .run("connect", async {
            let transport = NostrClientTransport::new(options.keys(), config).await;
            let transport = transport.map_err(|error| error.to_string())?;
            let streams = transport.open_stream_handle();
            let service = Ear.serve(transport).await.map_err(|error| error.to_string())?;
            running = Some((streams, service));
            Ok(json!(""))
        })
        .await;
    let Some((streams, service)) = running.filter(|_| connected) else { steps.finish() };
    let caller = Caller { peer: service.peer().clone(), streams, timeout: options.timeout };
    for sizes in [REQUESTS, ANSWERS] {
        let mut failed = false;
        for (step, bytes) in sizes {
            let tried = steps.run(step, async {
                check(!failed, || "not tried: the one before failed".to_owned())?;
                if step.starts_with('r') { caller.request(bytes).await } else { caller.answer(bytes).await }
            });
            failed = !tried.await;
        }
    }
    if options.streams {
        steps.run("answer-beside-streams", caller.answer(1 << 20)).await;
        steps.run("stream", whole(&caller, 1_000, 0, 0)).await;
        // 64 unread chunks are all that the readers of both SDKs hold.
        steps.run("stream-slow-reader", whole(&caller, 60, 500, 5)).await;
        steps.run("stream-overrun", whole(&caller, 300, 1_000, 0)).await;
        steps.run("stream-server-abort", server_abort(&caller)).await;
        steps.run("stream-client-abort", client_abort(&caller)).await;
        steps.run("stream-silent-client", silent_client(&caller)).await;
        steps.run("stream-silent-server", silent_server(&caller)).await;
    }
    // The outcome of leaving is nobody's business any more.
    let _ = tokio::time::timeout(Duration::from_secs(2), service.cancel()).await;
    steps.finish()
}
