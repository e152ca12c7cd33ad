//! Rubbish that one relay passes on, and peers that use another one.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{Limits, Protection, WrapKind, event, kind};
use contextvm_crypto::{Entropy, Keys, seal};
use contextvm_relay::{Addresses, PublishEvent, Relays, RelaysConfig};
use contextvm_runtime::clock::unix_now;
use nostr::event::{Event, Tag};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use crate::puppet::{Hand, relay};

const WRAP: Protection = Protection::Wrapped(WrapKind::Ephemeral);

/// A gift wrap for somebody whose own signature is true and whose content was sealed by another key.
fn rubbish(like: &Event) -> PublishEvent {
    let keys = contextvm_runtime::new_keys().unwrap();
    let (tags, content) = (like.tags.clone(), like.content.clone());
    let event = keys.sign_event(kind::EPHEMERAL_GIFT_WRAP, unix_now(), tags, content, [7; 32]);
    PublishEvent { id: event.id, json: Arc::from(event::print(&event)) }
}

fn sealed(by: &Keys, to: &PublicKey) -> Event {
    let tags = [Tag::public_key(*to)].into_iter().collect();
    let inner = by.sign_event(kind::MESSAGE, unix_now(), tags, "x".repeat(600), [7; 32]);
    let entropy = Entropy::gather(getrandom::fill).unwrap();
    seal(&inner, to, WrapKind::Ephemeral, unix_now(), &entropy).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_by_one_relay_is_cut_short_and_counted_and_the_other_relay_is_heard() {
    const FLOOD: u64 = 12_000;
    let (flooded, quiet) = (relay().await, relay().await);
    let receiver = Hand::start_at([flooded.url(), quiet.url()], Limits::default()).await;
    let like = sealed(&contextvm_runtime::new_keys().unwrap(), &receiver.key());
    let made: Vec<_> = (0..FLOOD).map(|_| rubbish(&like)).collect();
    let caller = Hand::start(&quiet, Limits::default()).await;
    let url = RelayUrl::parse(&flooded.url()).unwrap();
    let config = RelaysConfig { addresses: Addresses::Any, ..RelaysConfig::new([url]) };
    let (attacker, _inbox) = Relays::connect(config).unwrap();
    assert!(attacker.ready(Duration::from_secs(20)).await);
    let flooding = tokio::spawn(async move {
        for some in made.chunks(500) {
            let sent: Vec<_> = some.iter().map(|event| attacker.publish(event.clone())).collect();
            for one in sent {
                one.await;
            }
        }
        attacker
    });
    let mut receiver = receiver;
    for n in 0..40 {
        caller.publish(n, receiver.key(), n.to_string(), WRAP).await;
        assert_eq!(receiver.opened().await.event().content, n.to_string());
    }
    let attacker = flooding.await.unwrap();
    let mut seen = (0, 0, 0);
    for _ in 0..600 {
        let dropped: Vec<_> = receiver.relays.statuses().iter().map(|relay| relay.counts.dropped).collect();
        assert_eq!(dropped[1], 0, "the quiet relay pays for nothing");
        seen = (receiver.counters.read().unopened, dropped[0], receiver.counters.read().opened);
        if seen.0 + seen.1 == FLOOD {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen.0 + seen.1, FLOOD, "everything was either tried or dropped and counted: {seen:?}");
    assert_eq!(seen.2, 40);
    assert_eq!(
        receiver.relays.statuses()[0].counts.connections,
        1,
        "nobody is cut for what strangers publish"
    );
    attacker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_wait_in_bounded_memory_and_all_are_opened() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    // Room for two of them at once, whatever the number of events that may wait.
    let limits = Limits { outbound_bytes: 100_000, ..Limits::default() };
    let mut receiver = Hand::start(&relay, limits).await;
    for n in 0..30 {
        sender.publish(n, receiver.key(), format!("{n} {}", "x".repeat(20_000)), WRAP).await;
    }
    for n in 0..30 {
        let opened = receiver.opened().await;
        assert_eq!(opened.event().content.split(' ').next(), Some(n.to_string().as_str()));
    }
}
