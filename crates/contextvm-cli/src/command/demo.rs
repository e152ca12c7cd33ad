//! `cvm demo`: a relay, a server and a client in one process, and one encrypted call between them.
use std::time::Instant;

use contextvm::client::{Client, Messages};
use contextvm::local_relay::{LocalRelay, RelayOptions};
use contextvm::server::{EncryptionMode, Identity, Server, ServerHandle, serve_rmcp};
use rmcp::ServiceExt as _;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use crate::args::Demo;
use crate::keys::npub;
use crate::output::Out;
use crate::problem::Problem;
use crate::sample::Sample;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    ok: bool,
    server: String,
    client: String,
    relay: String,
    tools: usize,
    result: Box<RawValue>,
    /// Pieces of a stream that came before the answer.
    chunks: usize,
    #[serde(rename = "eventsOnRelay")]
    events: u64,
    ms: u64,
}

/// Relay, server and client, connected.
struct Scene {
    relay: LocalRelay,
    server: ServerHandle,
    serving: JoinHandle<()>,
    client: Client,
    _messages: Messages,
}

pub(crate) async fn run(options: &Demo, out: &mut Out) -> Result<(), Problem> {
    if options.stdio {
        return stdio().await;
    }
    let started = Instant::now();
    let scene = Box::pin(set(out)).await?;
    let (tools, result) = Box::pin(play(&scene, out)).await?;
    let chunks = Box::pin(listen(&scene, out)).await?;
    let events = scene.relay.stats().accepted;
    step(
        out,
        &format!("8  the relay passed {events} events on: gift wraps from one-time keys; it could read none"),
    )?;
    let (server, client) = (npub(&scene.server.public_key()), npub(&scene.client.public_key()));
    let relay = scene.relay.url();
    end(scene).await;
    if out.json {
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let schema = "cvm.demo/1";
        return out.document(&Document {
            schema,
            ok: true,
            server,
            client,
            relay,
            tools,
            result,
            chunks,
            events,
            ms,
        });
    }
    out.line("\nNothing is left behind. The same over a relay of your own, in three terminals:")?;
    out.line("  cvm relay run --port 10547")?;
    out.line("  cvm serve --ephemeral --open -r ws://127.0.0.1:10547 -- cvm demo --stdio")?;
    out.line("  cvm call npub1... add a=19 b=23 -r ws://127.0.0.1:10547        (the npub that serve shows)")?;
    out.line("  cvm call npub1... tell topic=whales --stream -r ws://127.0.0.1:10547        (word by word)")
}

fn failed(what: &str, why: &impl ToString) -> Problem {
    Problem::internal(format!("the demo's {what} failed: {}", why.to_string()))
}

fn step(out: &mut Out, line: &str) -> Result<(), Problem> {
    if out.json { Ok(()) } else { out.line(line) }
}

/// Starts everything.
async fn set(out: &mut Out) -> Result<Scene, Problem> {
    let relay = LocalRelay::start(RelayOptions::default()).await.map_err(|error| failed("relay", &error))?;
    let url = relay.url();
    step(out, &format!("1  a relay listens on {url}; it is the only thing both sides connect to"))?;

    let keys = contextvm::new_keys().map_err(|error| failed("server", &error))?;
    let identity = Identity { name: Some("Demo".to_owned()), ..Identity::default() };
    let server = Server::builder(keys).relay(&url).identity(identity).encryption(EncryptionMode::Required);
    let listener = Box::pin(server.fresh_key().start()).await.map_err(|error| failed("server", &error))?;
    let server = listener.handle();
    let serving = tokio::spawn(serve_rmcp(listener, |_caller| Sample::served()));
    step(out, &format!("2  an MCP server listens as {}", npub(&server.public_key())))?;

    let keys = contextvm::new_keys().map_err(|error| failed("client", &error))?;
    step(out, &format!("3  a client connects as     {}", npub(&keys.public_key())))?;
    let client =
        Client::builder(keys, server.public_key().into()).relay(&url).encryption(EncryptionMode::Required);
    let client = client.open_streams(true);
    let (client, messages) = Box::pin(client.connect()).await.map_err(|error| failed("client", &error))?;
    Ok(Scene { relay, server, serving, client, _messages: messages })
}

