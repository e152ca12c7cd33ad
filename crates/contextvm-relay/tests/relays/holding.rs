//! Relays on hold, and relays that have much to say.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_relay::{Incoming, Relays};
use serde_json::json;
use tokio::time::Instant;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Relay, config, next_event, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_on_hold_delays_no_other_and_loses_its_oldest_events() {
    let (flooded, quiet) = (Relay::start().await, Relay::start().await);
    let limits = Limits { open_queue: 4, ..Limits::default() };
    let urls = [flooded.url.clone(), quiet.url.clone()];
    let (relays, mut inbox) = Relays::connect(config(urls).with_limits(limits)).unwrap();
    let (mut flood, subscription) = flooded.accept_live().await;
    let (mut peer, theirs) = quiet.accept_live().await;
    let until = Instant::now() + Duration::from_secs(3);
    for _ in 0..2 {
        assert!(matches!(soon(inbox.recv()).await, Some(Incoming::Up { .. })));
    }
    relays.hold(0, until);
    for number in 0..10 {
        flood.say(&json!(["EVENT", subscription, { "flood": number }])).await;
    }
    peer.say(&json!(["EVENT", theirs, { "honest": 1 }])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"honest":1}"#);
    let mut come = BTreeSet::new();
    for _ in 0..4 {
        come.insert(next_event(&mut inbox).await);
    }
    assert!(Instant::now() >= until, "what is on hold came out");
    let newest: BTreeSet<_> = (6..10).map(|number| format!(r#"{{"flood":{number}}}"#)).collect();
    assert_eq!(come, newest);
    let counts: Vec<_> = relays.statuses().iter().map(|status| status.counts.dropped).collect();
    assert_eq!(counts, [6, 0]);
    relays.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_talks_all_the_time_is_quoted_now_and_then() {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    struct Counting;
    impl Subscriber for Counting {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("contextvm_relay")
        }
        fn event(&self, _: &Event<'_>) {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    // This runtime has one thread, so what the link logs is counted here and nowhere else.
    let _counting = tracing::subscriber::set_default(Counting);
    let relay = Relay::start().await;
    let started = Instant::now();
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    for number in 0..500 {
        peer.say(&json!(["NOTICE", format!("number {number}")])).await;
        peer.say(&json!(["CLOSED", subscription, "error: nothing"])).await;
        peer.say(&json!(["OK", "0".repeat(64), false, "invalid: nothing"])).await;
        peer.say(&json!(["AUTH", format!("challenge {number}")])).await;
    }
    peer.say(&json!(["EVENT", subscription, { "last": 1 }])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"last":1}"#);
    let tens = usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    let lines = LINES.load(Ordering::Relaxed);
    assert!(lines >= 2, "nothing is counted");
    assert!(lines <= 4 + tens, "{lines} lines");
    assert_eq!(relays.statuses()[0].last_notice.as_deref(), Some("number 499"));
    relays.shutdown().await;
}
