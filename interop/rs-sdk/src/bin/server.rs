//! The test server on the existing Rust SDK: prints {"ready":true,"pubkey":...} and runs until standard input ends.
use contextvm_interop_rs_sdk::{Options, digest, freeze, line, pause, text_of};
use contextvm_sdk::gateway::{GatewayConfig, NostrMCPGateway};
use contextvm_sdk::transport::OpenStreamWriter;
use contextvm_sdk::transport::server::NostrServerTransportConfig;
use contextvm_sdk::{ClientPubkey, ProfileMetadata};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, Content, ErrorData, Implementation, Meta, ProgressNotificationParam, ServerCapabilities,
    ServerInfo,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncReadExt;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    message: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Slow {
    steps: u32,
    delay_ms: u64,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Sha {
    text: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Blow {
    bytes: usize,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Stream {
    chunks: usize,
    #[serde(default)]
    end: End,
    #[serde(default)]
    delay_ms: u64,
}

/// How a stream ends: the last two when the reader ends it.
#[derive(Debug, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum End {
    #[default]
    Close,
    Abort,
    Wait,
    Freeze,
}

#[derive(Debug, Default)]
struct Seen {
    aborted: AtomicU64,
    closed: AtomicU64,
    roots_changed: AtomicU64,
    cancelled: AtomicU64,
}

#[derive(Clone, Default)]
struct TestServer {
    seen: Arc<Seen>,
}

fn text(value: impl Into<String>) -> Result<CallToolResult, ErrorData> {
    Ok(CallToolResult::success(vec![Content::text(value.into())]))
}

#[tool_router]
impl TestServer {
    #[tool(description = "Gives the message back.")]
    async fn echo(
        &self,
        Parameters(Echo { message }): Parameters<Echo>,
    ) -> Result<CallToolResult, ErrorData> {
        text(message)
    }

    #[tool(description = "Adds two numbers.")]
    async fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> Result<CallToolResult, ErrorData> {
        text((a + b).to_string())
    }

    #[tool(name = "slow-with-progress", description = "Takes its time and says how far it is.")]
    async fn slow(
        &self,
        Parameters(Slow { steps, delay_ms }): Parameters<Slow>,
        meta: Meta,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        for step in 1..=steps {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            if context.ct.is_cancelled() {
                self.seen.cancelled.fetch_add(1, Relaxed);
                return text("cancelled");
            }
            if let Some(token) = meta.get_progress_token() {
                let params =
                    ProgressNotificationParam::new(token, f64::from(step)).with_total(f64::from(steps));
                // A caller that is gone hears nothing, and the answer will say so.
                let _ = context.peer.notify_progress(params).await;
            }
        }
        text(format!("{steps} steps"))
    }

    #[tool(description = "Names the caller.")]
    async fn whoami(&self, context: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        text(context.extensions.get::<ClientPubkey>().map_or("unknown", |caller| caller.0.as_str()))
    }

    #[tool(description = "Fails on purpose.")]
    async fn fail(&self) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::error(vec![Content::text("failed on purpose")]))
    }

    #[tool(name = "notifications-seen", description = "Counts what came without a call.")]
    async fn notifications_seen(&self) -> Result<CallToolResult, ErrorData> {
        let seen = &self.seen;
        let counts = json!({
            "roots_changed": seen.roots_changed.load(Relaxed),
            "cancelled": seen.cancelled.load(Relaxed),
        });
        text(counts.to_string())
    }

    #[tool(description = "Says how long a text is and its SHA-256.")]
    async fn sha(&self, Parameters(sha): Parameters<Sha>) -> Result<CallToolResult, ErrorData> {
        text(digest(&sha.text))
    }

    #[tool(description = "Gives a text of that many bytes.")]
    async fn blow(&self, Parameters(Blow { bytes }): Parameters<Blow>) -> Result<CallToolResult, ErrorData> {
        text(text_of(bytes))
    }

    #[tool(description = "Writes a stream and ends it: by close, by abort, or when the reader does.")]
    async fn stream(
        &self,
        Parameters(Stream { chunks, end, delay_ms }): Parameters<Stream>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(writer) = context.extensions.get::<OpenStreamWriter>().cloned() else {
            return Ok(CallToolResult::error(vec![Content::text("no stream")]));
        };
        let failed = |error: contextvm_sdk::Error| ErrorData::internal_error(error.to_string(), None);
        for index in (0..chunks).take_while(|_| writer.is_active()) {
            writer.write(line(index)).await.map_err(failed)?;
            if delay_ms > 0 {
                pause(delay_ms).await;
            }
        }
        if end == End::Freeze {
            freeze(6);
        }
        if matches!(end, End::Freeze | End::Wait) {
            // The reader ends it, at some time.
            for _ in (0..200).take_while(|_| writer.is_active()) {
                pause(50).await;
            }
        }
        if !writer.is_active() {
            self.seen.aborted.fetch_add(1, Relaxed);
            return text("ended by the reader");
        }
        match end {
            End::Abort => writer.abort(Some("on purpose".to_owned())).await.map_err(failed)?,
            _ => writer.close().await.map_err(failed)?,
        }
        self.seen.closed.fetch_add(1, Relaxed);
        text(format!("{chunks} chunks"))
    }

    #[tool(name = "streams-seen", description = "Counts how streams ended.")]
    async fn streams_seen(&self) -> Result<CallToolResult, ErrorData> {
        let (aborted, closed) = (self.seen.aborted.load(Relaxed), self.seen.closed.load(Relaxed));
        text(json!({ "aborted": aborted, "closed": closed }).to_string())
    }
}

#[tool_handler]
impl ServerHandler for TestServer {
    fn get_info(&self) -> ServerInfo {
        ServerInfo::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("interop-rs-server", "1.0.0"))
    }

    async fn on_roots_list_changed(&self, _context: NotificationContext<RoleServer>) {
        self.seen.roots_changed.fetch_add(1, Relaxed);
    }
}

#[tokio::main]
async fn main() {
    let options = Options::read(false);
    let keys = options.keys();
    let pubkey = keys.public_key().to_hex();
    let announced = !options.announce.is_empty();
    let config = NostrServerTransportConfig::default()
        // What is announced reaches only relays that the server itself uses: the SDK publishes to no others.
        .with_relay_urls([options.relays.clone(), options.announce.clone()].concat())
        .with_relay_list_urls(options.relays.clone())
        .with_encryption_mode(options.encryption)
        .with_gift_wrap_mode(options.wrap)
        .with_open_stream(options.open_stream())
        .with_allowed_public_keys(options.allow.clone())
        .with_announced_server(announced)
        // Nothing leaves the relays under test.
        .with_publish_relay_list(announced)
        .with_bootstrap_relay_urls(options.announce.clone());
    let mut profile = ProfileMetadata::default();
    profile.name = Some("Interop RS".to_owned());
    let config = if announced { config.with_profile_metadata(profile) } else { config };
    // The handler is served from its own task: serving returns only after a first client has initialised.
    let serving = tokio::spawn(async move {
        match NostrMCPGateway::serve_handler(keys, GatewayConfig::new(config), TestServer::default()).await {
            Ok(server) => drop(server.waiting().await),
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        }
    });
    // The SDK does not say when its subscription is in force.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    println!("{}", json!({ "ready": true, "pubkey": pubkey }));
    let mut input = tokio::io::stdin();
    let mut buffer = [0_u8; 1_024];
    while matches!(input.read(&mut buffer).await, Ok(count) if count > 0) {}
    serving.abort();
    std::process::exit(0);
}
