//! Where answers go when some relays delivered the request and others did not, and whose word counts.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{Limits, Protection, WrapKind, event, kind};
use contextvm_crypto::{Entropy, seal};
use contextvm_engine::{Outcome, Reach, Ticket};
use contextvm_local_relay::{Faults, LocalRelay};
use contextvm_relay::{Addresses, PublishEvent, RelayState, Relays, RelaysConfig};
use contextvm_runtime::clock::unix_now;
use nostr::event::{EventId, Tag};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use crate::puppet::{Hand, relay};

const WRAP: Protection = Protection::Wrapped(WrapKind::Ephemeral);

/// A request in its envelope.
fn request(to: &PublicKey) -> PublishEvent {
    let keys = contextvm_runtime::new_keys().unwrap();
    let tags = [Tag::public_key(*to)].into_iter().collect();
    let inner = keys.sign_event(kind::MESSAGE, unix_now(), tags, "call".into(), [7; 32]);
    let entropy = Entropy::gather(getrandom::fill).unwrap();
    let outer = seal(&inner, to, WrapKind::Ephemeral, unix_now(), &entropy).unwrap();
    PublishEvent { id: outer.id, json: Arc::from(event::print(&outer)) }
}

async fn connected(relay: &LocalRelay) -> Relays {
    let config = RelaysConfig::new([RelayUrl::parse(&relay.url()).unwrap()]);
    let (relays, _inbox) = Relays::connect(RelaysConfig { addresses: Addresses::Any, ..config }).unwrap();
    assert!(relays.ready(Duration::from_secs(20)).await);
    relays
}

/// An endpoint at two relays, both live.
async fn at(relays: [&LocalRelay; 2], limits: Limits) -> Hand {
    let hand = Hand::start_at(relays.map(LocalRelay::url), limits).await;
    while hand.relays.statuses().iter().any(|status| status.state != RelayState::Live) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hand
}

async fn asked(server: &mut Hand, by: &Relays) -> (PublishEvent, (EventId, PublicKey)) {
    let request = request(&server.key());
    assert!(by.publish(request.clone()).await.accepted.is_some());
    let opened = server.opened().await;
    (request, (opened.event().id, opened.event().pubkey))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_answer_goes_where_it_was_asked_and_where_a_copy_comes_late() {
    let (here, there) = (relay().await, relay().await);
    let mut server = at([&here, &there], Limits::default()).await;
    let (caller, late) = (connected(&here).await, connected(&there).await);
    for n in 0..20 {
        let (_, (id, to)) = asked(&mut server, &caller).await;
        server.answer(n, (to, "answer".into(), WRAP), Some(id), Reach::Asked).await;
        assert_eq!(server.published().await, (Ticket(n), Outcome::Accepted));
    }
    let (request, (id, to)) = asked(&mut server, &caller).await;
    assert_eq!(there.stats().received, 0);
    server.answer(20, (to, "answer".into(), WRAP), Some(id), Reach::Asked).await;
    assert_eq!(server.published().await, (Ticket(20), Outcome::Accepted));
    assert!(late.publish(request).await.accepted.is_some());
    while there.stats().received < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.answer(21, (to, "known by now".into(), WRAP), Some(id), Reach::All).await;
    assert_eq!(server.published().await, (Ticket(21), Outcome::Accepted));
    assert!(there.stats().received <= 3, "the copy, its answer, and what goes everywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_where_nobody_asked_cannot_end_an_answer_by_its_word() {
    let (here, there) = (relay().await, relay().await);
    let mut server = at([&here, &there], Limits::default()).await;
    let (_, (id, to)) = asked(&mut server, &connected(&here).await).await;
    here.set_faults(Faults { no_ok: true, ..Faults::default() });
    server.answer(1, (to, "answer".into(), WRAP), Some(id), Reach::All).await;
    assert_eq!(server.published().await, (Ticket(1), Outcome::Unknown));
    assert_eq!(there.stats().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_says_nothing_holds_up_no_answer_to_who_asked_elsewhere() {
    let (silent, honest) = (relay().await, relay().await);
    let mut server = at([&silent, &honest], Limits { outbound_events: 64, ..Limits::default() }).await;
    let (_, (stranger, to_stranger)) = asked(&mut server, &connected(&silent).await).await;
    let (_, (known, to_known)) = asked(&mut server, &connected(&honest).await).await;
    silent.set_faults(Faults { no_ok: true, ..Faults::default() });
    for reach in [Reach::Asked, Reach::All] {
        for n in 0..400 {
            server.answer(n, (to_stranger, "x".into(), WRAP), Some(stranger), reach).await;
        }
        server.answer(1_000, (to_known, "answer".into(), WRAP), Some(known), Reach::All).await;
        let (mut open, mut ended) = (400, false);
        while open > 0 {
            match server.published().await {
                (Ticket(1_000), outcome) => {
                    assert_eq!(outcome, Outcome::Accepted);
                    assert!(open >= 16, "{reach:?}: it waited for the others: {open}");
                    ended = true;
                }
                (_, outcome) => {
                    assert_ne!(outcome, Outcome::Accepted, "nobody who matters took it");
                    open -= 1;
                }
            }
        }
        assert!(ended);
    }
}
