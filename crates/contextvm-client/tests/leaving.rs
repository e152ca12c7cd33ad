//! Applications that stop waiting, stop reading, or go: nothing hangs and no place stays taken.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::time::Duration;

use contextvm_client::{Client, Error, Messages};
use contextvm_core::Limits;
use contextvm_crypto::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use futures_util::future::{join_all, select_all};

/// Calls that may wait at once.
const PENDING: u8 = 100;

/// A client of a server that never answers.
async fn unheard(relay: &LocalRelay) -> (Client, Messages) {
    let keys = |byte| Keys::from_secret_bytes([byte; 32]).unwrap();
    let limits = Limits { pending: PENDING.into(), ..Limits::default() };
    let builder = Client::builder(keys(1), keys(2).public_key().into()).relay(relay.url());
    builder.limits(limits).connect().await.unwrap()
}

#[tokio::test]
async fn calls_that_are_dropped_together_all_make_room() {
    let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
    let (client, _messages) = unheard(&relay).await;
    for _ in 0..3 {
        let calls = (0..PENDING).map(|_| client.request("tools/call", None));
        let waited = tokio::time::timeout(Duration::from_millis(500), select_all(calls.map(Box::pin))).await;
        assert!(waited.is_err(), "{:?}", waited.map(|(first, ..)| first));
    }
    client.close().await;
}

#[tokio::test]
async fn a_client_whose_messages_nobody_reads_can_be_closed() {
    let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
    let (client, mut messages) = unheard(&relay).await;
    // Each is refused at once, with an answer that has to wait to be read.
    let wrong = || client.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#.to_owned());
    let all = join_all((0..2_000).map(|_| wrong()));
    assert!(tokio::time::timeout(Duration::from_millis(500), all).await.is_err(), "nothing is lost");
    tokio::time::timeout(Duration::from_secs(5), client.close()).await.unwrap();
    assert_eq!(wrong().await, Err(Error::Closed));
    while messages.recv().await.is_some() {}
}
