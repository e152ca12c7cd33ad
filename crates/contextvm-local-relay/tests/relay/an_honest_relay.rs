//! What an honest relay does, over real sockets.
use crate::client::{Client, QUIET, SOON, event, id_of, ids, keys, notes, relay};
use contextvm_local_relay::{Error, LocalRelay, RelayOptions};
use nostr::event::Event;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_ephemeral_event_reaches_live_subscriptions_and_is_not_stored() {
    let relay = relay().await;
    let (mut publisher, mut reader) = (Client::connect(&relay).await, Client::connect(&relay).await);
    assert!(reader.subscribe("live", json!({"kinds":[25910], "#p":["aa"]})).await.is_empty());
    let [note, other] = [&notes(1)[0], &event(1, 25_910, 5, &[&["p", "bb"]], "")];
    assert_eq!(publisher.publish(other).await, (true, String::new()));
    assert_eq!(publisher.publish(note).await, (true, String::new()));
    let frame = reader.next().await.unwrap();
    assert_eq!((frame[1].as_str(), id_of(&frame)), (Some("live"), note.id.to_hex()));
    assert_eq!(Event::from_json(frame[2].to_string()).unwrap(), *note);
    assert!(publisher.subscribe("late", json!({"kinds":[25910]})).await.is_empty());
    assert_eq!(relay.stats().stored, 0);
}

#[tokio::test]
async fn stored_events_come_newest_first_before_eose_and_new_ones_after() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    let wraps: Vec<Event> = (0..5).map(|at| event(1, 1059, at, &[&["p", "aa"]], "")).collect();
    for wrap in &wraps {
        assert!(client.publish(wrap).await.0);
    }
    let newest: Vec<String> = ids(&wraps).into_iter().rev().take(3).collect();
    assert_eq!(client.subscribe("s", json!({"kinds":[1059], "limit":3})).await, newest);
    let late = event(1, 1059, 99, &[], "");
    client.post(&late).await;
    let frames = [client.next().await.unwrap(), client.next().await.unwrap()];
    assert!(frames.iter().any(|frame| frame[0] == "OK"));
    assert!(frames.iter().any(|frame| frame[0] == "EVENT" && id_of(frame) == late.id.to_hex()));
}

#[tokio::test]
async fn an_event_matching_two_filters_of_a_subscription_comes_once_and_of_two_subscriptions_twice() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    client.send(json!(["REQ", "a", {"#p":["aa"]}, {"kinds":[25910]}])).await;
    assert_eq!(client.next().await.unwrap()[0], "EOSE");
    client.subscribe("b", json!({})).await;
    let mut publisher = Client::connect(&relay).await;
    publisher.publish(&notes(1)[0]).await;
    let mut names =
        [client.next().await.unwrap(), client.next().await.unwrap()].map(|frame| frame[1].clone());
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["a", "b"]);
    assert!(client.quiet().await);
}

