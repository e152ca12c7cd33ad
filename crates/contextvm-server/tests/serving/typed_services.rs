//! A typed service serves a local caller of either era as it serves everybody.
use contextvm_server::{LocalCaller, Server, ServerHandle, caller, request_event, serve_rmcp, stream_writer};
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use crate::local_callers::{builder, params, soon};

struct Service;

impl ServerHandler for Service {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = caller(&context).unwrap();
        assert!(caller.is_local);
        assert!(request_event(&context).is_none());
        assert!(stream_writer(&context).is_none());
        let _sent = context.peer.notify_tool_list_changed().await;
        Ok(CallToolResult::success(vec![ContentBlock::text(caller.key.to_hex())]).into())
    }
}

fn start() -> ServerHandle {
    let listener = Server::offline(builder().build());
    let handle = listener.handle();
    tokio::spawn(serve_rmcp(listener, |_| Service));
    handle
}

async fn ask(local: &LocalCaller, method: &str, value: &Value) -> Value {
    let answer = soon(local.request(method, Some(&params(value)))).await.unwrap();
    serde_json::from_str(answer.get()).unwrap()
}

#[tokio::test]
async fn the_era_with_initialize() {
    let handle = start();
    let mut local = handle.open_local().unwrap();
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}});
    let welcome = ask(&local, "initialize", &hello).await;
    assert_eq!(welcome["protocolVersion"], "2025-11-25");
    local.notify("notifications/initialized", None).unwrap();
    let answer = ask(&local, "tools/call", &json!({"name": "x", "arguments": {}})).await;
    assert_eq!(answer["content"][0]["text"].as_str().map(str::len), Some(64), "{answer}");
    assert!(soon(local.recv()).await.unwrap().contains("tools/list_changed"));
    soon(handle.shutdown()).await;
    assert!(soon(local.recv()).await.is_none());
}

#[tokio::test]
async fn the_era_without() {
    let handle = start();
    let local = handle.open_local().unwrap();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "n", "version": "1"},
    });
    let welcome = ask(&local, "server/discover", &json!({"_meta": meta.clone()})).await;
    assert!(welcome.to_string().contains("2026-07-28"), "{welcome}");
    let answer = ask(&local, "tools/call", &json!({"name": "x", "arguments": {}, "_meta": meta})).await;
    assert_eq!(answer["content"][0]["text"].as_str().map(str::len), Some(64), "{answer}");
}
