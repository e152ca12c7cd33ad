//! `cvm demo`: a relay, a server and a client in one process, and one encrypted call between them.
use std::time::Instant;

use contextvm::client::Client;
use contextvm::local_relay::{LocalRelay, RelayOptions};
use contextvm::server::{EncryptionMode, Identity, Server, serve_rmcp};
use rmcp::ServiceExt as _;
use serde::Serialize;
use serde_json::value::RawValue;

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
    #[serde(rename = "eventsOnRelay")]
    events: u64,
    ms: u64,
}

pub(crate) async fn run(options: &Demo, out: &mut Out) -> Result<(), Problem> {
    if options.stdio {
        return stdio().await;
    }
    let started = Instant::now();
    let quiet = out.json;
    let mut step = |line: &str| if quiet { Ok(()) } else { out.line(line) };
    let failed = |what: &str, why: String| Problem::internal(format!("the demo's {what} failed: {why}"));

    let relay = LocalRelay::start(RelayOptions::default())
        .await
        .map_err(|error| failed("relay", error.to_string()))?;
    let url = relay.url();
    step(&format!("1  a relay listens on {url}; it is the only thing both sides connect to"))?;

    let keys = contextvm::new_keys().map_err(|error| failed("server", error.to_string()))?;
    let identity = Identity { name: Some("Demo".to_owned()), ..Identity::default() };
    let server =
        Server::builder(keys).relay(&url).identity(identity).encryption(EncryptionMode::Required).fresh_key();
    let listener = Box::pin(server.start()).await.map_err(|error| failed("server", error.to_string()))?;
    let handle = listener.handle();
    let serving = tokio::spawn(serve_rmcp(listener, |_caller| Sample));
    let server = npub(&handle.public_key());
    step(&format!("2  an MCP server listens as {server}"))?;

    let keys = contextvm::new_keys().map_err(|error| failed("client", error.to_string()))?;
    let me = npub(&keys.public_key());
    let client =
        Client::builder(keys, handle.public_key().into()).relay(&url).encryption(EncryptionMode::Required);
    let (client, _messages) =
        Box::pin(client.connect()).await.map_err(|error| failed("client", error.to_string()))?;
    step(&format!("3  a client connects as     {me}"))?;

    let call = |method: &'static str, params: &str| {
        let params = RawValue::from_string(params.to_owned()).ok();
        let client = &client;
        async move { client.request(method, params).await.map_err(|error| failed(method, error.to_string())) }
    };
    call(
        "initialize",
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"cvm","version":"demo"}}"#,
    )
    .await?;
    let notified = client.notify("notifications/initialized", None).await;
    notified.map_err(|error| failed("client", error.to_string()))?;
    let tools = call("tools/list", "{}").await?;
    let tools: serde_json::Value = serde_json::from_str(tools.get()).unwrap_or_default();
    let tools = tools.get("tools").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    step(&format!("4  it asks for the tools and gets {}:", tools.len()))?;
    for tool in &tools {
        step(&format!("      {}", crate::signature::signature(tool)))?;
    }
    step("5  it calls add(a: 19, b: 23), sealed for the server alone")?;
    let before = Instant::now();
    let result = call("tools/call", r#"{"name":"add","arguments":{"a":19,"b":23}}"#).await?;
    let text = serde_json::from_str::<serde_json::Value>(result.get()).unwrap_or_default();
    let text =
        text.pointer("/content/0/text").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    step(&format!("6  the answer is {text}, {} ms later", before.elapsed().as_millis()))?;
    let events = relay.stats().accepted;
    step(&format!(
        "7  the relay passed {events} events on: gift wraps from one-time keys; it could read none of them"
    ))?;

    client.close().await;
    handle.shutdown().await;
    let _ended = serving.await;
    relay.shutdown().await;
    if text != "42" {
        return Err(failed("tool", format!("19 + 23 came back as {text:?}")));
    }
    if out.json {
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let tools = tools.len();
        let document = Document {
            schema: "cvm.demo/1",
            ok: true,
            server,
            client: me,
            relay: url,
            tools,
            result,
            events,
            ms,
        };
        return out.document(&document);
    }
    out.line("\nNothing is left behind. The same over a relay of your own, in three terminals:")?;
    out.line("  cvm relay run --port 10547")?;
    out.line("  cvm serve --ephemeral --open -r ws://127.0.0.1:10547 -- cvm demo --stdio")?;
    out.line("  cvm call npub1... add a=19 b=23 -r ws://127.0.0.1:10547        (the npub that serve shows)")
}

/// Runs the sample server on the standard streams, as a child of `cvm serve` or of any MCP host.
async fn stdio() -> Result<(), Problem> {
    let failed = |error: String| Problem::internal(format!("the sample server failed: {error}"));
    let streams = (tokio::io::stdin(), tokio::io::stdout());
    let running = Sample.serve(streams).await.map_err(|error| failed(error.to_string()))?;
    running.waiting().await.map(|_reason| ()).map_err(|error| failed(error.to_string()))
}
