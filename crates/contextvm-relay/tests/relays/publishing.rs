//! Publishing: who must answer, who may be slow, and what is never sent.

use std::time::Duration;

use crate::support::{PATIENCE, Relay, config, event, soon, timing};
use contextvm_core::Limits;
use contextvm_relay::{Addresses, PublishOutcome, RelayOutcome, Relays, Timing};
use nostr::types::RelayUrl;

fn short_publish() -> Timing {
    Timing { publish: Duration::from_millis(300), ..timing() }
}

#[tokio::test]
async fn the_first_ok_wins_and_one_silent_and_one_dead_relay_delay_nothing() {
    let (good, silent) = (Relay::start().await, Relay::start().await);
    let dead = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
    let urls = [dead.clone(), silent.url.clone(), good.url.clone()];
    let (relays, _inbox) = Relays::connect(config(urls)).unwrap();
    let ((mut peer, _), (_quiet, _)) = tokio::join!(good.accept_live(), silent.accept_live());
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    let report = soon(published).await;
    assert_eq!(report.accepted, Some(good.url.clone()));
    assert_eq!(report.outcome(), PublishOutcome::Accepted);
    let of = |url: &RelayUrl| report.per_relay.iter().find(|(at, _)| at == url).unwrap().1.clone();
    assert_eq!(of(&good.url), RelayOutcome::Accepted);
    assert_eq!(of(&dead), RelayOutcome::NotSent);
    assert!(matches!(of(&silent.url), RelayOutcome::NoAnswer | RelayOutcome::NotSent));
}

#[tokio::test]
async fn a_duplicate_is_a_success_whatever_the_flag_says() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    for (number, flag) in [(1, false), (2, true)] {
        let published = relays.publish(event(number));
        let id = peer.event().await;
        peer.ok(&id, flag, "duplicate: have it").await;
        let report = soon(published).await;
        assert_eq!(report.per_relay[0].1, RelayOutcome::Duplicate);
        assert_eq!(report.accepted, Some(relay.url.clone()));
    }
}

#[tokio::test]
async fn refusal_by_all_is_reported_at_once_with_printable_words() {
    let (a, b) = (Relay::start().await, Relay::start().await);
    let (relays, _inbox) = Relays::connect(config([a.url.clone(), b.url.clone()])).unwrap();
    let ((mut one, _), (mut two, _)) = tokio::join!(a.accept_live(), b.accept_live());
    let published = relays.publish(event(1));
    let id = one.event().await;
    one.ok(&id, false, "blocked: \u{1b}[31mno\u{202e}").await;
    two.event().await;
    two.ok(&id, false, "invalid: no").await;
    let report = soon(published).await;
    assert_eq!(report.outcome(), PublishOutcome::Refused);
    let RelayOutcome::Refused(words) = &report.per_relay[0].1 else { panic!("{report:?}") };
    assert!(words.starts_with("blocked: ") && words.is_ascii() && !words.contains('\u{1b}'), "{words}");
}

#[tokio::test]
async fn silence_is_unknown_at_the_deadline_and_no_connection_is_not_sent() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()]).with_timing(short_publish())).unwrap();
    let (_peer, _) = relay.accept_live().await;
    assert!(relays.ready(PATIENCE).await);
    assert_eq!(soon(relays.publish(event(1))).await.outcome(), PublishOutcome::Unknown);
    let dead = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
    let (relays, _inbox) = Relays::connect(config([dead]).with_timing(short_publish())).unwrap();
    assert_eq!(soon(relays.publish(event(1))).await.outcome(), PublishOutcome::NotSent);
}

#[tokio::test]
async fn a_publication_waits_for_a_relay_that_connects_in_time() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let published = relays.publish(event(1));
    let mut peer = relay.accept().await;
    peer.req().await;
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert!(soon(published).await.accepted.is_some());
}

#[tokio::test]
async fn a_relay_added_while_a_publication_is_pending_gets_it_too() {
    let (silent, late) = (Relay::start().await, Relay::start().await);
    let (relays, _inbox) = Relays::connect(config([silent.url.clone()])).unwrap();
    let (_quiet, _) = silent.accept_live().await;
    let published = relays.publish(event(1));
    relays.add(late.url.clone(), Addresses::Any).unwrap();
    let mut peer = late.accept().await;
    peer.req().await;
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    assert_eq!(soon(published).await.accepted, Some(late.url.clone()));
}

