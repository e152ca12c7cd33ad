//! Typed servers and clients: both revisions on one server, and callers that begin in odd ways.
#![expect(deprecated, reason = "callers of 2025-11-25 are still asked for sampling")]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contextvm::client::CallError;
use contextvm::server::{Caller, Delivery, Inbound, ServerHandle, caller as caller_of, serve_rmcp};
use contextvm_local_relay::LocalRelay;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientInfo, CreateMessageRequestParams, CreateMessageResult,
    ErrorData, ProtocolVersion, SamplingMessage, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, RoleServer, ServerHandler, ServiceExt,
    tool, tool_handler, tool_router,
};
use serde_json::{Value, json};

use crate::support::*;

#[derive(Debug, Clone)]
struct Tools {
    made_for: Caller,
}

#[tool_router]
impl Tools {
    #[tool(description = "the caller's key")]
    fn who(&self, context: RequestContext<RoleServer>) -> String {
        let caller = caller_of(&context).expect("a caller");
        assert_eq!(caller, self.made_for);
        caller.key.to_hex()
    }

    #[tool(description = "answers after a while")]
    async fn slow(&self) -> String {
        tokio::time::sleep(Duration::from_millis(500)).await;
        "at last".into()
    }

    #[tool(description = "answers after a long while")]
    async fn slower(&self) -> String {
        tokio::time::sleep(Duration::from_secs(7)).await;
        "at long last".into()
    }

    #[tool(description = "panics")]
    fn panics(&self) -> String {
        panic!("as told")
    }

