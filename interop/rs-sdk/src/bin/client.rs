//! The test client on the existing Rust SDK: runs the steps against one server and prints one JSON line for each.
use contextvm_interop_rs_sdk::{Options, Steps, check, pause};
use contextvm_sdk::proxy::{NostrMCPProxy, ProxyConfig};
use contextvm_sdk::transport::client::NostrClientTransportConfig;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientInfo, ClientRequest,
    CustomRequest, Implementation, PingRequest, ProgressNotificationParam, RawContent, ServerResult,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, ServiceError};
use rmcp::{ClientHandler, Peer, RoleClient};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Default)]
struct Ear {
    progress: Arc<Mutex<Vec<String>>>,
}

impl ClientHandler for Ear {
    #[expect(deprecated, reason = "the notification under test belongs to roots")]
    fn get_info(&self) -> ClientInfo {
        ClientInfo::new(
            ClientCapabilities::builder().enable_roots().enable_roots_list_changed().build(),
            Implementation::new("interop-rs-client", "1.0.0"),
        )
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let heard = format!("{}/{}", params.progress, params.total.unwrap_or_default());
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }
}

#[derive(Clone)]
struct Caller {
    peer: Peer<RoleClient>,
    timeout: Duration,
}

impl Caller {
    async fn raw(&self, request: ClientRequest) -> Result<ServerResult, ServiceError> {
        let options = PeerRequestOptions::with_timeout(self.timeout);
        self.peer.send_cancellable_request(request, options).await?.await_response().await
    }

    async fn call(&self, name: &'static str, arguments: Value) -> Result<CallToolResult, ServiceError> {
        match self.raw(tool_call(name, arguments)).await? {
            ServerResult::CallToolResult(result) => Ok(result),
            _ => Err(ServiceError::UnexpectedResponse),
        }
    }

    async fn text(&self, name: &'static str, arguments: Value) -> Result<String, String> {
        self.call(name, arguments).await.map(|result| text_of(&result)).map_err(|error| error.to_string())
    }

    async fn seen(&self, what: &str) -> Result<u64, String> {
        let counts: Value = serde_json::from_str(&self.text("notifications-seen", json!({})).await?)
            .map_err(|error| error.to_string())?;
        counts[what].as_u64().ok_or_else(|| counts.to_string())
    }
}

fn tool_call(name: &'static str, arguments: Value) -> ClientRequest {
    let mut params = CallToolRequestParams::new(name);
    if let Value::Object(arguments) = arguments {
        params = params.with_arguments(arguments);
    }
    ClientRequest::CallToolRequest(CallToolRequest::new(params))
}

fn text_of(result: &CallToolResult) -> String {
    let texts = result.content.iter().filter_map(|content| match &content.raw {
        RawContent::Text(text) => Some(text.text.clone()),
        _ => None,
    });
    texts.take(1).collect()
}

#[tokio::main]
async fn main() {
    let options = Options::read(true);
    let keys = options.keys();
    let me = keys.public_key().to_hex();
    let config = NostrClientTransportConfig::default()
        .with_relay_urls(options.relays.clone())
        .with_server_pubkey(options.server.clone())
        .with_encryption_mode(options.encryption)
        .with_gift_wrap_mode(options.wrap)
        .with_stateless(options.stateless)
        // Without a relay the server's own list says where it is (CEP-17).
        .with_discovery_relay_urls(options.discovery.clone());
    let ear = Ear::default();
    let mut steps = Steps::new(&options);
    let mut running = None;
    let connecting = NostrMCPProxy::serve_client_handler(keys, ProxyConfig::new(config), ear.clone());
    let connected = steps
        .run("connect", async {
            let service = connecting.await.map_err(|error| error.to_string())?;
            let name = service.peer_info().map(|info| info.server_info.name.clone());
            running = Some(service);
            Ok(json!(name))
        })
        .await;
    let Some(service) = running.filter(|_| connected) else { steps.finish() };
    let caller = Caller { peer: service.peer().clone(), timeout: options.timeout };
    run_calls(&mut steps, &caller, &me).await;
    run_progress(&mut steps, &caller, &ear).await;
    run_errors(&mut steps, &caller).await;
    run_notifications(&mut steps, &caller).await;
    // The outcome of leaving is nobody's business any more.
    let _ = tokio::time::timeout(Duration::from_secs(2), service.cancel()).await;
    steps.finish()
}