#[tokio::test]
async fn nothing_is_sent_after_its_deadline() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()]).with_timing(short_publish())).unwrap();
    let (peer, _) = relay.accept_live().await;
    let address = relay.url.to_string().replace("ws://", "");
    drop((peer, relay));
    assert_eq!(soon(relays.publish(event(1))).await.accepted, None);
    let relay = Relay::listen(address.trim_end_matches('/')).await;
    let (mut peer, _) = relay.accept_live().await;
    assert!(relays.ready(PATIENCE).await);
    let published = relays.publish(event(2));
    assert_eq!(peer.event().await, event(2).id.to_hex(), "the stale event must not come first");
    drop(published);
}

#[tokio::test]
async fn a_relay_restarted_in_the_middle_of_a_publication_gets_it_again() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    let first = peer.event().await;
    let address = relay.url.to_string().replace("ws://", "");
    drop((peer, relay));
    let relay = Relay::listen(address.trim_end_matches('/')).await;
    let mut peer = relay.accept().await;
    peer.req().await;
    assert_eq!(peer.event().await, first);
    peer.ok(&first, true, "").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Accepted);
}

#[tokio::test]
async fn a_full_queue_is_that_relays_outcome_and_nobody_elses() {
    let good = Relay::start().await;
    let dead = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
    let limits = Limits { outbound_events: 3, ..Limits::default() };
    let (relays, _inbox) = Relays::connect(config([dead, good.url.clone()]).with_limits(limits)).unwrap();
    let (mut peer, _) = good.accept_live().await;
    let mut full = 0;
    for number in 0..10 {
        let published = relays.publish(event(number));
        let id = peer.event().await;
        peer.ok(&id, true, "").await;
        let report = soon(published).await;
        assert_eq!(report.accepted, Some(good.url.clone()));
        full += usize::from(report.per_relay[0].1 == RelayOutcome::QueueFull);
    }
    assert_eq!(full, 7);
}

#[tokio::test]
async fn a_relay_that_stops_reading_blocks_neither_the_others_nor_memory() {
    let (stuck, good) = (Relay::start().await, Relay::start().await);
    let (relays, _inbox) = Relays::connect(config([stuck.url.clone(), good.url.clone()])).unwrap();
    let ((_unread, _), (mut peer, _)) = tokio::join!(stuck.accept_live(), good.accept_live());
    let mut big = event(0);
    let padding = "x".repeat(60_000);
    let mut full = false;
    for number in 0..400 {
        big.id = event(number).id;
        big.json = format!(r#"{{"id":"{}","content":"{padding}"}}"#, big.id.to_hex()).into();
        let published = relays.publish(big.clone());
        let id = peer.event().await;
        peer.ok(&id, true, "").await;
        let report = soon(published).await;
        assert_eq!(report.accepted, Some(good.url.clone()));
        full |= report.per_relay[0].1 == RelayOutcome::QueueFull;
    }
    assert!(full, "24 MB must not fit into a queue of 4 MiB and a socket");
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_and_the_event_sent_again() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, false, "rate-limited: slow down").await;
    assert_eq!(peer.event().await, id);
    peer.ok(&id, true, "").await;
    assert!(soon(published).await.accepted.is_some());
}

#[tokio::test]
async fn the_event_is_sent_though_nobody_polls_the_future() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    assert_eq!(peer.event().await, event(1).id.to_hex());
    drop(published);
}

#[tokio::test]
async fn lies_in_ok_are_counted_and_ignored() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&event(2).id.to_hex(), true, "").await;
    peer.ok("not an id", true, "").await;
    peer.ok(&id, true, "").await;
    peer.ok(&id, false, "changed my mind").await;
    assert!(soon(published).await.accepted.is_some());
    let published = relays.publish(event(3));
    let id = peer.event().await;
    peer.ok(&id, true, "").await;
    soon(published).await;
    let status = &relays.statuses()[0];
    assert_eq!((status.counts.unknown_answers, status.counts.malformed, status.counts.accepted), (2, 1, 2));
    assert!(status.rtt.is_some());
}
