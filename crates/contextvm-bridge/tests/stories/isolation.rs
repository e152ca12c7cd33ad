//! Stories of children that are not shared.
use std::time::Duration;

use crate::stage::{Stage, alive, call, child, hear, initialize, keys, reason, request, until};
use contextvm_bridge::{GatewayBuilder, Isolation, Notice};

fn isolated(gateway: GatewayBuilder) -> GatewayBuilder {
    gateway.isolation(Isolation::PerCaller)
}

fn started(stage: &Stage) -> usize {
    stage.notices.all().iter().filter(|notice| matches!(notice, Notice::ChildStarted { .. })).count()
}

async fn pid(client: &contextvm_client::Client) -> u32 {
    call(client, "pid", "{}").await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_has_a_child_of_its_own_from_its_first_request_to_its_next_initialize() {
    let stage = Stage::serve_with(child(&[]), isolated, None).await;
    assert_eq!(started(&stage), 0);
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    initialize(&one).await;
    let (first, second) = (pid(&one).await, pid(&two).await);
    assert_ne!(first, second);
    assert_eq!(pid(&one).await, first);
    initialize(&one).await;
    assert_ne!(pid(&one).await, first);
    until("the end of the first child", || !alive(first)).await;
    assert!(alive(second));
    stage.end().await;
    assert!(!alive(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_initialize_leaves_open_requests_their_child() {
    let stage = Stage::serve_with(child(&[]), isolated, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let first = pid(&client).await;
    let slow = call(&client, "slow", r#"{"ms":600}"#);
    let again = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        initialize(&client).await;
        pid(&client).await
    };
    let (slow, second) = tokio::join!(slow, again);
    assert_eq!(slow.unwrap(), first.to_string());
    assert_ne!(first, second);
    until("the end of the first child", || !alive(first)).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_start_no_children() {
    let stage = Stage::serve_with(child(&[]), isolated, Some(vec![keys(1).public_key()])).await;
    let strangers = (2..42).map(|number| {
        let stage = &stage;
        async move {
            let server = keys(100).public_key().into();
            let client = contextvm_client::Client::builder(keys(number), server).relay(stage.relay.url());
            let (client, _messages) =
                client.request_timeout(Duration::from_millis(700)).connect().await.unwrap();
            assert!(call(&client, "pid", "{}").await.is_err());
        }
    });
    futures_util::future::join_all(strangers).await;
    assert_eq!(started(&stage), 0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_child_expires_and_comes_back_as_it_was_initialised() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let command = child(&[]).env("SEEN", &seen).unwrap();
    let tune = |gateway| isolated(gateway).idle_expiry(Duration::from_millis(100));
    let stage = Stage::serve_with(command, tune, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let first = pid(&client).await;
    until("the expiry", || !alive(first)).await;
    assert_ne!(pid(&client).await, first);
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(seen.matches(r#""clientInfo":{"name":"t""#).count(), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_with_a_subscription_or_an_open_request_does_not_expire() {
    let tune = |gateway| isolated(gateway).idle_expiry(Duration::from_millis(100));
    let stage = Stage::serve_with(child(&[]), tune, None).await;
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    let (first, second) = (pid(&one).await, pid(&two).await);
    request(&one, "resources/subscribe", r#"{"uri":"a:b"}"#).await.unwrap();
    assert_eq!(call(&two, "slow", r#"{"ms":3000}"#).await.unwrap(), second.to_string());
    assert!(alive(first));
    until("the expiry of the other", || !alive(second)).await;
    assert!(alive(first));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_child_makes_room_and_one_at_work_never_does() {
    let stage = Stage::serve_with(child(&[]), |gateway| isolated(gateway).most_backends(2), None).await;
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    let (three, _three) = stage.client(3).await;
    let first = pid(&one).await;
    let second = pid(&two).await;
    assert_ne!(pid(&three).await, first);
    assert!(!alive(first) && alive(second), "the longest idle one leaves");
    let work = [call(&two, "slow", r#"{"ms":1500}"#), call(&three, "slow", r#"{"ms":1500}"#)];
    let newcomer = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reason(&call(&one, "pid", "{}").await.unwrap_err())
    };
    let (done, refused) = tokio::join!(futures_util::future::join_all(work), newcomer);
    assert_eq!(refused, "busy");
    assert!(done.iter().all(Result::is_ok));
    assert!(call(&one, "pid", "{}").await.is_ok(), "there is room again");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_fails_the_calls_of_its_caller_alone_and_the_next_call_works() {
    let stage = Stage::serve_with(child(&[]), isolated, None).await;
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    initialize(&one).await;
    let second = pid(&two).await;
    assert_eq!(reason(&call(&one, "die", "{}").await.unwrap_err()), "child_exited");
    assert!(call(&one, "pid", "{}").await.is_ok());
    assert_eq!(pid(&two).await, second);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_open_is_answered_when_the_gateway_stops() {
    let stage = Stage::serve_with(child(&[]), isolated, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.stop.cancel();
    };
    let (hung, ()) = tokio::join!(call(&client, "hang", "{}"), stopping);
    assert_eq!(reason(&hung.unwrap_err()), "shutting_down");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_crashing_is_given_a_rest() {
    let stage = Stage::serve_with(child(&["crash"]), isolated, None).await;
    let (client, _messages) = stage.client(1).await;
    let mut reasons = Vec::new();
    for _ in 0..5 {
        reasons.push(reason(&call(&client, "pid", "{}").await.unwrap_err()));
    }
    assert_eq!(reasons, ["child_exited", "child_exited", "child_exited", "child_down", "child_down"]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_a_new_initialize_overtakes_is_answered_for_the_caller() {
    let stage = Stage::serve_with(child(&[]), isolated, None).await;
    let (client, mut messages) = stage.answering_client(1).await;
    initialize(&client).await;
    let asking = call(&client, "ask", "{}");
    let again = async {
        hear(&mut messages, |message| message["method"] == "roots/list").await;
        initialize(&client).await;
    };
    let (answered, ()) = tokio::join!(asking, again);
    assert!(answered.unwrap().contains("session_replaced"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_an_earlier_session_can_be_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let command = child(&[]).env("SEEN", &seen).unwrap();
    let stage = Stage::serve_with(command, isolated, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let first = pid(&client).await;
    let hang = r#"{"jsonrpc":"2.0","id":"h","method":"tools/call","params":{"name":"hang"}}"#;
    client.send(hang.to_owned()).await.unwrap();
    let saw = |what: &str| std::fs::read_to_string(&seen).unwrap_or_default().contains(what);
    until("the call", || saw("hang")).await;
    initialize(&client).await;
    assert!(alive(first));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#;
    client.send(cancel.to_owned()).await.unwrap();
    until("the end of the first child, which has nothing to do any more", || !alive(first)).await;
    stage.end().await;
}
