//! The subscription: it survives cuts, closings, floods and slow readers.

use std::time::Duration;

use crate::support::{PATIENCE, Relay, config, event, next_down, next_event, next_numbered, soon, timing};
use contextvm_core::Limits;
use contextvm_relay::{Addresses, Filter, Incoming, PublishOutcome, RelayState, Relays, Timing};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

fn unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn all_filters_go_into_one_subscription_with_their_own_lookback() {
    let relay = Relay::start().await;
    let config = config([relay.url.clone()])
        .with_filter(Filter::new(r#"{"kinds":[1059]}"#, Duration::from_secs(1_000)).unwrap());
    let (_relays, _inbox) = Relays::connect(config).unwrap();
    let (_, filters) = relay.accept().await.req().await;
    let since: Vec<u64> = filters.iter().map(|filter| filter["since"].as_u64().unwrap()).collect();
    assert_eq!(since.len(), 2);
    assert_eq!(since[0] - since[1], 1_000);
}

#[tokio::test]
async fn it_is_ready_at_the_first_end_of_stored_events_and_not_before() {
    let (fast, slow) = (Relay::start().await, Relay::start().await);
    let (relays, mut inbox) = Relays::connect(config([fast.url.clone(), slow.url.clone()])).unwrap();
    let (mut peer, mut other) = tokio::join!(fast.accept(), slow.accept());
    let (subscription, _) = peer.req().await;
    other.req().await;
    other.say(&json!(["EOSE", "somebody else's"])).await;
    assert!(!relays.ready(Duration::from_millis(100)).await);
    peer.say(&json!(["EOSE", subscription])).await;
    assert!(relays.ready(PATIENCE).await);
    assert!(matches!(soon(inbox.recv()).await, Some(Incoming::Up { .. })));
    let live = relays.statuses().iter().filter(|status| status.state == RelayState::Live).count();
    assert_eq!(live, 1);
}

#[tokio::test]
async fn a_connection_cut_within_the_same_second_is_subscribed_again_with_overlap() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let mut peer = relay.accept().await;
    let (subscription, first) = peer.req().await;
    peer.say(&json!(["EOSE", subscription])).await;
    assert!(relays.ready(PATIENCE).await);
    drop(peer);
    next_down(&mut inbox).await;
    let mut peer = relay.accept().await;
    let (subscription, again) = peer.req().await;
    let (first, again) = (first[0]["since"].as_u64().unwrap(), again[0]["since"].as_u64().unwrap());
    assert!(again >= first && again - first <= PATIENCE.as_secs(), "{first} {again}");
    peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"a"}"#);
}

#[tokio::test]
async fn what_a_relay_had_kept_is_told_from_what_is_new_after_each_connection() {
    let relay = Relay::start().await;
    let (_relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    for _ in 0..2 {
        let mut peer = relay.accept().await;
        let (subscription, _) = peer.req().await;
        peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
        peer.say(&json!(["EOSE", subscription])).await;
        peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
        let mut events = Vec::new();
        while events.len() < 2 {
            if let Incoming::Event { stored, .. } = soon(inbox.recv()).await.unwrap() {
                events.push(stored);
            }
        }
        assert_eq!(events, [true, false]);
    }
}

#[tokio::test]
async fn a_subscription_closed_for_any_reason_is_opened_again() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, mut subscription) = relay.accept_live().await;
    for prefix in [
        "auth-required:",
        "rate-limited:",
        "error:",
        "restricted:",
        "blocked:",
        "invalid:",
        "pow:",
        "duplicate:",
        "unsupported:",
        "mute:",
        "",
        "shutting down",
    ] {
        peer.say(&json!(["CLOSED", subscription, format!("{prefix} really")])).await;
        (subscription, _) = peer.req().await;
        peer.say(&json!(["EOSE", subscription])).await;
        peer.say(&json!(["EVENT", subscription, {"id": prefix}])).await;
        assert_eq!(next_event(&mut inbox).await, json!({"id": prefix}).to_string());
    }
    assert_eq!(relays.statuses()[0].counts.connections, 1);
    assert!(relays.statuses()[0].last_error.as_deref().unwrap().contains("shutting down"));
}

