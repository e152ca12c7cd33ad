//! Relays that restart, repeat, dawdle and vanish.
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contextvm::client::{Client, EncryptionMode};
use contextvm::server::Server;
use contextvm_local_relay::{Faults, LocalRelay};
use serde_json::json;

use crate::support::*;

async fn both(relays: [&LocalRelay; 2]) -> (App, Client) {
    let urls = relays.map(LocalRelay::url);
    let app = app(Server::builder(keys()).relays(urls.clone()).fresh_key()).await;
    let builder = Client::builder(keys(), app.key().into()).relays(urls).stateless();
    let (client, messages) = builder.connect().await.unwrap();
    forget(messages);
    (app, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_identities_two_links() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let mut clients = Vec::new();
    for others in 1..=3 {
        let client = caller(&relay, app.key()).await;
        assert_eq!(call(&client, "echo", json!("x")).await.unwrap()["value"], "x");
        clients.push(client);
        assert_eq!(relay.stats().connections, 1 + others, "nobody shares a connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_restart_while_a_call_is_open_does_not_lose_the_answer() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "slow", json!("kept")).await });
    until(|| app.seen.executed() == 1).await;
    let relay = relay.restart().await.unwrap();
    app.seen.go.notify_waiters();
    assert_eq!(soon(task).await.unwrap().unwrap(), json!({"value": "kept"}));
    assert_eq!(app.seen.executed(), 1);
    drop(relay);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_while_the_relay_is_away_is_executed_once_it_is_back() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    assert!(call(&client, "echo", json!(0)).await.is_ok());
    let options = contextvm_local_relay::RelayOptions {
        addr: relay.url().trim_start_matches("ws://").parse().unwrap(),
        ..relay.options().clone()
    };
    relay.shutdown().await;
    let waiting = client.clone();
    let task = tokio::spawn(async move { call(&waiting, "echo", json!(1)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _relay = LocalRelay::start(options).await.unwrap();
    assert_eq!(soon(task).await.unwrap().unwrap()["value"], json!(1));
    assert_eq!(app.seen.executed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_with_its_key_serves_the_same_client_again() {
    let relay = relay().await;
    let identity = keys();
    let first = app(Server::builder(identity.clone()).relay(relay.url())).await;
    let client = caller(&relay, first.key()).await;
    assert!(call(&client, "echo", json!(1)).await.is_ok());
    soon(first.handle.shutdown()).await;
    let second = app(Server::builder(identity).relay(relay.url())).await;
    assert_eq!(call(&client, "echo", json!(2)).await.unwrap()["value"], json!(2));
    assert_eq!((first.seen.executed(), second.seen.executed()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_repeat_everything_cause_one_execution_and_one_answer() {
    let (one, two) = (relay().await, relay().await);
    for relay in [&one, &two] {
        relay.set_faults(Faults { duplicate: 1.0, ..Faults::default() });
    }
    for encryption in [EncryptionMode::Disabled, EncryptionMode::Required] {
        let urls = [one.url(), two.url()];
        let app = app(Server::builder(keys()).relays(urls.clone()).fresh_key()).await;
        let builder =
            Client::builder(keys(), app.key().into()).relays(urls).stateless().encryption(encryption);
        let (client, mut messages) = builder.connect().await.unwrap();
        for n in 0..20 {
            client.send(call_text(&json!(n), "echo", &json!(n), None)).await.unwrap();
        }
        let mut ids: Vec<_> = Vec::new();
        for _ in 0..20 {
            ids.push(next(&mut messages).await["id"].as_u64().unwrap());
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..20).collect::<Vec<_>>());
        let more = tokio::time::timeout(Duration::from_millis(300), messages.recv()).await;
        assert!(more.is_err(), "one answer each: {more:?}");
        assert_eq!(app.seen.executed(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_relay_of_two_delays_nothing() {
    let (fast, slow) = (relay().await, relay().await);
    let (app, client) = both([&fast, &slow]).await;
    assert!(call(&client, "echo", json!(0)).await.is_ok());
    slow.set_faults(Faults { latency: Duration::from_secs(5), no_ok: true, ..Faults::default() });
    let started = Instant::now();
    for n in 0..20 {
        assert_eq!(call(&client, "echo", json!(n)).await.unwrap()["value"], json!(n));
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(app.seen.executed(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_relay_of_two_delays_nothing() {
    let (fast, dead) = (relay().await, relay().await);
    let (app, client) = both([&fast, &dead]).await;
    dead.shutdown().await;
    let started = Instant::now();
    for n in 0..20 {
        assert!(call(&client, "echo", json!(n)).await.is_ok());
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(app.seen.executed(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_answering_does_not_stop_the_intake() {
    let relay = relay().await;
    let app = app(server(&relay)).await;
    let client = caller(&relay, app.key()).await;
    assert!(call(&client, "echo", json!(0)).await.is_ok());
    relay.set_faults(Faults { no_ok: true, ..Faults::default() });
    let started = Instant::now();
    for n in 0..10 {
        assert!(call(&client, "echo", json!(n)).await.is_ok());
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(app.seen.sessions.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_reachable_relay_says_so_in_time() {
    let gone = relay().await;
    let url = gone.url();
    gone.shutdown().await;
    let builder = Client::builder(keys(), keys().public_key().into()).relay(url);
    let error = soon(builder.ready_timeout(Duration::from_millis(500)).connect()).await.unwrap_err();
    assert_eq!(error, contextvm::client::Error::NotReady);
    assert!(error.is_retryable());
}
