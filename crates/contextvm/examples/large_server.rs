//! The test server for large messages and streams: prints `{"ready":true,"pubkey":...}` and serves until standard input ends.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
#[path = "large/payload.rs"]
mod payload;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use contextvm::Limits;
use contextvm::server::{EncryptionMode, GiftWrapMode, Server, serve_rmcp, stream_writer};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};

use payload::{digest, freeze, line, text_of};

/// How streams ended, over all callers.
#[derive(Debug, Default)]
struct Seen {
    aborted: AtomicU32,
    closed: AtomicU32,
}

#[derive(Debug, Clone)]
struct Tools {
    seen: Arc<Seen>,
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

#[tool_router]
impl Tools {
    #[tool(description = "Says how long a text is and its SHA-256.")]
    fn sha(&self, Parameters(Sha { text }): Parameters<Sha>) -> String {
        digest(&text)
    }

    #[tool(description = "Gives a text of that many bytes.")]
    fn blow(&self, Parameters(Blow { bytes }): Parameters<Blow>) -> String {
        text_of(bytes)
    }

    #[tool(description = "Writes a stream and ends it: by close, by abort, or when the reader does.")]
    async fn stream(
        &self,
        Parameters(Stream { chunks, end, delay_ms }): Parameters<Stream>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let failed = |text: String| CallToolResult::error(vec![ContentBlock::text(text)]);
        let Some(mut writer) = stream_writer(&context) else { return failed("no stream".to_owned()) };
        let ended_by_reader = || {
            self.seen.aborted.fetch_add(1, Ordering::Relaxed);
            CallToolResult::success(vec![ContentBlock::text("ended by the reader")])
        };
        for index in 0..chunks {
            if writer.write(&line(index)).await.is_err() {
                return ended_by_reader();
            }
            if delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
        }
        if matches!(end, End::Abort | End::Freeze) {
            // What has not gone out when a stream is given up is lost.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        match end {
            End::Close => {}
            End::Abort => {
                if let Err(error) = writer.abort(Some("on purpose")).await {
                    return failed(error.to_string());
                }
                self.seen.closed.fetch_add(1, Ordering::Relaxed);
                return CallToolResult::success(vec![ContentBlock::text(format!("{chunks} chunks"))]);
            }
            End::Wait | End::Freeze => {
                if end == End::Freeze {
                    freeze(6);
                }
                if tokio::time::timeout(Duration::from_secs(10), writer.ended()).await.is_ok() {
                    return ended_by_reader();
                }
            }
        }
        if let Err(error) = writer.close().await {
            return failed(error.to_string());
        }
        self.seen.closed.fetch_add(1, Ordering::Relaxed);
        CallToolResult::success(vec![ContentBlock::text(format!("{chunks} chunks"))])
    }

    #[tool(name = "streams-seen", description = "Counts how streams ended.")]
    fn streams_seen(&self) -> String {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        let (aborted, closed) = (count(&self.seen.aborted), count(&self.seen.closed));
        serde_json::json!({ "aborted": aborted, "closed": closed }).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let mut limits = Limits::default();
    if let Some(idle) = arguments.idle {
        (limits.stream_idle, limits.stream_probe) = (idle, idle);
    }
    let builder = Server::builder(contextvm::new_keys()?)
        .relays(arguments.relays)
        .encryption(arguments.encryption)
        .gift_wrap(arguments.gift_wrap)
        .limits(limits)
        .fresh_key();
    let listener = builder.start().await?;
    let handle = listener.handle();
    println!("{}", serde_json::json!({ "ready": true, "pubkey": handle.public_key().to_hex() }));
    let seen = Arc::new(Seen::default());
    let serving = tokio::spawn(serve_rmcp(listener, move |_caller| Tools { seen: Arc::clone(&seen) }));
    let _end =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await?;
    handle.shutdown().await;
    serving.await?;
    Ok(())
}

/// The command line that all test servers share.
struct Arguments {
    relays: Vec<String>,
    /// How long a quiet stream is left alone, and then how long an answer to a ping may take.
    idle: Option<Duration>,
    encryption: EncryptionMode,
    gift_wrap: GiftWrapMode,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let (mut relays, mut idle) = (Vec::new(), None);
        let (mut encryption, mut gift_wrap) = (EncryptionMode::Disabled, GiftWrapMode::Optional);
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            // Ours speaks streams with every caller that does.
            if flag == "--streams" {
                continue;
            }
            let value = words.next().ok_or("a value is missing")?;
            match (flag.as_str(), value.as_str()) {
                ("--relay", url) => relays.push(url.to_owned()),
                ("--idle", ms) => idle = Some(Duration::from_millis(ms.parse()?)),
                ("--wire", "plain") => {}
                ("--wire", "persistent") => {
                    (encryption, gift_wrap) = (EncryptionMode::Required, GiftWrapMode::Persistent)
                }
                ("--wire", "ephemeral") => {
                    (encryption, gift_wrap) = (EncryptionMode::Required, GiftWrapMode::Ephemeral)
                }
                _ => return Err(format!("unknown argument {flag}").into()),
            }
        }
        Ok(Self { relays, idle, encryption, gift_wrap })
    }
}
