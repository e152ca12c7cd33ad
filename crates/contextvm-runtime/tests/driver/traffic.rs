//! What is published, opened, repeated and refused.
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contextvm_core::{Draft, Limits, Protection, WrapKind};
use contextvm_engine::{Outbound, Outcome, Reach, Ticket};
use contextvm_local_relay::Faults;
use contextvm_relay::{PublishEvent, RelayState, Relays, RelaysConfig};
use contextvm_runtime::Effect;
use nostr::event::{Tag, Tags};
use nostr::types::RelayUrl;

use crate::puppet::{Hand, relay};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_in_order_is_opened_in_order() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits { open_queue: 8, ..Limits::default() }).await;
    let wraps = [
        Protection::Wrapped(WrapKind::Ephemeral),
        Protection::Wrapped(WrapKind::Persistent),
        Protection::Plain,
    ];
    for n in 0..300_u64 {
        // Sizes differ so that later ones would be ready first.
        let padding = " ".repeat(usize::try_from((299 - n) * 40).unwrap());
        let protection = wraps[usize::try_from(n % 3).unwrap()];
        sender.publish(n, receiver.key(), format!("{n}{padding}"), protection).await;
    }
    for n in 0..300_u64 {
        assert_eq!(receiver.opened().await.event().content.trim(), n.to_string());
    }
    assert_eq!(receiver.counters.read().opened, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_is_given_nothing_until_it_says_so_or_its_time_has_come() {
    let relay = relay().await;
    let begun = tokio::time::Instant::now();
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    for (n, until) in [(0, 3_600_000), (1, 1_000)] {
        receiver.held.store(until, Ordering::SeqCst);
        // So that it looks.
        receiver.tell.send(Effect::Forget(Ticket(n))).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), receiver.heard.recv()).await;
        assert!(early.is_err(), "{early:?}");
        sender.publish(n, receiver.key(), n.to_string(), Protection::Plain).await;
        assert_eq!(sender.published().await, (Ticket(n), Outcome::Accepted));
        if n == 0 {
            let early = tokio::time::timeout(Duration::from_millis(200), receiver.heard.recv()).await;
            assert!(early.is_err(), "{early:?}");
            receiver.held.store(0, Ordering::SeqCst);
            receiver.tell.send(Effect::Forget(Ticket(n))).await.unwrap();
        }
        assert_eq!(receiver.opened().await.event().content, n.to_string());
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_clock_is_minutes_fast_hears_everybody() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let recipient = receiver.key();
    let tags = Tags::from_list(vec![Tag::public_key(recipient)]);
    // To a clock that is nine minutes fast, what is stamped now was stamped nine minutes ago.
    let stamp = contextvm_runtime::clock::unix_now() - 540;
    let draft = Draft::new(sender.key(), stamp, tags, "x".into());
    let outbound = Outbound {
        ticket: Ticket(1),
        draft,
        recipient,
        protection: Protection::Plain,
        is_frame: false,
        about: None,
        reach: Reach::All,
    };
    sender.tell.send(Effect::Publish(outbound)).await.unwrap();
    assert_eq!(receiver.opened().await.event().content, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_republication_repeats_the_outer_event_or_makes_a_new_wrap_around_the_same_inner_one() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    sender.publish(1, receiver.key(), "x".into(), wrap).await;
    let first = receiver.opened().await;
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));

    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    let second = receiver.opened().await;
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));
    assert_eq!(first.event(), second.event());
    assert_ne!(first.outer(), second.outer());

    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: false }).await.unwrap();
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted), "duplicate: is a success");
    assert_eq!(relay.stats().repeats, 1);

    sender.tell.send(Effect::Forget(Ticket(1))).await.unwrap();
    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_every_relay_is_reported_in_the_relays_words() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { refuse: Some("blocked: not here".into()), ..Faults::default() });
    let to = sender.key();
    sender.publish(9, to, "x".into(), Protection::Plain).await;
    assert_eq!(sender.published().await, (Ticket(9), Outcome::Refused("blocked: not here".into())));
    assert_eq!(sender.counters.read().refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_made_can_be_asked_for_again_and_is_refused_again() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let to = sender.key();
    sender.publish(1, to, "x".repeat(70_000), Protection::Wrapped(WrapKind::Ephemeral)).await;
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
}