    #[tool(description = "asks the client to write something")]
    async fn sample(&self, context: RequestContext<RoleServer>) -> String {
        let ask = CreateMessageRequestParams::new(vec![SamplingMessage::user_text("say something")], 10);
        match context.peer.create_message(ask).await {
            Ok(answer) => answer.model,
            Err(error) => error.to_string(),
        }
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Starts the typed server; the number counts the services made.
async fn typed(relay: &LocalRelay) -> (ServerHandle, Arc<AtomicU64>) {
    let listener = server(relay).start().await.unwrap();
    let (handle, made) = (listener.handle(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&made);
    tokio::spawn(serve_rmcp(listener, move |made_for| {
        count.fetch_add(1, Ordering::SeqCst);
        Tools { made_for }
    }));
    (handle, made)
}

fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"))
}

fn modern_call(id: u64, tool: &str) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
    });
    let params = json!({"name": tool, "arguments": {}, "_meta": meta});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_client_calls_a_typed_server() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    let (client, messages) = client(&relay, server.public_key()).connect().await.unwrap();
    let me = client.public_key().to_hex();
    let mcp = soon(().serve(client.into_transport(messages))).await.unwrap();
    let tools = soon(mcp.list_all_tools()).await.unwrap();
    assert_eq!(tools.len(), 5);
    let answer = soon(mcp.call_tool(CallToolRequestParams::new("who"))).await.unwrap();
    assert_eq!(text_of(&serde_json::to_value(&answer).unwrap()), me);
    soon(mcp.cancel()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_client_of_2026_07_28_discovers_a_typed_server_and_calls_it() {
    let relay = relay().await;
    let (server, made) = typed(&relay).await;
    let (client, messages) = client(&relay, server.public_key()).connect().await.unwrap();
    let me = client.public_key().to_hex();
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let handler = ClientInfo::default();
    let transport = client.clone().into_transport(messages);
    let mcp = soon(handler.serve_with_lifecycle(transport, lifecycle)).await.unwrap();
    assert_eq!(soon(mcp.list_all_tools()).await.unwrap().len(), 5);
    let answer = soon(mcp.call_tool(CallToolRequestParams::new("who"))).await.unwrap();
    assert_eq!(text_of(&serde_json::to_value(&answer).unwrap()), me);
    let view = client.server_view().await.unwrap();
    let discovered = view.initialize_result.expect("what the server said of itself");
    assert!(discovered.get().contains("2026-07-28"), "{discovered}");
    assert_eq!(made.load(Ordering::SeqCst), 1, "nobody initialised");
    soon(mcp.cancel()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_the_application_ends_is_over_for_its_caller() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let client = caller(&relay, listener.handle().public_key()).await;
    tokio::spawn(async move {
        let mut session = listener.accept().await.expect("a session");
        let Some(Inbound { delivery: Delivery::Request { key, .. }, .. }) = session.recv().await else {
            panic!("no request");
        };
        let params = json!({"requestId": key.id.to_hex()});
        let ended = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        session.sender().send(ended.to_string()).await.unwrap();
        session.recv().await
    });
    let error = soon(client.request("subscriptions/listen", None)).await.unwrap_err();
    assert!(matches!(error, CallError::Ended), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_never_initialises_is_served() {
    let relay = relay().await;
    let (server, made) = typed(&relay).await;
    let client = caller(&relay, server.public_key()).await;
    let answer = call(&client, "who", json!(null)).await.unwrap();
    assert_eq!(text_of(&answer), client.public_key().to_hex());
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_request_is_served_and_may_alternate_with_legacy_ones() {
    let relay = relay().await;
    let (server, made) = typed(&relay).await;
    let (client, mut messages) = client(&relay, server.public_key()).connect().await.unwrap();
    let me = client.public_key().to_hex();
    for id in [1, 2] {
        client.send(modern_call(id, "who")).await.unwrap();
        let answer = next(&mut messages).await;
        assert_eq!((&answer["id"], text_of(&answer["result"])), (&json!(id), me.as_str()));
        client.send(call_text(&json!(id + 10), "who", &json!(null), None)).await.unwrap();
        let answer = next(&mut messages).await;
        assert_eq!((&answer["id"], text_of(&answer["result"])), (&json!(id + 10), me.as_str()));
    }
    assert_eq!(made.load(Ordering::SeqCst), 2, "one service per era");
    client.send(initialize(20)).await.unwrap();
    let answer = next(&mut messages).await;
    assert!(answer["result"]["serverInfo"].is_object(), "{answer}");
    assert_eq!(made.load(Ordering::SeqCst), 3, "a new service per initialize");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_answered_although_its_caller_initialises_again() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    let (client, mut messages) = client(&relay, server.public_key()).connect().await.unwrap();
    client.send(initialize(1)).await.unwrap();
    assert_eq!(next(&mut messages).await["id"], json!(1));
    client.send(INITIALIZED.into()).await.unwrap();
    client.send(call_text(&json!(2), "slow", &json!(null), None)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send(initialize(3)).await.unwrap();
    assert_eq!(next(&mut messages).await["id"], json!(3));
    let answer = next(&mut messages).await;
    assert_eq!((&answer["id"], text_of(&answer["result"])), (&json!(2), "at last"));
}

/// A service whose session is over gives its answers all the same: what was executed is answered, however long it took.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_take_long_are_answered_although_their_caller_initialises_again() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    let (client, mut messages) = client(&relay, server.public_key()).connect().await.unwrap();
    client.send(initialize(1)).await.unwrap();
    assert_eq!(next(&mut messages).await["id"], json!(1));
    client.send(INITIALIZED.into()).await.unwrap();
    client.send(call_text(&json!(2), "slower", &json!(null), None)).await.unwrap();
    client.send(modern_call(4, "slower")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send(initialize(3)).await.unwrap();
    assert_eq!(next(&mut messages).await["id"], json!(3));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = next(&mut messages).await;
        assert_eq!(text_of(&answer["result"]), "at long last", "{answer}");
        answers.push(answer["id"].as_u64());
    }
    answers.sort();
    assert_eq!(answers, [Some(2), Some(4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_first_message_ends_nobodys_service_and_not_even_its_own_callers() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    let steady = caller(&relay, server.public_key()).await;
    assert!(call(&steady, "who", json!(null)).await.is_ok());
    let odd = [
        INITIALIZED.to_owned(),
        json!({"jsonrpc": "2.0", "id": 9, "result": {}}).to_string(),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x"}})
            .to_string(),
        json!({"jsonrpc": "2.0", "id": 1, "method": "no/such/method"}).to_string(),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 5}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string(),
    ];
    for first in odd {
        let (stranger, messages) = client(&relay, server.public_key()).connect().await.unwrap();
        forget(messages);
        stranger.send(first.clone()).await.unwrap();
        let answer =
            call(&stranger, "who", json!(null)).await.unwrap_or_else(|error| panic!("{first}: {error:?}"));
        assert_eq!(text_of(&answer), stranger.public_key().to_hex());
        assert!(call(&steady, "who", json!(null)).await.is_ok(), "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_touches_no_other_caller() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    let steady = caller(&relay, server.public_key()).await;
    assert!(call(&steady, "who", json!(null)).await.is_ok());
    let unlucky = caller(&relay, server.public_key()).await;
    let error = call(&unlucky, "panics", json!(null)).await.unwrap_err();
    assert!(matches!(error, CallError::Server { code: -32603, .. }), "{error:?}");
    assert!(call(&steady, "who", json!(null)).await.is_ok());
    assert!(call(&unlucky, "who", json!(null)).await.is_ok());
}

#[derive(Debug, Clone)]
struct Writer;

impl ClientHandler for Writer {
    fn get_info(&self) -> ClientInfo {
        let mut info = ClientInfo::default();
        info.capabilities = ClientCapabilities::builder().enable_sampling().build();
        info
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(
            SamplingMessage::assistant_text("something"),
            "model of the caller".into(),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_server_samples_from_each_of_its_typed_clients() {
    let relay = relay().await;
    let (server, _made) = typed(&relay).await;
    for _ in 0..2 {
        let builder = client(&relay, server.public_key()).answer_server_requests();
        let (client, messages) = builder.connect().await.unwrap();
        let mcp = soon(Writer.serve(client.into_transport(messages))).await.unwrap();
        let answer = soon(mcp.call_tool(CallToolRequestParams::new("sample"))).await.unwrap();
        assert_eq!(text_of(&serde_json::to_value(&answer).unwrap()), "model of the caller");
        soon(mcp.cancel()).await.unwrap();
    }
}
