//! Authentication (NIP-42): given when demanded, for the relay that was dialled, and rarely.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, Peer, Relay, config, event, next_event, soon, timing};
use contextvm_crypto::Keys;
use contextvm_relay::{AuthSigner, PublishOutcome, RelayOutcome, Relays, RelaysConfig, SignedAuth, Timing};
use nostr::event::Event;
use nostr::types::RelayUrl;
use serde_json::json;

fn with_keys(url: &RelayUrl) -> RelaysConfig {
    let keys = Keys::from_secret_bytes([7; 32]).unwrap();
    config([url.clone()]).with_signer(Arc::new(keys))
}

async fn auth(peer: &mut Peer) -> Event {
    let frame = peer.word("AUTH").await;
    let event = Event::from_json(frame[1].to_string()).unwrap();
    event.verify().unwrap();
    event
}

fn tag<'a>(event: &'a Event, name: &str) -> &'a str {
    event.tags.iter().find(|tag| tag.kind() == name).and_then(|tag| tag.content()).unwrap()
}

#[tokio::test]
async fn a_relay_that_demands_it_for_reading_and_writing_gets_one_answer() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(with_keys(&relay.url)).unwrap();
    let mut peer = relay.accept().await;
    peer.say(&json!(["AUTH", "abc"])).await;
    let (subscription, _) = peer.req().await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.say(&json!(["CLOSED", subscription, "auth-required: who are you"])).await;
    peer.ok(&id, false, "auth-required: who are you").await;
    let signed = auth(&mut peer).await;
    assert_eq!(tag(&signed, "challenge"), "abc");
    assert_eq!(tag(&signed, "relay"), relay.url.to_string(), "the address that was dialled");
    peer.ok(&signed.id.to_hex(), true, "").await;
    let mut words = Vec::new();
    for _ in 0..2 {
        let frame = peer.hear().await.unwrap();
        words.push(frame[0].as_str().unwrap().to_owned());
    }
    assert_eq!(words, ["REQ", "EVENT"]);
    peer.ok(&id, true, "").await;
    peer.say(&json!(["EOSE", subscription])).await;
    peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
    assert!(soon(published).await.accepted.is_some());
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"a"}"#);
}

#[tokio::test]
async fn what_is_refused_too_late_goes_once_more() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(with_keys(&relay.url)).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    peer.say(&json!(["AUTH", "abc"])).await;
    let (first, second) = (relays.publish(event(1)), relays.publish(event(2)));
    let ids = [peer.event().await, peer.event().await];
    peer.ok(&ids[0], false, "auth-required: who are you").await;
    let signed = auth(&mut peer).await;
    // It judges events and authentication side by side, and is slow over the second event.
    peer.ok(&signed.id.to_hex(), true, "").await;
    assert_eq!(peer.event().await, ids[0]);
    peer.ok(&ids[0], true, "").await;
    assert!(soon(first).await.accepted.is_some());
    peer.ok(&ids[1], false, "auth-required: who are you").await;
    assert_eq!(peer.event().await, ids[1]);
    // Now it knew us, so that this is its last word.
    peer.ok(&ids[1], false, "auth-required: not you").await;
    let report = soon(second).await;
    assert_eq!(report.per_relay[0].1, RelayOutcome::Refused("auth-required: not you".to_owned()));
}

#[tokio::test]
async fn a_challenge_that_follows_the_demand_is_answered() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(with_keys(&relay.url)).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, false, "auth-required: who are you").await;
    peer.say(&json!(["AUTH", "late"])).await;
    let signed = auth(&mut peer).await;
    assert_eq!(tag(&signed, "challenge"), "late");
    peer.ok(&signed.id.to_hex(), true, "").await;
    assert_eq!(peer.event().await, id);
    peer.ok(&id, true, "").await;
    assert!(soon(published).await.accepted.is_some());
}