#[tokio::test]
async fn events_come_out_exactly_as_the_relay_spelled_them() {
    let relay = Relay::start().await;
    let (_relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    let text = r#"{ "content" : "\u0041é", "id":1e400, "x":[ 1.0 ] }"#;
    let frame = format!(r#" ["EVENT" , "{subscription}" ,{text} ] "#);
    peer.socket.send(Message::text(frame)).await.unwrap();
    assert_eq!(next_event(&mut inbox).await, text);
}

#[tokio::test]
async fn chatter_is_counted_and_ignored() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    for number in 0..50 {
        peer.say(&json!(["EVENT", "not ours", {"id": number}])).await;
        peer.say(&json!(["AUTH", format!("challenge {number}")])).await;
        peer.say(&json!(["NOTICE", "be\u{7}ep"])).await;
        peer.say(&json!(["EOSE", "not ours"])).await;
        peer.say(&json!(["WHAT"])).await;
        peer.say(&json!({"EVENT": 1})).await;
    }
    peer.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    peer.say(&json!(["EVENT", subscription, {"id": "ours"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"ours"}"#);
    let status = &relays.statuses()[0];
    assert_eq!(
        (status.counts.events, status.counts.unknown_subscriptions, status.counts.malformed),
        (1, 50, 101)
    );
    assert!(!status.last_notice.as_deref().unwrap().contains('\u{7}'));
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    const EVENTS: usize = 20_000;
    let relay = Relay::start().await;
    let limits = Limits { open_queue: 16, ..Limits::default() };
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()]).with_limits(limits)).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    let flood = tokio::spawn(async move {
        for number in 0..EVENTS {
            let frame = format!(r#"["EVENT","{subscription}",{{"n":{number},"pad":"{:0200}"}}]"#, number);
            peer.socket.feed(Message::text(frame)).await.unwrap();
        }
        peer.socket.flush().await.unwrap();
        peer
    });
    // Nothing is taken out until the socket is no longer read.
    soon(async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = relays.statuses()[0].counts.events;
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
    })
    .await;
    let stalled = relays.statuses()[0].counts.events;
    assert!(stalled < 200, "{stalled} events were taken in though nobody wanted them");
    for number in 0..EVENTS {
        let event: serde_json::Value = serde_json::from_str(&next_event(&mut inbox).await).unwrap();
        assert_eq!(event["n"], number);
    }
    flood.await.unwrap();
    assert_eq!(relays.statuses()[0].counts.connections, 1);
}

#[tokio::test]
async fn publishing_goes_on_while_nobody_takes_events_out() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    for number in 0..200 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
    }
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Accepted);
}

#[tokio::test]
async fn publishing_goes_out_and_ends_even_when_the_socket_is_not_read() {
    let relay = Relay::start().await;
    let limits = Limits { open_queue: 1, ..Limits::default() };
    let timing = Timing { publish: Duration::from_secs(1), ..timing() };
    let config = config([relay.url.clone()]).with_limits(limits).with_timing(timing);
    let (relays, _inbox) = Relays::connect(config).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    for number in 0..200 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
    }
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Unknown);
}

#[tokio::test]
async fn without_an_inbox_publishing_still_works() {
    let relay = Relay::start().await;
    let (relays, inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    drop(inbox);
    let (mut peer, subscription) = relay.accept_live().await;
    for number in 0..1_000 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
    }
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert!(soon(published).await.accepted.is_some());
}

