//! A server that is on no relay, and one whose relay is dead: local callers need neither.
use std::time::Duration;

use contextvm_server::{Error, Identity, Server};
use serde_json::Value;

use crate::local_callers::{builder, offline, soon};

#[tokio::test]
async fn an_offline_server_has_its_identity_and_no_relays() {
    let identity = Identity { name: Some("n".to_owned()), ..Identity::default() };
    let listener = Server::offline(builder().relay("wss://never.example").identity(identity).build());
    let handle = listener.handle();
    assert!(handle.status().relays.is_empty());
    let tags: Vec<String> = handle.discovery_tags().iter().map(|tag| tag.as_slice().join("=")).collect();
    let flags = ["encryption", "encryption_ephemeral", "oversized_transfer", "open_stream", "repeats"];
    let flags = flags.map(|flag| format!("support_{flag}"));
    assert_eq!((tags[0].as_str(), &tags[1..]), ("name=n", &flags[..]));
    drop(listener);
    soon(handle.closed()).await;
    assert_eq!(handle.open_local().unwrap_err(), Error::Closed);
}

#[tokio::test]
async fn an_offline_server_ends_with_its_last_handle_and_not_before() {
    let (mut listener, handle) = offline();
    let caller = handle.open_local().unwrap();
    drop(handle);
    assert!(soon(listener.accept()).await.is_some());
    drop(caller);
    let waiting = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(waiting.is_err(), "the listener's own handle is left");
}

#[tokio::test]
async fn a_dead_relay_holds_up_no_local_caller() {
    let server = builder().relay("ws://127.0.0.1:1").fresh_key().ready_timeout(Duration::from_millis(1));
    let mut listener = server.allow([]).start().await.unwrap();
    let handle = listener.handle();
    let mut caller = handle.open_local().unwrap();
    let mut session = soon(listener.accept()).await.unwrap();
    let application = async {
        let inbound = session.recv().await.unwrap();
        let message: Value = serde_json::from_str(&inbound.message).unwrap();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]);
        session.sender().send(answer).await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(caller.request("tools/list", None), application) }).await;
    assert_eq!(answer.unwrap().get(), "{}");
    handle
        .broadcast(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.into())
        .await
        .unwrap();
    assert!(soon(caller.recv()).await.is_some());
    assert_eq!(handle.status().stats.received, 0);
    soon(handle.shutdown()).await;
    assert!(soon(session.recv()).await.is_none());
}
