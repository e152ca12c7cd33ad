//! Stories of a caller inside the gateway's own process: what it asks costs no other caller anything.
use std::time::Duration;

use contextvm_bridge::{GatewayBuilder, HttpTarget, Isolation, Notice};
use contextvm_server::{LocalCaller, LocalError};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http_server::HttpServer;
use crate::stage::{Stage, alive, call, child, hear, initialize, kill, until};

const CHANGED: &str = "notifications/tools/list_changed";

async fn ask(local: &LocalCaller, method: &str, params: &Value) -> Value {
    let params = serde_json::value::to_raw_value(params).unwrap();
    let answer = local.request(method, Some(&params)).await.unwrap();
    serde_json::from_str(answer.get()).unwrap()
}

async fn hello(local: &LocalCaller) -> Value {
    let client = json!({"name": "local", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let welcome = ask(local, "initialize", &params).await;
    local.notify("notifications/initialized", None).unwrap();
    welcome
}

async fn tool(local: &LocalCaller, name: &str) -> String {
    let answer = ask(local, "tools/call", &json!({"name": name, "arguments": {}})).await;
    answer["content"][0]["text"].as_str().unwrap().to_owned()
}

async fn heard(local: &mut LocalCaller, what: &str) -> bool {
    let found = async {
        while let Some(message) = local.recv().await {
            if message.contains(what) {
                return true;
            }
        }
        false
    };
    timeout(Duration::from_millis(1_500), found).await.unwrap_or(false)
}

fn isolated(gateway: GatewayBuilder) -> GatewayBuilder {
    gateway.isolation(Isolation::PerCaller)
}

fn started(stage: &Stage) -> usize {
    stage.notices.all().iter().filter(|notice| matches!(notice, Notice::ChildStarted { .. })).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_child_serves_it_and_what_all_hear_it_hears() {
    let stage = Stage::serve(child(&[])).await;
    let mut local = stage.server.open_local().unwrap();
    assert_eq!(hello(&local).await["serverInfo"]["name"], "test-child");
    assert_eq!(ask(&local, "tools/list", &json!({})).await["tools"][0]["name"], "echo");
    let (client, mut messages) = stage.client(1).await;
    initialize(&client).await;
    call(&client, "changed", "{}").await.unwrap();
    hear(&mut messages, |message| message["method"] == CHANGED).await;
    assert!(heard(&mut local, CHANGED).await);
    assert_eq!(started(&stage), 1);
    stage.end().await;
    assert!(local.recv().await.is_none());
    assert_eq!(local.request("tools/list", None).await.unwrap_err(), LocalError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_other_caller_of_a_shared_child_still_hears_what_it_says_to_nobody_in_particular() {
    let stage = Stage::serve(child(&[])).await;
    let mut local = stage.server.open_local().unwrap();
    hello(&local).await;
    let (client, mut messages) = stage.answering_client(1).await;
    initialize(&client).await;
    let asking = local.sender();
    let slow = tokio::spawn(async move {
        let params = RawValue::from_string(r#"{"name":"hang","arguments":{}}"#.to_owned()).unwrap();
        asking.request("tools/call", Some(&params)).await
    });
    call(&client, "notes", r#"{"mark":"m"}"#).await.unwrap();
    hear(&mut messages, |message| message["method"] == "notifications/message").await;
    assert!(!heard(&mut local, "notifications/message").await);
    slow.abort();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_its_own_comes_when_it_asks_and_goes_when_it_rests() {
    let tune = |gateway| isolated(gateway).idle_expiry(Duration::from_millis(100));
    let stage = Stage::serve_with(child(&[]), tune, None).await;
    let mut local = stage.server.open_local().unwrap();
    assert_eq!(started(&stage), 0);
    hello(&local).await;
    let first: u32 = tool(&local, "pid").await.parse().unwrap();
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    call(&client, "changed", "{}").await.unwrap();
    assert!(!heard(&mut local, CHANGED).await, "another caller's backend is not its own");
    tool(&local, "changed").await;
    assert!(heard(&mut local, CHANGED).await);
    until("the expiry", || !alive(first)).await;
    assert_eq!(ask(&local, "tools/list", &json!({})).await["tools"][0]["name"], "echo");
    drop(local);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_learned_of_a_shared_child_is_over_once_another_has_opened() {
    let stage = Stage::serve(child(&[])).await;
    let mut local = stage.server.open_local().unwrap();
    hello(&local).await;
    kill(stage.pid);
    assert!(timeout(Duration::from_secs(10), local.recv()).await.unwrap().is_none());
    assert_eq!(started(&stage), 2);
    let local = stage.server.open_local().unwrap();
    hello(&local).await;
    assert_eq!(ask(&local, "tools/list", &json!({})).await["tools"][0]["name"], "echo");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_the_place_of_no_caller_and_gives_way_to_one_in_the_middle_of_its_work() {
    let stage = Stage::serve_with(child(&[]), |gateway| isolated(gateway).most_backends(1), None).await;
    let local = stage.server.open_local().unwrap();
    hello(&local).await;
    let asking = local.sender();
    let hanging = tokio::spawn(async move {
        let params = RawValue::from_string(r#"{"name":"hang","arguments":{}}"#.to_owned()).unwrap();
        asking.request("tools/call", Some(&params)).await
    });
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let pid = call(&client, "pid", "{}").await.unwrap();
    let given_up = timeout(Duration::from_secs(10), hanging).await.unwrap().unwrap();
    assert!(matches!(given_up, Err(LocalError::Refused { .. })), "{given_up:?}");
    let refused = local.request("tools/list", None).await;
    assert!(matches!(refused, Err(LocalError::Refused { .. })), "{refused:?}");
    assert_eq!(call(&client, "pid", "{}").await.unwrap(), pid, "an idle caller keeps its backend");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_listens_to_keeps_no_place_from_a_caller() {
    let server = HttpServer::start().await;
    let target = HttpTarget::new(&server.url).unwrap();
    let stage = Stage::serve_with(target, |gateway| gateway.most_backends(1), None).await;
    let mut local = stage.server.open_local().unwrap();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let modern = json!({ "_meta": meta });
    let found = ask(&local, "server/discover", &modern).await;
    assert_eq!(found["supportedVersions"][0], "2026-07-28");
    assert_eq!(ask(&local, "tools/list", &modern).await["tools"][0]["name"], "weather");
    let asking = local.sender();
    let listening = tokio::spawn(async move {
        let params = serde_json::value::to_raw_value(&modern).unwrap();
        asking.request_within("subscriptions/listen", Some(&params), None).await
    });
    assert!(heard(&mut local, CHANGED).await);
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    call(&client, "session", "{}").await.unwrap();
    let ended = timeout(Duration::from_secs(10), listening).await.unwrap().unwrap();
    assert!(matches!(ended, Err(LocalError::Refused { .. })), "{ended:?}");
    stage.end().await;
}