#[tokio::test]
async fn a_large_message_is_dropped_and_a_giant_one_costs_the_connection_and_what_is_kept_with_it() {
    let relay = Relay::start().await;
    let limits = Limits { relay_frame: 10_000, ..Limits::default() };
    let started = unix();
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()]).with_limits(limits)).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    peer.say(&json!(["EVENT", subscription, {"pad": "x".repeat(9_000)}])).await;
    next_event(&mut inbox).await;
    let giant = json!(["EVENT", subscription, {"pad": "x".repeat(11_000)}]).to_string();
    peer.socket.send(Message::text(giant)).await.unwrap();
    peer.say(&json!(["EVENT", subscription, {"id": "between"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"between"}"#);
    assert_eq!(relays.statuses()[0].counts.malformed, 1);
    let giant = json!(["EVENT", subscription, {"pad": "x".repeat(41_000)}]).to_string();
    peer.socket.send(Message::text(giant)).await.unwrap();
    let reason = next_down(&mut inbox).await;
    assert!(reason.contains("too"), "{reason}");
    // A relay that kept it would send it again and again: nothing older is asked for.
    let mut peer = relay.accept().await;
    let (subscription, filters) = peer.req().await;
    assert!(filters[0]["since"].as_u64().unwrap() >= started, "{filters:?}");
    peer.say(&json!(["EOSE", subscription])).await;
    peer.say(&json!(["EVENT", subscription, {"id": "after"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"after"}"#);
    assert_eq!(relays.statuses()[0].counts.connections, 2);
}

#[tokio::test]
async fn a_flood_of_pings_costs_the_connection() {
    let relay = Relay::start().await;
    let (_relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    for _ in 0..200 {
        let _ = peer.socket.send(Message::Ping(Vec::new().into())).await;
    }
    assert!(next_down(&mut inbox).await.contains("control frames"));
}

#[tokio::test]
async fn a_flood_of_words_costs_the_connection() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    for _ in 0..10_001 {
        let _ = peer.socket.feed(Message::text(r#"["NOTICE",""]"#)).await;
    }
    let _ = peer.socket.flush().await;
    assert!(next_down(&mut inbox).await.contains("useless"));
    // As many events for us are another matter.
    let (mut peer, _) = relay.accept_live().await;
    for n in 0..12_000 {
        peer.say(&json!(["EVENT", subscription, {"id": n}])).await;
        next_event(&mut inbox).await;
    }
    assert_eq!(relays.statuses()[0].counts.connections, 2);
}

#[tokio::test]
async fn a_relay_that_falls_silent_is_pinged_and_then_given_up() {
    let relay = Relay::start().await;
    let timing = Timing { ping: Duration::from_millis(200), dead: Duration::from_millis(900), ..timing() };
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()]).with_timing(timing)).unwrap();
    // Reading answers pings, so this one stays.
    let (mut peer, _) = relay.accept_live().await;
    let answered = tokio::time::timeout(Duration::from_secs(3), peer.hear()).await;
    assert!(answered.is_err(), "a relay that answers pings was given up: {answered:?}");
    assert_eq!(relays.statuses()[0].counts.connections, 1);
    // From here on nothing is read and so nothing answered.
    assert!(next_down(&mut inbox).await.contains("silent"));
}

#[tokio::test]
async fn a_relay_that_delivers_rubbish_is_cut_and_backed_off() {
    let relay = Relay::start().await;
    let timing = Timing { retry_most: Duration::from_secs(2), ..timing() };
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()]).with_timing(timing)).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    let mut reported = 0;
    for number in 0..400_u32 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
        let (number, _) = next_numbered(&mut inbox).await;
        if number % 20 == 0 {
            relays.report_invalid(0, number);
            reported += 1;
        }
    }
    assert_eq!((reported, relays.statuses()[0].counts.connections), (20, 1), "one in twenty is tolerated");
    let start = tokio::time::Instant::now();
    relays.report_invalid(0, 399);
    assert!(next_down(&mut inbox).await.contains("invalid"));
    relay.accept_live().await;
    assert!(start.elapsed() >= Duration::from_secs(1), "the next connection must be long in coming");
    relays.report_invalid(77, 1);
}

#[tokio::test]
async fn damaged_events_count_where_they_stood_however_far_the_reader_is_ahead_of_the_reports() {
    let relay = Relay::start().await;
    let timing = Timing { retry_most: Duration::from_millis(20), ..timing() };
    let limits = Limits { open_queue: 4_096, ..Limits::default() };
    let config = config([relay.url.clone()]).with_timing(timing).with_limits(limits);
    let (relays, mut inbox) = Relays::connect(config).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    let mut thousand = Vec::new();
    for every in [25, 16] {
        for number in 0..1_000_u32 {
            peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
        }
        thousand.clear();
        while thousand.len() < 1_000 {
            thousand.push(next_numbered(&mut inbox).await.0);
        }
        let damaged = thousand.iter().filter(|number| *number % every == 0);
        damaged.for_each(|number| relays.report_invalid(0, *number));
    }
    assert_eq!(relays.statuses()[0].counts.connections, 1, "four in a hundred are tolerated, six are not");
    assert!(next_down(&mut inbox).await.contains("invalid"));
    let (mut peer, subscription) = relay.accept_live().await;
    // What the last connection brought is paid for.
    thousand.iter().for_each(|number| relays.report_invalid(0, *number));
    peer.say(&json!(["EVENT", subscription, {"n": 1_000}])).await;
    assert_eq!(next_numbered(&mut inbox).await.0, 2_001);
    assert_eq!(relays.statuses()[0].counts.connections, 2);
}

