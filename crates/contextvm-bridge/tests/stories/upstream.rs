//! Stories of an HTTP server on Nostr: a session of its own for every caller, in both eras.
use std::time::Duration;

use contextvm_bridge::{GatewayBuilder, HttpTarget};
use contextvm_client::Client;
use serde_json::{Value, json};

use crate::http_server::HttpServer;
use crate::stage::{Stage, call, hear, initialize, reason, request, until};

async fn serve(tune: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> (Stage, HttpServer) {
    let server = HttpServer::start().await;
    let target = HttpTarget::new(&server.url).unwrap().header("Authorization", "Bearer hunter2").unwrap();
    (Stage::serve_with(target, tune, None).await, server)
}

/// Sends a request as it is written, with a number as its id.
async fn send(client: &Client, id: u64, method: &str, params: &Value) {
    let text = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    client.send(text).await.unwrap();
}

fn modern(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 7,
    });
    params
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_has_a_session_of_its_own() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    let welcome = initialize(&one).await;
    assert_eq!(
        (&welcome["serverInfo"]["name"], &welcome["asked"]["clientInfo"]["name"]),
        (&"http".into(), &"t".into())
    );
    initialize(&two).await;
    let (first, second) =
        (call(&one, "session", "{}").await.unwrap(), call(&two, "session", "{}").await.unwrap());
    assert_ne!(first, second);
    assert_eq!(call(&one, "session", "{}").await.unwrap(), first);
    assert_eq!(server.headers("tools/call")["authorization"], "Bearer hunter2");
    // Another host with the same key begins another session, and the first one is ended.
    initialize(&one).await;
    assert_ne!(call(&one, "session", "{}").await.unwrap(), first);
    until("the farewell", || server.deleted() == 1).await;
    stage.end().await;
    assert_eq!((server.sessions(), server.deleted()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_caller_needs_no_initialize() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (client, _messages) = stage.client(1).await;
    assert_eq!(call(&client, "echo", r#"{"n":1}"#).await.unwrap(), r#"{"n":1}"#);
    assert_eq!((server.count("initialize"), server.count("notifications/initialized")), (1, 1));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_log_messages_of_a_call_reach_its_caller_alone() {
    let (stage, _server) = serve(|gateway| gateway).await;
    let (client, mut messages) = stage.client(1).await;
    let (other, mut others) = stage.client(2).await;
    initialize(&client).await;
    initialize(&other).await;
    let params = json!({"name": "notes", "arguments": {"mark": "m"}, "_meta": {"progressToken": 0}});
    send(&client, 5, "tools/call", &params).await;
    for nth in 1..=3 {
        let progress = hear(&mut messages, |message| message["method"] == "notifications/progress").await;
        assert_eq!(
            (&progress["params"]["progressToken"], &progress["params"]["progress"]),
            (&0.into(), &nth.into())
        );
    }
    hear(&mut messages, |message| message["method"] == "notifications/message").await;
    assert_eq!(hear(&mut messages, |message| message["id"] == 5).await["result"]["content"][0]["text"], "m");
    assert!(tokio::time::timeout(Duration::from_millis(100), others.recv()).await.is_err());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_begun_anew_once_and_the_call_is_repeated() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (client, mut messages) = stage.client(1).await;
    initialize(&client).await;
    request(&client, "resources/subscribe", r#"{"uri":"test://a"}"#).await.unwrap();
    let before = call(&client, "session", "{}").await.unwrap();
    server.forget();
    let after = futures_util::future::join_all((0..5).map(|_| call(&client, "session", "{}"))).await;
    let after: Vec<String> = after.into_iter().map(Result::unwrap).collect();
    assert!(after.iter().all(|session| *session == after[0] && *session != before), "{after:?}");
    assert_eq!(server.count("initialize"), 2);
    // What was subscribed to is subscribed to again.
    until("the subscription", || server.count("resources/subscribe") == 2).await;
    while call(&client, "touch", r#"{"uri":"test://a"}"#).await.unwrap() != "1" {}
    hear(&mut messages, |message| message["params"]["uri"] == "test://a").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_resumed() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    assert_eq!(call(&client, "cut", "{}").await.unwrap(), "resumed");
    assert_eq!(server.count("tools/call"), 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_the_server_reaches_the_caller_and_its_answer_the_server() {
    let (stage, _server) = serve(|gateway| gateway).await;
    let (client, mut messages) = stage.answering_client(1).await;
    let (mute, _mute) = stage.client(2).await;
    initialize(&client).await;
    initialize(&mute).await;
    let asking = call(&client, "ask", "{}");
    let answering = async {
        let question = hear(&mut messages, |message| message["method"] == "roots/list").await;
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": ["mine"]}});
        client.send(answer.to_string()).await.unwrap();
    };
    let (answered, ()) = tokio::join!(asking, answering);
    assert!(answered.unwrap().contains("mine"));
    assert!(call(&mute, "ask", "{}").await.unwrap().contains("not_supported"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_reach_the_caller_that_subscribed() {
    let (stage, _server) = serve(|gateway| gateway).await;
    let (one, mut ones) = stage.client(1).await;
    let (two, mut twos) = stage.client(2).await;
    initialize(&one).await;
    initialize(&two).await;
    request(&one, "resources/subscribe", r#"{"uri":"test://a"}"#).await.unwrap();
    while call(&two, "touch", r#"{"uri":"test://a"}"#).await.unwrap() != "1" {}
    hear(&mut ones, |message| message["method"] == "notifications/resources/updated").await;
    assert!(tokio::time::timeout(Duration::from_millis(100), twos.recv()).await.is_err());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_has_a_reason() {
    let (stage, server) = serve(|gateway| gateway.request_timeout(Duration::from_secs(2))).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    for (tool, expected) in [
        ("status", "upstream_status"),
        ("redirect", "upstream_status"),
        ("invalid", "upstream_answer_invalid"),
        ("huge", "upstream_answer_invalid"),
        ("broken", "upstream_unreachable"),
        ("hang", "upstream_timeout"),
    ] {
        let failure = call(&client, tool, "{}").await.unwrap_err();
        assert_eq!(reason(&failure), expected, "{tool}");
        assert!(!format!("{failure:?}").contains("127.0.0.1"), "addresses are nothing to callers");
    }
    let own = call(&client, "nameless", "{}").await.unwrap_err();
    assert!(matches!(&own, contextvm_client::CallError::Server { code: -7, .. }), "{own:?}");
    until("the cancellation", || server.count("notifications/cancelled") == 1).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error_with_a_reason() {
    let target = HttpTarget::new("http://127.0.0.1:9/mcp").unwrap();
    let stage = Stage::serve_with(target, |gateway| gateway, None).await;
    let (client, _messages) = stage.client(1).await;
    let failure = request(&client, "initialize", "{}").await.unwrap_err();
    assert_eq!(reason(&failure), "upstream_unreachable");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_messages_pass_as_they_are_with_their_headers() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (client, mut messages) = stage.client(1).await;
    send(&client, 1, "server/discover", &modern(json!({}))).await;
    let found = hear(&mut messages, |message| message["id"] == 1).await;
    assert_eq!(found["result"]["supportedVersions"][0], "2026-07-28");
    // The header that mirrors an argument is learnt from the list of tools when the server misses it.
    let params = modern(json!({"name": "weather", "arguments": {"city": "Köln"}}));
    send(&client, 2, "tools/call", &params).await;
    let answer = hear(&mut messages, |message| message["id"] == 2).await;
    assert_eq!(answer["result"]["content"][0]["text"], "=?base64?S8O2bG4=?=");
    assert_eq!((server.count("tools/call"), server.count("tools/list")), (2, 1));
    send(&client, 3, "tools/call", &params).await;
    hear(&mut messages, |message| message["id"] == 3).await;
    assert_eq!((server.count("tools/call"), server.count("tools/list")), (3, 1));
    send(&client, 4, "no/such", &modern(json!({}))).await;
    assert_eq!(hear(&mut messages, |message| message["id"] == 4).await["error"]["code"], -32601);
    assert_eq!(server.count("initialize"), 0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_modern_request_closes_its_stream() {
    let (stage, server) = serve(|gateway| gateway).await;
    let (client, mut messages) = stage.client(1).await;
    send(&client, 1, "tools/call", &modern(json!({"name": "endless"}))).await;
    send(&client, 2, "subscriptions/listen", &modern(json!({}))).await;
    for method in ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"] {
        let note = hear(&mut messages, |message| message["method"] == method).await;
        assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 2);
    }
    until("the call", || server.count("tools/call") == 1).await;
    for (id, what) in [(1, "endless"), (2, "listen")] {
        assert!(!server.was_closed(what));
        let cancel =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        client.send(cancel.to_string()).await.unwrap();
        until("the end of the stream", || server.was_closed(what)).await;
    }
    assert_eq!(server.count("notifications/cancelled"), 0);
    stage.end().await;
}