/// Makes the calls; returns how many tools there are, and the answer.
async fn play(scene: &Scene, out: &mut Out) -> Result<(usize, Box<RawValue>), Problem> {
    let call = |method: &'static str, params: &str| {
        let params = RawValue::from_string(params.to_owned()).ok();
        async move { scene.client.request(method, params).await.map_err(|error| failed(method, &error)) }
    };
    let hello =
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"cvm","version":"demo"}}"#;
    call("initialize", hello).await?;
    let notified = scene.client.notify("notifications/initialized", None).await;
    notified.map_err(|error| failed("client", &error))?;
    let tools = call("tools/list", "{}").await?;
    let tools: Value = serde_json::from_str(tools.get()).unwrap_or_default();
    let tools = tools.get("tools").and_then(Value::as_array).cloned().unwrap_or_default();
    step(out, &format!("4  it asks for the tools and gets {}:", tools.len()))?;
    for tool in &tools {
        step(out, &format!("      {}", crate::signature::signature(tool)))?;
    }
    step(out, "5  it calls add(a: 19, b: 23), sealed for the server alone")?;
    let before = Instant::now();
    let result = call("tools/call", r#"{"name":"add","arguments":{"a":19,"b":23}}"#).await?;
    let answer: Value = serde_json::from_str(result.get()).unwrap_or_default();
    let text = answer.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
    step(out, &format!("6  the answer is {text}, {} ms later", before.elapsed().as_millis()))?;
    if text == "42" {
        Ok((tools.len(), result))
    } else {
        Err(failed("tool", &format!("19 + 23 came back as {text:?}")))
    }
}

/// Makes a call whose tool speaks while it runs; returns how many pieces were heard.
async fn listen(scene: &Scene, out: &mut Out) -> Result<usize, Problem> {
    let params = r#"{"name":"tell","arguments":{"topic":"whales","words":12,"pause":5}}"#;
    let params = RawValue::from_string(params.to_owned()).ok();
    let call = scene.client.call_stream("tools/call", params).await;
    let mut call = call.map_err(|error| failed("stream", &error))?;
    let mut heard = Vec::new();
    while let Some(chunk) = call.chunk().await {
        heard.push(chunk.map_err(|error| failed("stream", &error))?.data);
    }
    let answer = call.answer().await.map_err(|error| failed("tell", &error))?;
    let answer: Value = serde_json::from_str(answer.result.get()).unwrap_or_default();
    let text = answer.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
    if heard.concat() != text {
        return Err(failed("stream", &format!("{text:?} was heard as {heard:?}")));
    }
    step(
        out,
        &format!(
            "7  it calls tell(topic: whales) and hears it word by word, {} before the answer",
            heard.len()
        ),
    )?;
    Ok(heard.len())
}

/// Ends everything, in order.
async fn end(scene: Scene) {
    scene.client.close().await;
    scene.server.shutdown().await;
    // The service has ended with the server; what it returns is nothing.
    let _ended = scene.serving.await;
    scene.relay.shutdown().await;
}

/// Runs the sample server on the standard streams, as a child of `cvm serve` or of any MCP host.
async fn stdio() -> Result<(), Problem> {
    let failed = |error: String| Problem::internal(format!("the sample server failed: {error}"));
    // By itself it would take no lines of more than 16 MiB, and answer nothing to them.
    let streams = AsyncRwTransport::new(tokio::io::stdin(), tokio::io::stdout())
        .with_max_line_length(contextvm::Limits::default().child_line);
    let running = Sample::on_streams().serve(streams).await.map_err(|error| failed(error.to_string()))?;
    running.waiting().await.map(|_reason| ()).map_err(|error| failed(error.to_string()))
}
