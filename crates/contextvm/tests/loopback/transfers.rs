//! Transfers (CEP-22): large requests and answers, raw and typed, and what is known of them while they run.
use std::sync::atomic::Ordering;
use std::time::Duration;

use contextvm::client::{CallError, Client, ClientBuilder, Direction, EncryptionMode};
use contextvm::server::{Delivery, ServerHandle, serve_rmcp};
use contextvm_local_relay::LocalRelay;
use nostr::event::Tag;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolRequestParams, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::*;

const MIB: usize = 1024 * 1024;

const PROTECTIONS: [EncryptionMode; 2] = [EncryptionMode::Disabled, EncryptionMode::Required];

/// A text that no compression and no escaping makes uniform, of so many bytes.
fn text(bytes: usize) -> String {
    let mut state = 7_u32;
    let mut text = String::with_capacity(bytes + 4);
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 28 {
            0 => text.push('\\'),
            1 => text.push('\n'),
            2 => text.push('é'),
            _ => text.push(char::from(b'a' + u8::try_from((state >> 20) % 26).unwrap())),
        }
    }
    text
}

async fn connect(builder: ClientBuilder) -> Client {
    let (client, messages) = builder.stateless().connect().await.unwrap();
    forget(messages);
    client
}

/// A client that the server has answered before.
async fn calling(relay: &LocalRelay, app: &App, encryption: EncryptionMode) -> Client {
    let client = connect(client(relay, app.key()).encryption(encryption)).await;
    assert!(call(&client, "first", json!(0)).await.is_ok());
    app.seen.executed.store(0, Ordering::SeqCst);
    client
}

/// Gives a large call longer than anything else.
async fn at_length<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(240), future).await.expect("in time")
}