#[tokio::test]
async fn relays_that_say_what_time_it_is_show_how_wrong_our_clock_is() {
    let relays_there = [Relay::start().await, Relay::start().await, Relay::start().await];
    let urls = relays_there.iter().map(|relay| relay.url.clone());
    let (relays, mut inbox) = Relays::connect(config(urls)).unwrap();
    assert_eq!(relays.clock_ahead(), None);
    let [first, second, third] = &relays_there;
    // Twice in 2001, and nobody knows when.
    let dated =
        (first.accept_at("Sun, 09 Sep 2001 01:46:40 GMT"), second.accept_at("Sun, 09 Sep 2001 01:46:42 GMT"));
    let _peers = tokio::join!(dated.0, dated.1, third.accept_at("a quarter past seven"));
    for _ in 0..3 {
        assert!(matches!(soon(inbox.recv()).await, Some(Incoming::Up { .. })));
    }
    let now = unix();
    let ahead = relays.clock_ahead().unwrap();
    assert!(ahead.abs_diff(i64::try_from(now).unwrap() - 1_000_000_000) <= 60, "{ahead}");
    assert_eq!(relays.statuses().iter().filter(|status| status.clock_ahead.is_some()).count(), 2);
}

#[tokio::test]
async fn removal_closes_the_connection_and_shutdown_ends_the_inbox() {
    let (a, b) = (Relay::start().await, Relay::start().await);
    let (relays, mut inbox) = Relays::connect(config([a.url.clone(), b.url.clone(), a.url.clone()])).unwrap();
    let ((mut one, _), (mut two, _)) = tokio::join!(a.accept_live(), b.accept_live());
    assert_eq!(relays.statuses().len(), 2, "repeated addresses count once");
    let pending = relays.publish(event(1));
    one.event().await;
    soon(relays.remove(&a.url)).await;
    assert_eq!(one.hear().await, None);
    assert_eq!(relays.statuses().len(), 1);
    relays.add(a.url.clone(), Addresses::Any).unwrap();
    let (mut one, _) = a.accept_live().await;
    soon(relays.shutdown()).await;
    while one.hear().await.is_some() {}
    while two.hear().await.is_some() {}
    assert_eq!(soon(pending).await.outcome(), PublishOutcome::Unknown);
    while soon(inbox.recv()).await.is_some() {}
    assert_eq!(soon(relays.publish(event(2))).await.outcome(), PublishOutcome::NotSent);
}

#[tokio::test]
async fn a_subscription_that_a_relay_drops_without_a_word_about_it_is_asked_for_again() {
    let relay = Relay::start().await;
    let timing = Timing { answer: Duration::from_millis(50), ..timing() };
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()]).with_timing(timing)).unwrap();
    let mut peer = relay.accept().await;
    let (subscription, first) = peer.req().await;
    peer.say(&json!(["NOTICE", "rate limited"])).await;
    let (again, second) = peer.req().await;
    assert_eq!((&again, second.len()), (&subscription, first.len()));
    peer.say(&json!(["EOSE", subscription])).await;
    assert!(relays.ready(PATIENCE).await);
    peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"a"}"#);
    // What comes next on this connection is no further request.
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Accepted);
}

#[tokio::test]
async fn a_flood_of_binary_messages_costs_the_connection() {
    let relay = Relay::start().await;
    let (_relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    for _ in 0..10_001 {
        if peer.socket.feed(Message::Binary(Vec::new().into())).await.is_err() {
            break;
        }
    }
    let _cut = peer.socket.flush().await;
    next_down(&mut inbox).await;
}
