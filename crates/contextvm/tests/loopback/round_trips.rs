//! Calls, progress, cancellation and requests of the server, in every protection and lifecycle.
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contextvm::Limits;
use contextvm::client::{CallError, EncryptionMode, GiftWrapMode};
use serde_json::json;

use crate::support::*;

const PROTECTIONS: [(EncryptionMode, GiftWrapMode); 3] = [
    (EncryptionMode::Disabled, GiftWrapMode::Optional),
    (EncryptionMode::Required, GiftWrapMode::Persistent),
    (EncryptionMode::Required, GiftWrapMode::Ephemeral),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_call_comes_back_in_every_protection() {
    for (encryption, gift_wrap) in PROTECTIONS {
        let relay = relay().await;
        let app = app(server(&relay)).await;
        let builder = client(&relay, app.key()).stateless().encryption(encryption).gift_wrap(gift_wrap);
        let (client, messages) = builder.connect().await.unwrap();
        forget(messages);
        let result = call(&client, "echo", json!({"n": 1})).await.unwrap();
        assert_eq!(
            result,
            json!({"value": {"n": 1}, "caller": client.public_key().to_hex()}),
            "{gift_wrap:?}"
        );
        assert_eq!(app.seen.executed(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_told_which_events_carried_its_call_and_whether_anybody_was_asked_at_all() {
    for (encryption, gift_wrap) in PROTECTIONS {
        let relay = relay().await;
        let app = app(server(&relay)).await;
        let builder = client(&relay, app.key()).stateless().encryption(encryption).gift_wrap(gift_wrap);
        let (client, messages) = builder.connect().await.unwrap();
        forget(messages);
        let local = soon(client.call("initialize", None)).await.unwrap();
        assert_eq!(local.exchange, None, "a stateless client answers itself");
        let params = serde_json::value::to_raw_value(&json!({"name": "echo", "arguments": {"value": 1}}));
        let answered = soon(client.call("tools/call", Some(params.unwrap()))).await.unwrap();
        let exchange = answered.exchange.expect("the server answered");
        assert_ne!(exchange.request, exchange.response);
        assert_eq!(exchange.protection.is_encrypted(), encryption != EncryptionMode::Disabled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_call_comes_back_in_every_protection() {
    for (encryption, gift_wrap) in PROTECTIONS {
        let relay = relay().await;
        let app = app(server(&relay)).await;
        let builder = client(&relay, app.key()).encryption(encryption).gift_wrap(gift_wrap);
        let (client, mut messages) = builder.connect().await.unwrap();
        client.send(initialize(0)).await.unwrap();
        let answer = next(&mut messages).await;
        assert_eq!((&answer["id"], &answer["result"]["serverInfo"]["name"]), (&json!(0), &json!("app")));
        client.send(INITIALIZED.into()).await.unwrap();
        client.send(call_text(&json!("one"), "echo", &json!(7), None)).await.unwrap();
        let answer = next(&mut messages).await;
        assert_eq!((&answer["id"], &answer["result"]["value"]), (&json!("one"), &json!(7)), "{gift_wrap:?}");
        until(|| app.seen.initialized.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_showed_of_itself_stays_readable_with_its_signatures() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, mut messages) = client(&relay, app.key()).connect().await.unwrap();
    assert!(client.server_view().await.unwrap().initialize_event.is_none());
    client.send(initialize(0)).await.unwrap();
    let answer = next(&mut messages).await;
    let view = client.server_view().await.unwrap();
    let event = view.initialize_event.unwrap();
    assert!(event.verify().is_ok() && event.pubkey == app.key());
    let result: serde_json::Value = serde_json::from_str(view.initialize_result.unwrap().get()).unwrap();
    assert_eq!(result, answer["result"]);
    assert!(view.supports_encryption && view.supports_ephemeral_encryption && view.tags.repeats);
    assert!(view.tools_list_event.is_none());
    client.close().await;
    assert!(client.server_view().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_client_answers_its_own_initialize() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, mut messages) = client(&relay, app.key()).stateless().connect().await.unwrap();
    client.send(initialize(5)).await.unwrap();
    let answer = next(&mut messages).await;
    assert_eq!(answer["id"], json!(5));
    assert!(answer["result"]["serverInfo"].is_object());
    assert_eq!(app.seen.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_carries_the_token_that_the_client_chose_and_comes_before_the_answer() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, mut messages) = client(&relay, app.key()).stateless().connect().await.unwrap();
    for token in [json!(4), json!("tok")] {
        client.send(call_text(&json!(1), "progress", &json!(0), Some(&token))).await.unwrap();
        let mut steps = Vec::new();
        loop {
            let message = next(&mut messages).await;
            if message["method"] != json!("notifications/progress") {
                assert_eq!(message["id"], json!(1));
                break;
            }
            assert_eq!(message["params"]["progressToken"], token);
            steps.push(message["params"]["progress"].as_i64().unwrap());
        }
        assert_eq!(steps, [1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_the_request_it_names() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, messages) = client(&relay, app.key()).stateless().connect().await.unwrap();
    forget(messages);
    client.send(call_text(&json!("x"), "slow", &json!(0), None)).await.unwrap();
    client.send(call_text(&json!("y"), "slow", &json!(0), None)).await.unwrap();
    until(|| app.seen.executed() == 2).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x"}});
    client.send(cancel.to_string()).await.unwrap();
    until(|| app.seen.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_future_is_dropped_is_cancelled_at_the_server() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "slow", json!(0)).await });
    until(|| app.seen.executed() == 1).await;
    task.abort();
    until(|| app.seen.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_asks_a_client_that_offered_to_answer() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let (client, mut messages) = client(&relay, app.key()).answer_server_requests().connect().await.unwrap();
    client.send(call_text(&json!(1), "sample", &json!(0), None)).await.unwrap();
    let ask = next(&mut messages).await;
    assert_eq!(ask["method"], json!("sampling/createMessage"));
    let answer = json!({"jsonrpc": "2.0", "id": ask["id"], "result": {"model": "m"}});
    client.send(answer.to_string()).await.unwrap();
    let done = next(&mut messages).await;
    assert_eq!((&done["id"], &done["result"]["answer"]), (&json!(1), &json!({"model": "m"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_a_client_that_offered_nothing_hears_so_at_once() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    assert_eq!(call(&client, "sample", json!(0)).await.unwrap(), json!({"answer": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_server_that_finds_no_room_is_refused_and_not_waited_for() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let limits = Limits { transfers_bytes: 50, ..Limits::default() };
    let builder = client(&relay, app.key()).limits(limits).answer_server_requests();
    let (client, _messages) = builder.connect().await.unwrap();
    assert_eq!(call(&client, "sample", json!(0)).await.unwrap(), json!({"answer": null}));
    assert_eq!(client.status().stats.unread, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_every_waiting_call() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "slow", json!(0)).await });
    until(|| app.seen.executed() == 1).await;
    soon(client.close()).await;
    let error = soon(task).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), contextvm::client::ErrorKind::Closed), "{error:?}");
    assert!(matches!(client.request("ping", None).await, Err(CallError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_answers_ends_at_its_deadline() {
    let relay = relay().await;
    let nobody = keys().public_key();
    let builder = client(&relay, nobody).stateless().request_timeout(Duration::from_millis(1_500));
    let (client, _messages) = builder.connect().await.unwrap();
    let started = Instant::now();
    let error = soon(client.request("tools/list", None)).await.unwrap_err();
    assert_eq!(error.kind(), contextvm::client::ErrorKind::Timeout);
    assert!(error.is_retryable());
    assert!(started.elapsed() >= Duration::from_millis(1_400), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_under_way_are_published_at_shutdown() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "slow", json!("late")).await });
    until(|| app.seen.executed() == 1).await;
    let handle = app.handle.clone();
    let closing = tokio::spawn(async move { handle.shutdown().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    app.seen.go.notify_waiters();
    assert_eq!(soon(task).await.unwrap().unwrap(), json!({"value": "late"}));
    soon(closing).await.unwrap();
}
