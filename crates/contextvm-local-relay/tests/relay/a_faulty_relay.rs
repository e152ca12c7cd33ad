//! What each fault knob does, over real sockets.
use crate::client::{Client, SOON, event, ids, notes, relay, relay_with};
use contextvm_local_relay::{CloseAfter, Faults, LocalRelay, RelayOptions};
use serde_json::json;
use std::time::{Duration, Instant};

/// Publishes the events to one subscriber and returns what it received until the marker event.
async fn received(faults: Faults, count: u64) -> (Vec<String>, Vec<String>) {
    let relay = relay_with(faults).await;
    let (mut reader, mut publisher) = (Client::connect(&relay).await, Client::connect(&relay).await);
    reader.subscribe("s", json!({"kinds":[25910]})).await;
    let events = notes(count);
    for note in &events {
        assert!(publisher.publish(note).await.0);
    }
    let stats = relay.stats();
    assert_eq!(stats.delivered + stats.dropped, count + stats.duplicated);
    let got = reader.events(usize::try_from(stats.delivered).unwrap()).await;
    assert!(reader.quiet().await);
    (ids(&events), got)
}

#[tokio::test]
async fn latency_delays_every_frame_and_frames_overlap() {
    let relay = relay_with(Faults { latency: Duration::from_millis(100), ..Faults::default() }).await;
    let mut client = Client::connect(&relay).await;
    let start = Instant::now();
    for note in &notes(20) {
        client.post(note).await;
    }
    for _ in 0..20 {
        assert_eq!(client.next().await.unwrap()[0], "OK");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(1_000), "{took:?}");
}

#[tokio::test]
async fn jitter_keeps_the_order() {
    let faults = Faults { jitter: Duration::from_millis(20), ..Faults::default() };
    let (sent, got) = received(faults, 20).await;
    assert_eq!(got, sent);
}

#[tokio::test]
async fn drop_loses_deliveries_and_the_same_seed_loses_the_same_ones() {
    let faults = Faults { drop: 0.5, ..Faults::default() };
    let (sent, first) = received(faults.clone(), 40).await;
    let (_, second) = received(faults, 40).await;
    assert!(first.len() > 5 && first.len() < 35, "{}", first.len());
    assert!(first.iter().all(|id| sent.contains(id)));
    assert_eq!(first, second);
}

#[tokio::test]
async fn duplicate_delivers_twice() {
    let (sent, got) = received(Faults { duplicate: 1.0, ..Faults::default() }, 3).await;
    let twice: Vec<String> = sent.iter().flat_map(|id| [id.clone(), id.clone()]).collect();
    assert_eq!(got, twice);
}

#[tokio::test]
async fn reorder_changes_the_order_within_the_window_and_loses_nothing() {
    let faults = Faults { reorder: 0.4, reorder_window: 3, ..Faults::default() };
    let (sent, got) = received(faults, 40).await;
    assert_ne!(got, sent);
    let mut sorted = (sent.clone(), got.clone());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    let (_, all_held) = received(Faults { reorder: 1.0, ..Faults::default() }, 3).await;
    assert_eq!(all_held.len(), 3);
}

#[tokio::test]
async fn a_lax_relay_serves_ephemeral_events_afterwards() {
    let relay = relay_with(Faults { strict_ephemeral: false, ..Faults::default() }).await;
    let mut client = Client::connect(&relay).await;
    let events = notes(2);
    for note in &events {
        client.publish(note).await;
    }
    let newest_first: Vec<String> = ids(&events).into_iter().rev().collect();
    assert_eq!(client.subscribe("s", json!({"#p":["aa"]})).await, newest_first);
}

#[tokio::test]
async fn close_after_a_count_writes_exactly_that_many_frames() {
    let relay = relay_with(Faults { close_after: Some(CloseAfter::Events(3)), ..Faults::default() }).await;
    let (mut reader, mut publisher) = (Client::connect(&relay).await, Client::connect(&relay).await);
    reader.subscribe("s", json!({})).await;
    for note in &notes(3) {
        publisher.publish(note).await;
    }
    assert_eq!(publisher.next().await, None);
    assert_eq!(reader.events(3).await, ids(&notes(3)));
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn close_after_a_time_cuts_idle_connections_too() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    client.subscribe("s", json!({})).await;
    let time = Duration::from_millis(100);
    relay.set_faults(Faults { close_after: Some(CloseAfter::Time(time)), ..Faults::default() });
    let start = Instant::now();
    assert_eq!(client.next().await, None);
    assert!(start.elapsed() < SOON);
    relay.set_faults(Faults::default());
    let mut client = Client::connect(&relay).await;
    client.subscribe("s", json!({})).await;
    assert!(client.quiet().await);
}

#[tokio::test]
async fn refusals_carry_their_text_and_end_when_the_fault_does() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    let texts = Faults {
        refuse: Some("rate-limited: slow down".to_owned()),
        refuse_subscriptions: Some("restricted: not you".to_owned()),
        ..Faults::default()
    };
    relay.set_faults(texts);
    let note = &notes(1)[0];
    assert_eq!(client.publish(note).await, (false, "rate-limited: slow down".to_owned()));
    client.send(json!(["REQ", "s", {}])).await;
    assert_eq!(client.next().await.unwrap(), json!(["CLOSED", "s", "restricted: not you"]));
    relay.set_faults(Faults::default());
    assert_eq!(client.publish(note).await, (true, String::new()));
}

#[tokio::test]
async fn without_ok_the_event_is_still_passed_on_and_without_eose_it_is_still_served() {
    let relay = relay_with(Faults { no_ok: true, no_eose: true, ..Faults::default() }).await;
    let (mut reader, mut publisher) = (Client::connect(&relay).await, Client::connect(&relay).await);
    let wrap = event(1, 1059, 1, &[], "");
    publisher.post(&wrap).await;
    assert!(publisher.quiet().await);
    reader.send(json!(["REQ", "s", {}])).await;
    assert_eq!(reader.events(1).await, [wrap.id.to_hex()]);
    assert!(reader.quiet().await);
}

#[tokio::test]
async fn a_mute_relay_takes_everything_and_says_nothing() {
    let relay = relay_with(Faults { mute: true, ..Faults::default() }).await;
    let mut client = Client::connect(&relay).await;
    client.send(json!(["REQ", "s", {}])).await;
    client.post(&event(1, 1059, 1, &[], "")).await;
    client.send_text("nonsense").await;
    assert!(client.quiet().await);
    assert_eq!(relay.stats().stored, 1);
}

#[tokio::test]
async fn a_deaf_relay_reads_nothing_until_it_hears_again() {
    let relay = relay().await;
    let mut client = Client::connect(&relay).await;
    client.subscribe("s", json!({"kinds":[1]})).await;
    relay.set_faults(Faults { deaf: true, ..Faults::default() });
    client.post(&notes(1)[0]).await;
    assert!(client.quiet().await);
    assert_eq!(relay.stats().received, 0);
    relay.set_faults(Faults::default());
    assert_eq!(client.next().await.unwrap()[0], "OK");
}

#[tokio::test]
async fn dropped_connections_end_without_a_closing_frame_and_new_ones_are_welcome() {
    let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
    let mut clients = [Client::connect(&relay).await, Client::connect(&relay).await];
    for client in &mut clients {
        client.subscribe("s", json!({})).await;
    }
    assert_eq!(relay.drop_connections(), 2);
    for client in &mut clients {
        assert_eq!(client.next().await, None);
    }
    assert!(Client::connect(&relay).await.subscribe("s", json!({})).await.is_empty());
}