async fn run_calls(steps: &mut Steps<'_>, caller: &Caller, me: &str) {
    steps
        .run("list", async {
            let tools = caller.peer.list_all_tools().await.map_err(|error| error.to_string())?;
            let names: Vec<String> = tools.iter().map(|tool| tool.name.to_string()).collect();
            for name in ["echo", "add", "slow-with-progress", "whoami", "fail"] {
                check(names.iter().any(|listed| listed == name), || format!("tool missing: {name}"))?;
            }
            Ok(json!(names))
        })
        .await;
    steps
        .run("call", async {
            let message = "zażółć \"gęślą\" \\ jaźń \u{1F980}\nsecond line";
            let echo = caller.text("echo", json!({ "message": message })).await?;
            check(echo == message, || format!("echo differs: {echo}"))?;
            let sum = caller.text("add", json!({ "a": 19, "b": 23 })).await?;
            check(sum == "42", || format!("19 + 23 = {sum}"))?;
            Ok(json!(""))
        })
        .await;
    steps.hold();
    steps
        .run("large", async {
            let message = "x".repeat(20_000);
            let echo = caller.text("echo", json!({ "message": message })).await?;
            check(echo == message, || format!("echo differs: {} bytes", echo.len()))?;
            Ok(json!(""))
        })
        .await;
    steps
        .run("parallel", async {
            let calls: Vec<_> = (0..16)
                .map(|a| {
                    let caller = caller.clone();
                    (a, tokio::spawn(async move { caller.text("add", json!({ "a": a, "b": 1_000 })).await }))
                })
                .collect();
            for (a, call) in calls {
                let sum = call.await.map_err(|error| error.to_string())??;
                check(sum == (a + 1_000).to_string(), || format!("call {a} got {sum}"))?;
            }
            Ok(json!(""))
        })
        .await;
    steps
        .run("whoami", async {
            let name = caller.text("whoami", json!({})).await?;
            check(name == me, || format!("server sees {name}, client is {me}"))?;
            Ok(json!(""))
        })
        .await;
    steps
        .run("ping", async {
            caller
                .raw(ClientRequest::PingRequest(PingRequest::default()))
                .await
                .map_err(|error| error.to_string())?;
            Ok(json!(""))
        })
        .await;
}

async fn run_progress(steps: &mut Steps<'_>, caller: &Caller, ear: &Ear) {
    steps
        .run("progress", async {
            ear.progress.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let text = caller.text("slow-with-progress", json!({ "steps": 3, "delay_ms": 100 })).await?;
            check(text == "3 steps", || text.clone())?;
            // The library hands notifications to tasks of their own, which may come later than the answer.
            pause(200).await;
            let heard = ear.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
            check(heard == ["1/3", "2/3", "3/3"], || format!("progress heard: {heard:?}"))?;
            Ok(json!(heard))
        })
        .await;
}

async fn run_errors(steps: &mut Steps<'_>, caller: &Caller) {
    steps
        .run("unknown-method", async {
            let request = ClientRequest::CustomRequest(CustomRequest::new("no/such/method", None));
            match caller.raw(request).await {
                Err(ServiceError::McpError(error)) if error.code.0 == -32_601 => Ok(json!("")),
                other => Err(format!("expected -32601, got {other:?}")),
            }
        })
        .await;
    steps
        .run("unknown-tool", async {
            match caller.call("no-such-tool", json!({})).await {
                Err(ServiceError::McpError(error)) if [-32_601, -32_602].contains(&error.code.0) => {
                    Ok(json!(error.code.0))
                }
                Ok(result) if result.is_error == Some(true) => Ok(json!("isError")),
                other => Err(format!("got {other:?}")),
            }
        })
        .await;
    steps
        .run("tool-failure", async {
            let result = caller.call("fail", json!({})).await.map_err(|error| error.to_string())?;
            let text = text_of(&result);
            check(result.is_error == Some(true) && text == "failed on purpose", || format!("{result:?}"))?;
            Ok(json!(""))
        })
        .await;
}

async fn run_notifications(steps: &mut Steps<'_>, caller: &Caller) {
    steps
        .run("notification", async {
            let before = caller.seen("roots_changed").await?;
            caller.peer.notify_roots_list_changed().await.map_err(|error| error.to_string())?;
            pause(200).await;
            let after = caller.seen("roots_changed").await?;
            check(after == before + 1, || format!("server counted {before} before and {after} after"))?;
            Ok(json!(""))
        })
        .await;
    steps
        .run("cancel", async {
            let before = caller.seen("cancelled").await?;
            let request = tool_call("slow-with-progress", json!({ "steps": 50, "delay_ms": 50 }));
            let options = PeerRequestOptions::with_timeout(caller.timeout);
            let slow = caller
                .peer
                .send_cancellable_request(request, options)
                .await
                .map_err(|error| error.to_string())?;
            pause(300).await;
            slow.cancel(Some("no longer wanted".to_owned())).await.map_err(|error| error.to_string())?;
            pause(300).await;
            let after = caller.seen("cancelled").await?;
            check(after == before + 1, || format!("server counted {before} before and {after} after"))?;
            Ok(json!(""))
        })
        .await;
}
