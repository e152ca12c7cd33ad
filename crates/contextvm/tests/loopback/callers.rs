//! Many callers at once never meet each other.
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contextvm::server::Delivery;
use nostr::key::PublicKey;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::*;

/// Makes ten calls at once with ids and tokens 0..9 and checks that each gets its own answer and progress.
async fn ten_calls(relay: String, server: PublicKey, number: u64) {
    let builder = contextvm::client::Client::builder(keys(), server.into()).relay(relay).stateless();
    let (client, mut messages) = builder.connect().await.unwrap();
    for n in 0..10 {
        let text = call_text(&json!(n), "progress", &json!([number, n]), Some(&json!(n)));
        client.send(text).await.unwrap();
    }
    let (mut answered, mut steps) = (BTreeSet::new(), [0_i64; 10]);
    while answered.len() < 10 {
        let message: Value = next(&mut messages).await;
        if message["method"] == json!("notifications/progress") {
            let token = usize::try_from(message["params"]["progressToken"].as_u64().unwrap()).unwrap();
            let step = message["params"]["progress"].as_i64().unwrap();
            assert!(step > steps[token], "progress of one request goes forward");
            steps[token] = step;
        } else {
            let id = message["id"].as_u64().unwrap();
            assert_eq!(message["result"], json!({"value": [number, id]}));
            assert!(answered.insert(id), "one answer per request");
        }
    }
    assert_eq!(steps, [3; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_with_the_same_ids_and_tokens_never_cross() {
    let relay = relay().await;
    let limits = contextvm::Limits { in_flight: 2_000, ..contextvm::Limits::default() };
    let app = app(server(&relay).limits(limits)).await;
    let mut callers = JoinSet::new();
    for number in 0..100 {
        callers.spawn(ten_calls(relay.url(), app.key(), number));
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(app.seen.executed(), 1_000);
    assert_eq!(app.seen.sessions.load(Ordering::SeqCst), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_reads_stalls_no_other() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let key = listener.handle().public_key();
    let stalled = caller(&relay, key).await;
    let waiting = stalled.clone();
    let task = tokio::spawn(async move { call(&waiting, "echo", json!(1)).await });
    let unread = soon(listener.accept()).await.unwrap();
    assert_eq!(unread.caller(), stalled.public_key());
    for _ in 0..600 {
        stalled.notify("notifications/roots/list_changed", None).await.unwrap();
    }
    let app = run(listener);
    let other = caller(&relay, key).await;
    assert_eq!(call(&other, "echo", json!(2)).await.unwrap()["value"], json!(2));
    assert!(!task.is_finished());
    task.abort();
    drop((unread, app));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_session_answers_its_open_requests() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let key = listener.handle().public_key();
    let client = caller(&relay, key).await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "echo", json!(1)).await });
    let mut session = soon(listener.accept()).await.unwrap();
    let inbound = soon(session.recv()).await.unwrap();
    assert!(matches!(inbound.delivery, Delivery::Request { .. }));
    drop(session);
    let error = soon(task).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), contextvm::client::ErrorKind::Server, "{error:?}");
    let again = client.clone();
    let task = tokio::spawn(async move { call(&again, "echo", json!(2)).await });
    let mut session = soon(listener.accept()).await.unwrap();
    assert!(soon(session.recv()).await.is_some(), "the caller gets a new session");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_initialize_ends_the_old_session_and_begins_a_new_one() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let (client, messages) = client(&relay, listener.handle().public_key()).connect().await.unwrap();
    forget(messages);
    client.send(initialize(1)).await.unwrap();
    let mut old = soon(listener.accept()).await.unwrap();
    assert!(soon(old.recv()).await.is_some());
    client.send(initialize(2)).await.unwrap();
    let mut new = soon(listener.accept()).await.unwrap();
    assert!(soon(old.recv()).await.is_none());
    assert!(soon(new.recv()).await.unwrap().message.contains("initialize"));
    drop(old);
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send(call_text(&json!(3), "echo", &json!(0), None)).await.unwrap();
    assert!(soon(new.recv()).await.is_some(), "the end of the old session does not touch the new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_changed_is_broadcast_once_to_each_initialised_caller() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (first, mut first_hears) = client(&relay, app.key()).connect().await.unwrap();
    let (second, mut second_hears) = client(&relay, app.key()).stateless().connect().await.unwrap();
    first.send(initialize(1)).await.unwrap();
    next(&mut first_hears).await;
    first.send(INITIALIZED.into()).await.unwrap();
    second.send(call_text(&json!(1), "echo", &json!(0), None)).await.unwrap();
    next(&mut second_hears).await;
    until(|| app.seen.initialized.load(Ordering::SeqCst) == 1).await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    app.handle.broadcast(changed.to_string()).await.unwrap();
    assert_eq!(next(&mut first_hears).await["method"], changed["method"]);
    let more = tokio::time::timeout(Duration::from_millis(500), first_hears.recv()).await;
    assert!(more.is_err(), "once: {more:?}");
    let more = tokio::time::timeout(Duration::from_millis(100), second_hears.recv()).await;
    assert!(more.is_err(), "not initialised: {more:?}");
}
