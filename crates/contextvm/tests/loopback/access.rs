//! Who is let in, and what the others are told.
use std::sync::Arc;
use std::time::Duration;

use contextvm::client::{CallError, ErrorKind};
use contextvm::server::{Access, AccessCallback, Answer};
use nostr::key::PublicKey;
use serde_json::json;

use crate::support::*;

fn access(announced: bool) -> Access {
    Access { allowed: None, ask_key: false, excluded: Vec::new(), ask_capability: false, announced }
}

async fn impatient(
    relay: &contextvm_local_relay::LocalRelay,
    server: PublicKey,
) -> contextvm::client::Client {
    let builder = client(relay, server).stateless().request_timeout(Duration::from_secs(2));
    let (client, messages) = builder.connect().await.unwrap();
    forget(messages);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_allow_list_lets_nobody_in_and_says_nothing() {
    let relay = relay().await;
    let app = app(server(&relay).allow([])).await;
    let client = impatient(&relay, app.key()).await;
    let error = call(&client, "echo", json!(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "silence, not a refusal");
    assert_eq!(app.seen.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_server_says_that_it_refuses() {
    let relay = relay().await;
    let refusing = Access { allowed: Some(std::collections::BTreeSet::new()), ..access(true) };
    let app = app(server(&relay).access(refusing)).await;
    let client = impatient(&relay, app.key()).await;
    let error = call(&client, "echo", json!(1)).await.unwrap_err();
    assert!(matches!(error, CallError::Server { code: -32000, .. }), "{error:?}");
    assert_eq!(app.seen.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_key_is_let_in_and_an_excluded_capability_is_open_to_all() {
    let relay = relay().await;
    let friend = keys();
    let excluded = vec![("tools/call".to_owned(), Some("open".to_owned()))];
    let allowed = Some([friend.public_key()].into_iter().collect());
    let app = app(server(&relay).access(Access { allowed, excluded, ..access(false) })).await;
    let builder = contextvm::client::Client::builder(friend, app.key().into()).relay(relay.url()).stateless();
    let (client, _messages) = builder.connect().await.unwrap();
    assert!(call(&client, "echo", json!(1)).await.is_ok());
    let stranger = impatient(&relay, app.key()).await;
    assert!(call(&stranger, "open", json!(1)).await.is_ok());
    assert_eq!(call(&stranger, "echo", json!(1)).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(app.seen.executed(), 2);
}

struct Doorman {
    friend: PublicKey,
}

impl AccessCallback for Doorman {
    fn key_allowed(&self, key: PublicKey) -> Answer<'_> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            assert!(key == self.friend, "a panic means no");
            true
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_decides_and_its_panic_means_no() {
    let relay = relay().await;
    let friend = keys();
    let doorman = Arc::new(Doorman { friend: friend.public_key() });
    let asking = Access { ask_key: true, ..access(false) };
    let app = app(server(&relay).access(asking).access_callback(doorman)).await;
    let builder = contextvm::client::Client::builder(friend, app.key().into()).relay(relay.url()).stateless();
    let (client, _messages) = builder.connect().await.unwrap();
    assert!(call(&client, "echo", json!(1)).await.is_ok());
    let stranger = impatient(&relay, app.key()).await;
    assert_eq!(call(&stranger, "echo", json!(1)).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(app.seen.executed(), 1);
}
