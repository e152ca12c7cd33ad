//! Servers with a store end and come back: nothing is executed twice, and what was sent meanwhile is taken.
use std::path::Path;
use std::time::Duration;

use contextvm::Keys;
use contextvm::client::GiftWrapMode;
use contextvm::server::{Error, ErrorKind, Server, ServerBuilder, StoreError};
use contextvm_local_relay::LocalRelay;
use serde_json::json;

use crate::support::*;

fn kept(keys: &Keys, relay: &LocalRelay, path: &Path) -> ServerBuilder {
    Server::builder(keys.clone()).relay(relay.url()).store(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_as_without_a_store_and_every_record_reaches_the_disk() {
    let (relay, directory) = (relay().await, tempfile::tempdir().unwrap());
    let path = directory.path().join("store");
    let app = app(kept(&keys(), &relay, &path)).await;
    assert_eq!(app.handle.status().store.as_deref(), Some(path.as_path()));
    let client = caller(&relay, app.key()).await;
    for n in 0..20 {
        assert_eq!(call(&client, "echo", json!(n)).await.unwrap()["value"], json!(n));
    }
    until(|| app.handle.status().stats.remembered >= 40).await;
    assert_eq!(app.handle.status().stats.unstored, 0);
    assert_eq!(app.seen.executed(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_hands_over_again_is_not_executed_again() {
    let (relay, directory) = (relay().await, tempfile::tempdir().unwrap());
    let (keys, path) = (keys(), directory.path().join("store"));
    let first = app(kept(&keys, &relay, &path)).await;
    // Wraps that the relay keeps: whoever subscribes anew is sent all of them.
    let builder = client(&relay, first.key()).gift_wrap(GiftWrapMode::Persistent).stateless();
    let (client, messages) = builder.connect().await.unwrap();
    forget(messages);
    for n in 0..5 {
        assert!(call(&client, "echo", json!(n)).await.is_ok());
    }
    first.handle.shutdown().await;
    let waiting = client.clone();
    let meanwhile = tokio::spawn(async move { call(&waiting, "echo", json!("meanwhile")).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = app(kept(&keys, &relay, &path)).await;
    assert_eq!(soon(meanwhile).await.unwrap().unwrap()["value"], json!("meanwhile"));
    assert!(call(&client, "echo", json!("after")).await.is_ok());
    assert_eq!((first.seen.executed(), second.seen.executed()), (5, 2));
    let stats = second.handle.status().stats;
    assert!(stats.opened >= 7, "the old ones were there again: {stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_store_is_refused_and_the_next_life_is_not() {
    let (relay, directory) = (relay().await, tempfile::tempdir().unwrap());
    let (keys, path) = (keys(), directory.path().join("store"));
    let first = app(kept(&keys, &relay, &path)).await;
    let mut options = kept(&keys, &relay, &path).build();
    options.shutdown_grace = Duration::ZERO;
    let refused = Server::start(options).await.unwrap_err();
    assert_eq!(refused, Error::Store(StoreError::InUse(path.clone())));
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Store, false));
    let ending = first.handle.clone();
    let (second, ()) = tokio::join!(app(kept(&keys, &relay, &path)), ending.shutdown());
    let client = caller(&relay, second.key()).await;
    assert!(call(&client, "echo", json!(1)).await.is_ok());
}

/// A run with a store, one without, and one with the store again, under calls that the relay keeps. Returns how often the last
/// one executed what the one in between had executed.
async fn with_a_run_in_memory_between(discards: bool) -> u64 {
    let (relay, directory) = (relay().await, tempfile::tempdir().unwrap());
    let (keys, path) = (keys(), directory.path().join("store"));
    let first = app(kept(&keys, &relay, &path)).await;
    let builder = client(&relay, first.key()).gift_wrap(GiftWrapMode::Persistent).stateless();
    let (client, messages) = builder.connect().await.unwrap();
    forget(messages);
    call(&client, "echo", json!("first")).await.unwrap();
    first.handle.shutdown().await;

    let builder = Server::builder(keys.clone()).relay(relay.url());
    let between = app(if discards { builder.discard_store(&path) } else { builder }).await;
    assert_eq!((between.handle.status().store, path.exists()), (None, !discards));
    call(&client, "echo", json!("between")).await.unwrap();
    if discards {
        let mut options = kept(&keys, &relay, &path).build();
        options.shutdown_grace = Duration::ZERO;
        let refused = Server::start(options).await.unwrap_err();
        assert_eq!(refused, Error::Store(StoreError::InUse(path.clone())));
    }
    between.handle.shutdown().await;

    let last = app(kept(&keys, &relay, &path)).await;
    call(&client, "echo", json!("last")).await.unwrap();
    assert_eq!((first.seen.executed(), between.seen.executed()), (1, 1));
    last.seen.executed() - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_in_memory_is_not_executed_again_with_the_next_store() {
    assert_eq!(with_a_run_in_memory_between(true).await, 0);
    assert_eq!(
        with_a_run_in_memory_between(false).await,
        1,
        "a store that is not removed knows nothing of it"
    );
}
