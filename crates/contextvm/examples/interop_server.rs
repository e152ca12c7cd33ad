//! The test server on rmcp: prints `{"ready":true,"pubkey":...}` and serves the tools of interop/README.md until standard input ends.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use contextvm::Limits;
use contextvm::server::{EncryptionMode, GiftWrapMode, Identity, Server, caller, serve_rmcp};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, ProgressNotificationParam, ServerCapabilities, ServerConfig,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};

/// What came without a call, over all callers.
#[derive(Debug, Default)]
struct Seen {
    roots_changed: AtomicU32,
    cancelled: AtomicU32,
}

#[derive(Debug, Clone)]
struct Tools {
    seen: Arc<Seen>,
}

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
    #[serde(default = "three")]
    steps: u32,
    #[serde(default = "fifty")]
    delay_ms: u64,
}

const fn three() -> u32 {
    3
}

const fn fifty() -> u64 {
    50
}

#[tool_router]
impl Tools {
    #[tool(description = "Gives the message back.")]
    fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        message
    }

    #[tool(description = "Adds two numbers.")]
    fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(name = "slow-with-progress", description = "Takes its time and says how far it is.")]
    async fn slow(
        &self,
        Parameters(Slow { steps, delay_ms }): Parameters<Slow>,
        context: RequestContext<RoleServer>,
    ) -> String {
        let token = context.meta.get_progress_token();
        for step in 1..=steps {
            tokio::select! {
                () = context.ct.cancelled() => {
                    self.seen.cancelled.fetch_add(1, Ordering::Relaxed);
                    return "cancelled".to_owned();
                }
                () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
            }
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step))
                    .with_total(f64::from(steps));
                // The caller may be gone; the call then ends by its own cancellation.
                let _gone = context.peer.notify_progress(progress).await;
            }
        }
        format!("{steps} steps")
    }

    #[tool(description = "Names the caller.")]
    async fn whoami(&self, context: RequestContext<RoleServer>) -> String {
        caller(&context).map_or_else(|| "unknown".to_owned(), |caller| caller.key.to_hex())
    }

    #[tool(description = "Fails on purpose.")]
    fn fail(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("failed on purpose")])
    }

    #[tool(name = "notifications-seen", description = "Counts what came without a call.")]
    fn notifications_seen(&self) -> String {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        let (roots, cancelled) = (count(&self.seen.roots_changed), count(&self.seen.cancelled));
        serde_json::json!({ "roots_changed": roots, "cancelled": cancelled }).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn on_roots_list_changed(&self, _context: NotificationContext<RoleServer>) {
        self.seen.roots_changed.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let keys = match &arguments.key {
        Some(key) => contextvm::Keys::parse(key)?,
        None => contextvm::new_keys()?,
    };
    let identity = Identity { name: Some("interop-rust-server".into()), ..Identity::default() };
    let mut builder = Server::builder(keys)
        .relays(arguments.relays)
        .identity(identity)
        .encryption(arguments.encryption)
        .gift_wrap(arguments.gift_wrap)
        .limits(Limits { in_flight_per_caller: 512, ..Limits::default() });
    if arguments.key.is_none() {
        builder = builder.fresh_key();
    }
    if !arguments.allow.is_empty() {
        builder = builder.allow(arguments.allow);
    }
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
    key: Option<String>,
    allow: Vec<nostr::key::PublicKey>,
    encryption: EncryptionMode,
    gift_wrap: GiftWrapMode,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let (mut relays, mut key, mut allow) = (Vec::new(), None, Vec::new());
        let (mut encryption, mut gift_wrap) = (EncryptionMode::Disabled, GiftWrapMode::Optional);
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or("a value is missing")?;
            match (flag.as_str(), value.as_str()) {
                ("--relay", url) => relays.push(url.to_owned()),
                ("--key", secret) => key = Some(secret.to_owned()),
                ("--allow", caller) => allow.push(nostr::key::PublicKey::parse(caller)?),
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
        Ok(Self { relays, key, allow, encryption, gift_wrap })
    }
}
