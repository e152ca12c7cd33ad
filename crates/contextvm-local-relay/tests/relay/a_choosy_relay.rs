//! What a relay refuses on purpose, and what it says about itself.
use crate::client::{Client, event};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn document(relay: &LocalRelay) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_refused_kind_gets_its_own_text_and_other_kinds_are_taken() {
    let words = "blocked: unhandled event kind".to_owned();
    let options = RelayOptions { refused_kinds: [(1111, words.clone())].into(), ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    assert_eq!(client.publish(&event(1, 1111, 5, &[], "")).await, (false, words));
    assert_eq!(client.publish(&event(1, 1, 5, &[], "")).await, (true, String::new()));
    assert!(client.subscribe("s", json!({"kinds":[1111]})).await.is_empty());
    assert_eq!(relay.stats().refused, 1);
}

#[tokio::test]
async fn a_stamp_outside_the_window_is_refused_and_the_window_is_declared() {
    let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
    let options = RelayOptions { max_age: Some(hour), max_ahead: Some(minute), ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (at, reason) in [
        (now, ""),
        (now - 3_500, ""),
        (now - 3_700, "invalid: created_at is too far in the past"),
        (now + 30, ""),
        (now + 200, "invalid: created_at is too far in the future"),
    ] {
        let verdict = client.publish(&event(1, 1, at, &[], "")).await;
        assert_eq!(verdict, (reason.is_empty(), reason.to_owned()), "{at} at {now}");
    }
    let limitation =
        &serde_json::from_str::<serde_json::Value>(&document(&relay).await).unwrap()["limitation"];
    assert_eq!(limitation["created_at_lower_limit"], 3_600);
    assert_eq!(limitation["created_at_upper_limit"], 60);
}

#[tokio::test]
async fn the_document_can_be_anything() {
    let nonsense = "<html>\u{202e}".to_owned();
    let options = RelayOptions { document: Some(nonsense.clone()), ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    assert_eq!(document(&relay).await, nonsense);
}

#[tokio::test]
async fn an_announcement_is_found_replaced_and_deleted_by_its_address() {
    let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
    let (mut client, mut author) = (Client::connect(&relay).await, Client::connect(&relay).await);
    let (old, new) = (event(1, 11_316, 10, &[], "old"), event(1, 11_316, 11, &[], "new"));
    let address = format!("11316:{}:", old.pubkey.to_hex());
    let review =
        event(2, 1111, 12, &[&["A", &address], &["K", "11316"], &["a", &address], &["k", "11316"]], "");
    for offered in [&old, &new, &review] {
        assert_eq!(author.publish(offered).await, (true, String::new()));
    }
    assert_eq!(client.subscribe("a", json!({"kinds":[11_316]})).await, [new.id.to_hex()]);
    for filter in [json!({"#A":[address]}), json!({"#K":["11316"]}), json!({"#a":[address], "#k":["11316"]})]
    {
        assert_eq!(client.subscribe("r", filter).await, [review.id.to_hex()]);
    }
    let deletion = event(1, 5, 20, &[&["a", &address], &["k", "11316"]], "");
    assert_eq!(author.publish(&deletion).await, (true, String::new()));
    assert!(author.subscribe("a", json!({"kinds":[11_316]})).await.is_empty());
    assert_eq!(author.publish(&new).await, (false, "blocked: deleted by its author".to_owned()));
}
