//! A relay that shows another relay's challenge: what it gets is good for itself alone (NIP-42).
use std::sync::Arc;

use contextvm_crypto::Keys;
use contextvm_relay::Relays;
use nostr::event::Event;
use serde_json::json;

use crate::support::{Relay, config};

#[tokio::test]
async fn a_challenge_of_another_relay_is_signed_for_the_relay_that_was_dialled() {
    let (theirs, honest) = (Relay::start().await, Relay::start().await);
    let keys = Keys::from_secret_bytes([7; 32]).unwrap();
    let relays = config([theirs.url.clone(), honest.url.clone()]).with_signer(Arc::new(keys.clone()));
    let (_relays, _inbox) = Relays::connect(relays).unwrap();
    let ((mut thief, asked), (mut other, _)) = tokio::join!(
        async {
            let mut peer = theirs.accept().await;
            let (subscription, _) = peer.req().await;
            (peer, subscription)
        },
        honest.accept_live()
    );
    // The honest relay's challenge, which the thief has fetched for itself, with its address in every place that there is.
    let challenge = format!("{} challenge-of-the-honest-relay", honest.url);
    other.say(&json!(["AUTH", challenge])).await;
    thief.say(&json!(["AUTH", challenge, honest.url.to_string(), {"relay": honest.url.to_string()}])).await;
    thief.say(&json!(["CLOSED", asked, format!("auth-required: relay={}", honest.url)])).await;
    let frame = thief.word("AUTH").await;
    let event = Event::from_json(frame[1].to_string()).unwrap();
    event.verify().unwrap();
    let named: Vec<_> = event.tags.iter().filter(|tag| tag.kind() == "relay").collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].content(), Some(theirs.url.to_string().as_str()), "the address that was dialled");
    assert!(!event.tags.iter().any(|tag| {
        tag.kind() != "challenge" && tag.as_slice().iter().any(|text| text.contains(&honest.url.to_string()))
    }));
    assert_eq!((event.kind.as_u16(), event.content.as_str()), (22242, ""));
}