#[tokio::test]
async fn more_than_a_relays_queue_holds_waits_for_room_in_it() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits { outbound_bytes: 50_000, ..Limits::default() }).await;
    let to = contextvm_runtime::new_keys().unwrap().public_key();
    for n in 0..60 {
        sender.publish(n, to, "x".repeat(10_000), Protection::Plain).await;
    }
    for _ in 0..60 {
        assert_eq!(sender.published().await.1, Outcome::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_gift_wraps_of_strangers_is_not_blamed_on_the_relay() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let stranger = contextvm_runtime::new_keys().unwrap();
    let (relays, _inbox) =
        Relays::connect(RelaysConfig::new([RelayUrl::parse(&relay.url()).unwrap()])).unwrap();
    for n in 0..20_u8 {
        let tags = Tags::from_list(vec![Tag::public_key(receiver.key())]);
        let now = contextvm_runtime::clock::unix_now();
        let wrap = stranger.sign_event(21_059, now, tags, format!("rubbish {n}"), [n; 32]);
        let json = contextvm_core::event::print(&wrap).into();
        assert!(relays.publish(PublishEvent { id: wrap.id, json }).await.accepted.is_some());
    }
    sender.publish(1, receiver.key(), "x".into(), Protection::Wrapped(WrapKind::Ephemeral)).await;
    assert_eq!(receiver.opened().await.event().content, "x");
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));
    assert_eq!(receiver.counters.read().unopened, 20);
    let counts = receiver.relays.statuses().first().unwrap().counts;
    assert_eq!((counts.connections, counts.invalid), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_the_relay_is_an_unknown_outcome() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { no_ok: true, ..Faults::default() });
    let to = contextvm_runtime::new_keys().unwrap().public_key();
    sender.publish(9, to, "x".into(), Protection::Plain).await;
    assert_eq!(sender.published().await, (Ticket(9), Outcome::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_wrap_is_refused_and_the_next_one_goes_out() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    sender.publish(1, receiver.key(), "x".repeat(70_000), wrap).await;
    sender.publish(2, receiver.key(), "small".into(), wrap).await;
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
    assert_eq!(receiver.opened().await.event().content, "small");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_published_before_the_end() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    for n in 0..50 {
        sender.publish(n, receiver.key(), n.to_string(), Protection::Wrapped(WrapKind::Ephemeral)).await;
    }
    sender.tell.send(Effect::Stop).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), sender.running).await.expect("in time").unwrap();
    for n in 0..50 {
        assert_eq!(receiver.opened().await.event().content, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_relay_that_never_answers() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { mute: true, ..Faults::default() });
    let to = sender.key();
    sender.publish(1, to, "x".into(), Protection::Plain).await;
    sender.tell.send(Effect::Stop).await.unwrap();
    let started = std::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(10), sender.running).await.expect("in time").unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_behind_for_a_while_gets_every_piece() {
    const PIECES: u64 = 250;
    let (fast, slow) = (relay().await, relay().await);
    let limits = Limits { outbound_bytes: 400_000, ..Limits::default() };
    let mut sender = Hand::start_at([fast.url(), slow.url()], limits).await;
    while sender.relays.statuses().iter().any(|status| status.state != RelayState::Live) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut receiver = Hand::start(&slow, Limits::default()).await;
    slow.set_faults(Faults { deaf: true, ..Faults::default() });
    let (to, mut next) = (receiver.key(), 0);
    let piece = |n: u64| format!("{n}{}", " ".repeat(60_000));
    for _ in 0..16 {
        sender.publish(next, to, piece(next), Protection::Plain).await;
        next += 1;
    }
    // A relay that takes longer than a second to take an event is left behind on purpose.
    let hears_again = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        slow.set_faults(Faults::default());
        slow
    });
    for _ in 0..PIECES {
        assert_eq!(sender.published().await.1, Outcome::Accepted);
        if next < PIECES {
            sender.publish(next, to, piece(next), Protection::Plain).await;
            next += 1;
        }
    }
    let _slow = hears_again.await.unwrap();
    let mut arrived = BTreeSet::new();
    for _ in 0..PIECES {
        arrived.insert(receiver.opened().await.event().content.trim().parse::<u64>().unwrap());
    }
    assert!(arrived.into_iter().eq(0..PIECES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_never_answers_holds_up_no_more_than_one_window() {
    let (honest, deaf) = (relay().await, relay().await);
    let mut sender = Hand::start_at([honest.url(), deaf.url()], Limits::default()).await;
    while sender.relays.statuses().iter().any(|status| status.state != RelayState::Live) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deaf.set_faults(Faults { deaf: true, ..Faults::default() });
    let to = contextvm_runtime::new_keys().unwrap().public_key();
    let start = std::time::Instant::now();
    for n in 0..8 {
        // One after another: each would wait for the deaf relay's three seconds.
        sender.publish(n, to, "x".repeat(40_000), Protection::Plain).await;
        assert_eq!(sender.published().await, (Ticket(n), Outcome::Accepted));
    }
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}