#[tokio::test]
async fn a_refused_answer_is_the_outcome_of_what_waited_for_it() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(with_keys(&relay.url)).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.say(&json!(["AUTH", "abc"])).await;
    peer.ok(&id, false, "auth-required: who are you").await;
    let signed = auth(&mut peer).await;
    peer.ok(&signed.id.to_hex(), false, "restricted: not you").await;
    let report = soon(published).await;
    assert_eq!(report.outcome(), PublishOutcome::Refused);
    assert_eq!(report.per_relay[0].1, RelayOutcome::Refused("restricted: not you".to_owned()));
}

#[tokio::test]
async fn without_a_signer_the_demand_is_a_refusal() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    peer.say(&json!(["AUTH", "abc"])).await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, false, "auth-required: who are you").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Refused);
}

/// A signer that signs nothing.
struct Unwilling;

impl AuthSigner for Unwilling {
    fn sign_auth(&self, _relay: &str, _challenge: &str, _unix: u64) -> Option<SignedAuth> {
        None
    }
}

#[tokio::test]
async fn a_signer_that_gives_no_answer_makes_the_demand_a_refusal_at_once() {
    let relay = Relay::start().await;
    let timing = Timing { publish: PATIENCE * 10, ..timing() };
    let config = config([relay.url.clone()]).with_timing(timing).with_signer(Arc::new(Unwilling));
    let (relays, _inbox) = Relays::connect(config).unwrap();
    let (mut peer, _) = relay.accept_live().await;
    peer.say(&json!(["AUTH", "abc"])).await;
    let published = relays.publish(event(1));
    let id = peer.event().await;
    peer.ok(&id, false, "auth-required: who are you").await;
    assert_eq!(soon(published).await.outcome(), PublishOutcome::Refused);
}

#[tokio::test]
async fn a_flood_of_challenges_and_reconnects_gets_few_signatures() {
    let relay = Relay::start().await;
    let timing = Timing { auth: Duration::from_secs(600), ..timing() };
    let (relays, mut inbox) = Relays::connect(with_keys(&relay.url).with_timing(timing)).unwrap();
    let mut signatures = 0;
    for round in 0..5 {
        let (mut peer, subscription) = relay.accept_live().await;
        let _waiting = relays.publish(event(round));
        let id = peer.event().await;
        peer.ok(&id, false, "auth-required: again").await;
        for number in 0..50 {
            peer.say(&json!(["AUTH", format!("{round} {number}")])).await;
        }
        peer.say(&json!(["EVENT", subscription, {}])).await;
        next_event(&mut inbox).await;
        // All challenges were read, so whatever is signed goes out before this.
        let last = relays.publish(event(100 + round));
        loop {
            let frame = peer.hear().await.unwrap();
            if frame[0] == "AUTH" {
                signatures += 1;
            } else if frame[1]["id"] == event(100 + round).id.to_hex() {
                break;
            }
        }
        peer.ok(&event(100 + round).id.to_hex(), true, "").await;
        soon(last).await;
    }
    assert_eq!(signatures, 1);
}

#[tokio::test]
async fn who_was_let_in_a_moment_ago_is_let_in_at_once_on_the_next_connection() {
    let relay = Relay::start().await;
    let timing = Timing { auth: Duration::from_secs(600), ..timing() };
    let (relays, _inbox) = Relays::connect(with_keys(&relay.url).with_timing(timing)).unwrap();
    for round in 0..3 {
        let (mut peer, _) = relay.accept_live().await;
        peer.say(&json!(["AUTH", format!("challenge {round}")])).await;
        let published = relays.publish(event(round));
        let id = peer.event().await;
        peer.ok(&id, false, "auth-required: who are you").await;
        let frame = peer.hear().await.unwrap();
        assert_eq!(frame[0], "AUTH");
        peer.ok(frame[1]["id"].as_str().unwrap(), true, "").await;
        let id = peer.event().await;
        peer.ok(&id, true, "").await;
        assert_eq!(soon(published).await.outcome(), PublishOutcome::Accepted);
    }
}
