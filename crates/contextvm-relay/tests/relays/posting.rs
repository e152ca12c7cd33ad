//! One-shot publications: every relay is waited for, and each has its own last word.
use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, Relay, event, soon};
use contextvm_crypto::Keys;
use contextvm_relay::{Addresses, Post, PublishOutcome, RelayOutcome};
use nostr::types::RelayUrl;
use serde_json::json;

#[tokio::test]
async fn every_relay_is_waited_for_event_by_event() {
    let (a, b) = (Relay::start().await, Relay::start().await);
    let dead = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
    let urls = [a.url.clone(), b.url.clone(), dead.clone(), a.url.clone()];
    let (one, two) = (event(1), event(2));
    let post = Post::new(vec![one.clone(), two.clone()]).with_deadline(PATIENCE);
    let posted = tokio::spawn(async move { post.to(&urls).await });
    let (mut quick, mut slow) = (a.accept().await, b.accept().await);
    for peer in [&mut quick, &mut slow] {
        assert_eq!(peer.event().await, one.id.to_hex());
        assert_eq!(peer.event().await, two.id.to_hex());
    }
    quick.ok(&one.id.to_hex(), true, "").await;
    quick.ok(&two.id.to_hex(), false, "blocked: unhandled event kind").await;
    // The success of one relay is not the end.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!posted.is_finished());
    slow.ok(&two.id.to_hex(), true, "duplicate: have it").await;
    slow.ok(&"77".repeat(32), true, "an event that is not ours").await;
    slow.ok(&one.id.to_hex(), true, "").await;
    let report = soon(posted).await.unwrap().unwrap();
    let outcomes: Vec<Vec<&RelayOutcome>> = report
        .events
        .iter()
        .map(|event| event.per_relay.iter().map(|answer| &answer.outcome).collect())
        .collect();
    let refused = RelayOutcome::Refused("blocked: unhandled event kind".to_owned());
    let not_sent = RelayOutcome::NotSent;
    assert_eq!(outcomes[0], [&RelayOutcome::Accepted, &RelayOutcome::Accepted, &not_sent]);
    assert_eq!(outcomes[1], [&refused, &RelayOutcome::Duplicate, &not_sent]);
    assert_eq!(report.events[1].accepted().collect::<Vec<_>>(), [&b.url]);
    assert_eq!(report.events[1].outcome(), PublishOutcome::Accepted);
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, dead);
    let took: Vec<Duration> = report.events[0].per_relay.iter().map(|answer| answer.took).collect();
    assert!(took[1] >= Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_demand_for_authentication_is_met_once_and_the_event_sent_again() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let keys = Arc::new(Keys::from_secret_bytes([7; 32]).unwrap());
    let (one, two) = (event(1), event(2));
    let post = Post::new(vec![one.clone(), two.clone()]).with_signer(keys).with_deadline(PATIENCE);
    let posted = tokio::spawn(async move { post.to(&urls).await });
    let mut peer = relay.accept().await;
    peer.event().await;
    peer.event().await;
    // The challenge may come after the demand.
    for id in [one.id, two.id] {
        peer.ok(&id.to_hex(), false, "auth-required: who are you").await;
    }
    peer.say(&json!(["AUTH", "prove it"])).await;
    let auth = peer.word("AUTH").await;
    peer.ok(auth[1]["id"].as_str().unwrap(), true, "").await;
    for id in [one.id, two.id] {
        assert_eq!(peer.event().await, id.to_hex());
    }
    peer.ok(&one.id.to_hex(), true, "").await;
    peer.ok(&two.id.to_hex(), false, "auth-required: not you").await;
    let report = soon(posted).await.unwrap().unwrap();
    assert_eq!(report.events[0].per_relay[0].outcome, RelayOutcome::Accepted);
    let refused = RelayOutcome::Refused("auth-required: not you".to_owned());
    assert_eq!(report.events[1].per_relay[0].outcome, refused);
    assert_eq!(report.events[1].outcome(), PublishOutcome::Refused);
}

#[tokio::test]
async fn a_refused_authentication_is_the_relays_last_word() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let keys = Arc::new(Keys::from_secret_bytes([7; 32]).unwrap());
    let one = event(1);
    let post = Post::new(vec![one.clone()]).with_signer(keys).with_deadline(PATIENCE);
    let posted = tokio::spawn(async move { post.to(&urls).await });
    let mut peer = relay.accept().await;
    peer.say(&json!(["AUTH", "prove it"])).await;
    peer.event().await;
    peer.ok(&one.id.to_hex(), false, "auth-required: who are you").await;
    let auth = peer.word("AUTH").await;
    peer.ok(auth[1]["id"].as_str().unwrap(), false, "restricted: not you").await;
    let report = soon(posted).await.unwrap().unwrap();
    let refused = RelayOutcome::Refused("restricted: not you".to_owned());
    assert_eq!(report.events[0].per_relay[0].outcome, refused);
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_a_hang_up_at_once() {
    let (silent, rude) = (Relay::start().await, Relay::start().await);
    let urls = [silent.url.clone(), rude.url.clone()];
    let post = Post::new(vec![event(1)]).with_deadline(Duration::from_secs(2));
    let posted = tokio::spawn(async move { post.to(&urls).await });
    let mut quiet = silent.accept().await;
    quiet.event().await;
    let mut gone = rude.accept().await;
    gone.event().await;
    drop(gone);
    let report = soon(posted).await.unwrap().unwrap();
    let outcomes: Vec<&RelayOutcome> =
        report.events[0].per_relay.iter().map(|answer| &answer.outcome).collect();
    assert_eq!(outcomes, [&RelayOutcome::NoAnswer, &RelayOutcome::NoAnswer]);
    assert_eq!(report.events[0].outcome(), PublishOutcome::Unknown);
    assert_eq!(report.failed.iter().map(|(url, _)| url).collect::<Vec<_>>(), [&rude.url]);
}

#[tokio::test]
async fn a_relay_that_lets_nobody_in_is_named_with_the_reason() {
    let relay = Relay::start().await;
    // The socket is open and nobody upgrades it.
    let deadline = Duration::from_millis(200);
    let post = Post::new(vec![event(1), event(2)]).with_deadline(deadline);
    let report = soon(post.to(std::slice::from_ref(&relay.url))).await.unwrap();
    assert_eq!(report.events[1].outcome(), PublishOutcome::NotSent);
    assert_eq!(report.failed, [(relay.url.clone(), "no connection within 200ms".to_owned())]);
}

#[tokio::test]
async fn a_private_address_is_not_posted_to_under_the_public_rule() {
    let relay = Relay::start().await;
    let post = Post::new(vec![event(1)]).with_addresses(Addresses::Public);
    let report = post.to(std::slice::from_ref(&relay.url)).await.unwrap();
    assert_eq!(report.events[0].outcome(), PublishOutcome::NotSent);
    assert_eq!(report.failed, [(relay.url.clone(), "address is not wss or https".to_owned())]);
    assert!(relay.is_left_alone().await);
}