async fn echo(client: &Client, value: &Value) -> Result<Value, CallError> {
    let params = json!({"name": "echo", "arguments": {"value": value}});
    let params = serde_json::value::to_raw_value(&params).unwrap();
    let result = at_length(client.request("tools/call", Some(params))).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_goes_and_comes_back_in_every_protection() {
    for encryption in PROTECTIONS {
        let relay = relay().await;
        let app = app(server(&relay)).await;
        let client = calling(&relay, &app, encryption).await;
        let value = json!(text(MIB));
        for round in 1..=2 {
            let result = echo(&client, &value).await.unwrap();
            assert!(result["value"] == value, "{encryption:?}");
            assert_eq!(app.seen.executed(), round);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_word_of_a_stateless_client_may_be_a_mebibyte() {
    for encryption in PROTECTIONS {
        let relay = relay().await;
        let app = app(server(&relay)).await;
        let client = connect(client(&relay, app.key()).encryption(encryption)).await;
        let value = json!(text(MIB));
        assert!(echo(&client, &value).await.unwrap()["value"] == value, "{encryption:?}");
        assert_eq!(app.seen.executed(), 2, "a ping, and the call once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_mebibytes_go_and_come_back() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Disabled).await;
    let value = json!("0123456789abcdef".repeat(MIB));
    let result = echo(&client, &value).await.unwrap();
    assert!(result["value"] == value);
    assert_eq!(app.seen.executed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_may_have_more_values_than_a_small_one() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Optional).await;
    let value: Value = (0..200_000).map(|n| json!(1_000_000_000 + n)).collect();
    let result = echo(&client, &value).await.unwrap();
    assert!(result["value"] == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_is_to_carry_is_on_the_event_that_names_it() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let tag = Tag::parse(["pmi", "bitcoin-lightning-bolt11"]).unwrap();
    let builder = client(&relay, listener.handle().public_key()).request_tags(vec![tag.clone()]);
    let client = connect(builder).await;
    let mut session = None;
    for size in [10, 200_000] {
        let (client, value) = (client.clone(), json!("x".repeat(size)));
        let asking = tokio::spawn(async move { echo(&client, &value).await });
        let inbound = soon(async {
            if session.is_none() {
                session = listener.accept().await;
            }
            let session = session.as_mut().unwrap();
            let inbound = session.recv().await.unwrap();
            let Delivery::Request { key, .. } = &inbound.delivery else { panic!("{inbound:?}") };
            assert_eq!(key.id, inbound.event.as_ref().unwrap().id, "the end frame, if it was a transfer");
            let answer = json!({"jsonrpc": "2.0", "id": key.id.to_hex(), "result": {}});
            session.sender().send(answer.to_string()).await.unwrap();
            inbound
        })
        .await;
        assert!(inbound.event.unwrap().tags.contains(&tag), "{size}");
        assert!(inbound.message.len() > size);
        assert!(soon(asking).await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_raw_message_keeps_its_id_and_its_token_whatever_they_are() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, mut messages) = client(&relay, app.key()).stateless().connect().await.unwrap();
    assert!(call(&client, "first", json!(0)).await.is_ok());
    let value = json!(text(200_000));
    for (id, token) in [(json!("a \"b\""), None), (json!(-3), Some(json!(9))), (json!(8), Some(json!("tok")))]
    {
        client.send(call_text(&id, "echo", &value, token.as_ref())).await.unwrap();
        let answer = next(&mut messages).await;
        assert_eq!(answer["id"], id);
        assert!(answer["result"]["value"] == value, "{:.300}", answer.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_shown_to_who_asks_for_them() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let builder = client(&relay, app.key()).stateless().shown_frames(true);
    let (client, mut messages) = builder.connect().await.unwrap();
    assert!(call(&client, "first", json!(0)).await.is_ok());
    let value = json!(text(200_000));
    client.send(call_text(&json!(1), "echo", &value, Some(&json!("tok")))).await.unwrap();
    let mut frames = Vec::new();
    let answer = loop {
        let message = next(&mut messages).await;
        if message["method"] != "notifications/progress" {
            break message;
        }
        assert_eq!(message["params"]["progressToken"], "tok");
        frames.push(message["params"]["cvm"]["frameType"].as_str().unwrap().to_owned());
    };
    assert!(answer["result"]["value"] == value);
    for frame in ["start", "chunk", "end"] {
        assert!(frames.iter().any(|shown| shown == frame), "{frames:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_transfer_only_grows() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Optional).await;
    let mut news = client.transfers();
    assert!(news.borrow().is_none());
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while news.changed().await.is_ok() {
            seen.extend(news.borrow_and_update().clone());
        }
        seen
    });
    let value = json!(text(MIB));
    echo(&client, &value).await.unwrap();
    soon(client.close()).await;
    drop(client);
    let seen = soon(watching).await.unwrap();
    for direction in [Direction::Sent, Direction::Received] {
        let news: Vec<_> = seen.iter().filter(|news| news.direction == direction).collect();
        assert!(news.len() > 3, "{direction:?}: {}", news.len());
        assert!(news.is_sorted_by_key(|news| news.bytes), "{direction:?}");
        let last = news.last().unwrap();
        assert!(last.total > MIB as u64 && last.bytes <= last.total, "{last:?}");
        assert!(news.iter().all(|news| news.id.get() == last.id.get()));
    }
    let last = seen.last().unwrap();
    assert_eq!((last.direction, last.bytes), (Direction::Received, last.total));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_while_its_request_goes_out_is_never_executed() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Optional).await;
    let (mut news, large, calling) = (client.transfers(), json!(text(8 * MIB)), client.clone());
    let task = tokio::spawn(async move { echo(&calling, &large).await });
    soon(news.changed()).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(echo(&client, &json!(1)).await.unwrap()["value"], json!(1));
    let moved = news.borrow_and_update().as_ref().map(|news| (news.bytes, news.total)).unwrap();
    assert!(moved.0 < moved.1, "{moved:?}: too late to be cancelled");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!news.has_changed().unwrap(), "nothing more goes out");
    assert_eq!(app.seen.executed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_while_its_answer_comes_in_leaves_nothing_behind() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Optional).await;
    let (mut news, calling, large) = (client.transfers(), client.clone(), json!(text(4 * MIB)));
    let task = tokio::spawn(async move { echo(&calling, &large).await });
    let received = |news: &Option<contextvm::client::Transferred>| {
        news.as_ref().is_some_and(|news| news.direction == Direction::Received)
    };
    at_length(news.wait_for(received)).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    for value in 0..3 {
        assert_eq!(echo(&client, &json!(value)).await.unwrap()["value"], json!(value));
    }
    let large = json!(text(MIB));
    assert!(echo(&client, &large).await.unwrap()["value"] == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_transfer_may_carry_is_refused_with_its_size() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = calling(&relay, &app, EncryptionMode::Optional).await;
    let error = echo(&client, &json!("x".repeat(25 * MIB))).await.unwrap_err();
    let CallError::Lost { why, detail, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*why, contextvm::client::Lost::TooLarge, "{detail}");
    assert!(detail.contains("26"), "{detail}");
    assert_eq!(app.seen.executed(), 0);
}

struct Tools;

#[derive(Deserialize, schemars::JsonSchema)]
struct Text {
    value: String,
}

#[tool_router]
impl Tools {
    #[tool(description = "says the same")]
    async fn echo(&self, Parameters(text): Parameters<Text>) -> String {
        text.value
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

async fn typed(relay: &LocalRelay) -> ServerHandle {
    let listener = server(relay).start().await.unwrap();
    let handle = listener.handle();
    tokio::spawn(serve_rmcp(listener, |_| Tools));
    handle
}

async fn typed_echo(encryption: EncryptionMode, bytes: usize) {
    let relay = relay().await;
    let server = typed(&relay).await;
    let builder = client(&relay, server.public_key()).encryption(encryption);
    let (client, messages) = builder.connect().await.unwrap();
    let mcp = soon(().serve(client.into_transport(messages))).await.unwrap();
    let sent = "0123456789abcdef".repeat(bytes / 16);
    let arguments = json!({"value": sent}).as_object().cloned().unwrap();
    let request = CallToolRequestParams::new("echo").with_arguments(arguments);
    let result = at_length(mcp.call_tool(request)).await.unwrap();
    let result = serde_json::to_value(&result).unwrap();
    assert!(result["content"][0]["text"] == json!(sent));
    soon(mcp.cancel()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_client_and_a_typed_server_exchange_a_mebibyte() {
    for encryption in PROTECTIONS {
        typed_echo(encryption, MIB).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_client_and_a_typed_server_exchange_sixteen_mebibytes() {
    typed_echo(EncryptionMode::Required, 16 * MIB).await;
}