#[tokio::test]
async fn a_closed_or_replaced_subscription_hears_nothing_more() {
    let relay = relay().await;
    let (mut publisher, mut reader) = (Client::connect(&relay).await, Client::connect(&relay).await);
    reader.subscribe("s", json!({"#p":["aa"]})).await;
    reader.subscribe("s", json!({"#p":["bb"]})).await;
    reader.subscribe("t", json!({"kinds":[25910]})).await;
    reader.send(json!(["CLOSE", "t"])).await;
    assert!(reader.subscribe("u", json!({"kinds":[1]})).await.is_empty());
    publisher.publish(&notes(1)[0]).await;
    assert!(reader.quiet().await);
    assert_eq!(relay.stats().subscriptions, 2);
    drop(reader);
    tokio::time::timeout(SOON, async {
        while relay.stats().connections > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(relay.stats().subscriptions, 0);
}

#[tokio::test]
async fn a_repeated_event_is_answered_as_duplicate_and_not_passed_on_again() {
    let relay = relay().await;
    let (mut publisher, mut reader) = (Client::connect(&relay).await, Client::connect(&relay).await);
    reader.subscribe("s", json!({})).await;
    let note = &notes(1)[0];
    assert_eq!(publisher.publish(note).await, (true, String::new()));
    let (accepted, reason) = publisher.publish(note).await;
    assert!(accepted && reason.starts_with("duplicate:"), "{reason}");
    assert_eq!(reader.events(1).await, [note.id.to_hex()]);
    assert!(reader.quiet().await);
    assert_eq!(relay.stats().repeats, 1);
}

#[tokio::test]
async fn broken_and_oversized_events_are_refused_by_id() {
    let options = RelayOptions { max_event: 2_000, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    let good = event(1, 1, 10, &[], "good");
    let mut bad_signature = good.clone();
    bad_signature.sig = event(2, 1, 10, &[], "other").sig;
    let mut bad_id = good.clone();
    bad_id.content = "changed".to_owned();
    for broken in [bad_signature, bad_id] {
        assert_eq!(client.publish(&broken).await, (false, "invalid: bad id or signature".to_owned()));
    }
    let large = event(1, 1, 10, &[], &"x".repeat(2_000));
    assert_eq!(client.publish(&large).await, (false, "invalid: event too large".to_owned()));
    // A refused copy does not stand in the way of the good one.
    assert_eq!(client.publish(&good).await, (true, String::new()));
    client.send(json!(["EVENT", {"id": good.id.to_hex(), "kind": "x"}])).await;
    assert_eq!(
        client.next().await.unwrap(),
        json!(["OK", good.id.to_hex(), false, "invalid: unreadable event"])
    );
    assert_eq!((relay.stats().refused, relay.stats().accepted), (4, 1));
}

#[tokio::test]
async fn unreadable_frames_get_a_notice_and_the_connection_goes_on() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    for text in ["", "nonsense", "[]", "[\"EVENT\",{}]", "[\"WHAT\"]", "{\"a\":1}"] {
        client.send_text(text).await;
        assert_eq!(client.next().await.unwrap()[0], "NOTICE", "{text}");
    }
    client.send(json!(["REQ", "s", {"ids":["zz"]}])).await;
    assert_eq!(client.next().await.unwrap(), json!(["CLOSED", "s", "invalid: bad filter"]));
    client.send(json!(["COUNT", "s", {}])).await;
    assert_eq!(client.next().await.unwrap(), json!(["CLOSED", "s", "unsupported: COUNT"]));
    assert!(client.subscribe("s", json!({})).await.is_empty());
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let options = RelayOptions { max_event: 1_000, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    client.send_text(&"x".repeat(relay.options().max_message() + 1)).await;
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn subscriptions_are_limited_per_connection() {
    let options = RelayOptions { max_subscriptions: 2, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    for name in ["a", "b", "a"] {
        client.subscribe(name, json!({})).await;
    }
    client.send(json!(["REQ", "c", {}])).await;
    assert_eq!(client.next().await.unwrap(), json!(["CLOSED", "c", "error: too many subscriptions"]));
}

#[tokio::test]
async fn a_deletion_by_the_author_removes_the_event_for_everybody() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    let announcement = event(1, 11_316, 10, &[], "{}");
    client.publish(&announcement).await;
    client.publish(&event(2, 5, 20, &[&["e", &announcement.id.to_hex()]], "")).await;
    assert_eq!(client.subscribe("s", json!({"kinds":[11316]})).await, [announcement.id.to_hex()]);
    let deletion = event(1, 5, 20, &[&["e", &announcement.id.to_hex()]], "");
    assert!(client.publish(&deletion).await.0);
    assert!(client.subscribe("t", json!({"kinds":[11316]})).await.is_empty());
}

#[tokio::test]
async fn a_deleted_event_is_refused_however_often_it_comes() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    let note = event(1, 1, 10, &[], "");
    assert!(client.publish(&note).await.0);
    assert!(client.publish(&event(1, 5, 20, &[&["e", &note.id.to_hex()]], "")).await.0);
    for _ in 0..2 {
        assert_eq!(client.publish(&note).await, (false, "blocked: deleted by its author".to_owned()));
    }
}

#[tokio::test]
async fn an_event_that_had_to_make_room_is_taken_again() {
    let options = RelayOptions { max_stored: 2, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut client = Client::connect(&relay).await;
    let wraps: Vec<Event> = (0..3).map(|at| event(1, 1059, at, &[], "")).collect();
    for wrap in wraps.iter().chain(&wraps[..1]) {
        assert_eq!(client.publish(wrap).await, (true, String::new()));
    }
    let kept = [wraps[2].id.to_hex(), wraps[0].id.to_hex()];
    assert_eq!(client.subscribe("s", json!({"kinds":[1059]})).await, kept);
}

async fn http(relay: &LocalRelay, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
    let (first, second) = request.split_at(request.len() / 2);
    stream.write_all(first.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn the_information_document_is_served_on_the_same_port() {
    let relay = LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap();
    let answer = http(&relay, "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/nostr+json"), "{head}");
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["limitation"]["auth_required"], true);
    assert_eq!(document["supported_nips"], json!([1, 9, 11, 42]));
    let page = http(&relay, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(page.split_once("\r\n\r\n").unwrap().1.lines().count(), 1);
    assert!(http(&relay, "POST / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn with_auth_neither_reading_nor_writing_works_before_the_challenge_is_answered() {
    let relay = LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap();
    let mut client = Client::connect(&relay).await;
    let greeting = client.next().await.unwrap();
    assert_eq!(greeting[0], "AUTH");
    let challenge = greeting[1].as_str().unwrap();
    client.send(json!(["REQ", "s", {}])).await;
    let refused = client.next().await.unwrap();
    assert!(refused[0] == "CLOSED" && refused[2].as_str().unwrap().starts_with("auth-required:"));
    let (accepted, reason) = client.publish(&notes(1)[0]).await;
    assert!(!accepted && reason.starts_with("auth-required:"));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (url, challenge, good) in [
        ("ws://127.0.0.1:1", challenge, false),
        (&relay.url(), "other", false),
        (&relay.url(), challenge, true),
    ] {
        let answer = keys(1).sign_auth(url, challenge, now, [1; 32]);
        client.send_text(&format!("[\"AUTH\",{}]", answer.as_json())).await;
        let ok = client.next().await.unwrap();
        assert_eq!((ok[0].as_str(), ok[2].as_bool()), (Some("OK"), Some(good)), "{ok}");
    }
    assert!(client.subscribe("s", json!({"kinds":[1]})).await.is_empty());
    assert_eq!(client.publish(&notes(1)[0]).await, (true, String::new()));
    let mut other = Client::connect(&relay).await;
    assert_ne!(other.next().await.unwrap()[1], challenge);
}

// Elsewhere the loopback interface has one address only.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_relay_that_listens_everywhere_is_named_by_the_address_at_which_it_was_reached() {
    let options = RelayOptions { addr: ([0, 0, 0, 0], 0).into(), auth: true, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let url = format!("ws://127.0.0.2:{}", relay.port());
    let mut client = Client(tokio_tungstenite::connect_async(&url).await.unwrap().0);
    let greeting = client.next().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (named, good) in [(format!("ws://127.0.0.3:{}", relay.port()), false), (url, true)] {
        let answer = keys(1).sign_auth(&named, greeting[1].as_str().unwrap(), now, [1; 32]);
        client.send_text(&format!("[\"AUTH\",{}]", answer.as_json())).await;
        assert_eq!(client.next().await.unwrap()[2].as_bool(), Some(good), "{named}");
    }
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_cut_and_the_others_miss_nothing() {
    let options = RelayOptions { max_queued: 16, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let (mut publisher, mut stuck, mut reader) =
        (Client::connect(&relay).await, Client::connect(&relay).await, Client::connect(&relay).await);
    stuck.subscribe("s", json!({})).await;
    reader.subscribe("s", json!({})).await;
    let reading = tokio::spawn(async move { reader.events(400).await });
    let content = "x".repeat(60_000);
    let events: Vec<Event> = (0..400).map(|at| event(1, 25_910, at, &[], &content)).collect();
    for event in &events {
        assert!(publisher.publish(event).await.0);
    }
    assert_eq!(reading.await.unwrap(), ids(&events));
    assert_eq!(relay.stats().slow_readers_cut, 1);
    let mut got = 0;
    while stuck.next().await.is_some() {
        got += 1;
    }
    assert!(got < 400);
}

#[tokio::test]
async fn a_long_answer_takes_no_room_from_what_is_live() {
    let options = RelayOptions { max_queued: 8, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut publisher = Client::connect(&relay).await;
    let content = "x".repeat(60_000);
    let stored: Vec<Event> = (0..200).map(|at| event(1, 1059, at, &[], &content)).collect();
    for wrap in &stored {
        publisher.publish(wrap).await;
    }
    let mut reader = Client::connect(&relay).await;
    reader.send(json!(["REQ", "s", {}])).await;
    // The answer fills every buffer on the way, and waits.
    tokio::time::sleep(QUIET).await;
    let live: Vec<Event> = (300..306).map(|at| event(1, 25_910, at, &[], "")).collect();
    for event in &live {
        publisher.publish(event).await;
    }
    let mut read = reader.events(206).await;
    read.sort();
    let mut wanted = ids(&[stored, live].concat());
    wanted.sort();
    assert!(read == wanted);
    assert_eq!(relay.stats().slow_readers_cut, 0);
}

#[tokio::test]
async fn what_the_subscriptions_of_a_connection_name_is_bounded() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    let values: Vec<String> = (0..5_000).map(|value: u32| format!("{value:04}")).collect();
    for (name, answer) in [("a", "EOSE"), ("b", "CLOSED"), ("a", "EOSE")] {
        client.send(json!(["REQ", name, {"#p": values}])).await;
        assert_eq!(client.next().await.unwrap()[0], answer, "{name}");
    }
    client.send(json!(["CLOSE", "a"])).await;
    client.send(json!(["REQ", "b", {"#p": values}])).await;
    assert_eq!(client.next().await.unwrap()[0], "EOSE");
}

#[tokio::test]
async fn tags_count_as_what_they_take() {
    let options = RelayOptions { max_stored_bytes: 1_000_000, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut publisher = Client::connect(&relay).await;
    let tags: Vec<&[&str]> = (0..1_000).map(|_| &["t"] as &[&str]).collect();
    for at in 0..40 {
        assert!(publisher.publish(&event(1, 1, at, &tags, "")).await.0);
    }
    let stats = relay.stats();
    assert!(stats.stored < 10 && stats.stored_bytes <= 1_000_000, "{stats:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_own_answers_is_slowed_down_and_loses_none() {
    let options = RelayOptions { max_queued: 8, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut publisher = Client::connect(&relay).await;
    let wraps: Vec<Event> = (0..200).map(|at| event(1, 1059, at, &[], "")).collect();
    for wrap in &wraps {
        publisher.publish(wrap).await;
    }
    let mut reader = Client::connect(&relay).await;
    reader.send(json!(["REQ", "s", {}])).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(reader.events(200).await.len(), 200);
    assert_eq!(reader.next().await.unwrap()[0], "EOSE");
    assert_eq!(relay.stats().slow_readers_cut, 0);
}

#[tokio::test]
async fn connections_over_the_limit_are_turned_away() {
    let options = RelayOptions { max_connections: 1, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let mut first = Client::connect(&relay).await;
    first.subscribe("s", json!({})).await;
    if let Ok((socket, _)) = tokio_tungstenite::connect_async(relay.url()).await {
        assert_eq!(Client(socket).next().await, None);
    }
    assert!(first.subscribe("t", json!({})).await.is_empty());
}

#[tokio::test]
async fn a_restart_keeps_the_port_and_loses_the_memory() {
    let relay = relay().await;
    let port = relay.port();
    let mut client = Client::connect(&relay).await;
    client.publish(&event(1, 1059, 1, &[], "")).await;
    let relay = relay.restart().await.unwrap();
    assert_eq!(client.next().await, None);
    assert_eq!((relay.port(), relay.stats().stored), (port, 0));
    let mut client = Client::connect(&relay).await;
    assert!(client.subscribe("s", json!({})).await.is_empty());
    let taken = RelayOptions { addr: ([127, 0, 0, 1], port).into(), ..RelayOptions::default() };
    let refused = LocalRelay::start(taken.clone()).await.map(|_| ());
    assert_eq!(refused, Err(Error::Listen { addr: taken.addr, kind: std::io::ErrorKind::AddrInUse }));
    relay.shutdown().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn a_dropped_relay_is_gone_with_its_connections() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    client.subscribe("s", json!({})).await;
    drop(relay);
    assert_eq!(client.next().await, None);
}
