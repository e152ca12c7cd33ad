//! Relays that are added and removed while others are in use.

use crate::support::{PATIENCE, Relay, config, soon};
use contextvm_relay::{Addresses, DialError, RelayStatus, Relays};
use futures_util::FutureExt as _;
use nostr::types::RelayUrl;

/// Waits until a relay could not be reached.
async fn unreachable(relays: &Relays, number: u16) -> RelayStatus {
    soon(async {
        loop {
            let status = relays.statuses().into_iter().find(|status| status.relay == number).unwrap();
            if status.unreachable.is_some() {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn relays_that_a_stranger_named_lead_to_public_addresses_only_though_ours_may_be_local() {
    let (ours, inner) = (Relay::start().await, Relay::start().await);
    let (relays, _inbox) = Relays::connect(config([ours.url.clone()])).unwrap();
    let (_peer, _) = ours.accept_live().await;
    assert!(relays.ready(PATIENCE).await);
    let plain = relays.add(inner.url.clone(), Addresses::Public).unwrap();
    assert_eq!(unreachable(&relays, plain).await.unreachable, Some(DialError::Plain));
    let secure = RelayUrl::parse(&inner.url.to_string().replace("ws://", "wss://")).unwrap();
    let secure = relays.add(secure, Addresses::Public).unwrap();
    let private = DialError::Private([127, 0, 0, 1].into());
    assert_eq!(unreachable(&relays, secure).await.unreachable, Some(private));
    assert!(inner.is_left_alone().await);
    // What is there already keeps its number and its rule.
    assert_eq!(relays.add(ours.url.clone(), Addresses::Public), Ok(0));
    assert_eq!(relays.add(inner.url.clone(), Addresses::Any), Ok(plain));
}

#[tokio::test]
async fn a_relay_added_again_while_it_is_being_removed_is_connected_again() {
    let relay = Relay::start().await;
    let (relays, _inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    for _ in 0..10 {
        let (_peer, _) = relay.accept_live().await;
        assert!(relays.ready(PATIENCE).await);
        let removal = relays.remove(&relay.url);
        let addition = async { relays.add(relay.url.clone(), Addresses::Any).unwrap() };
        soon(async { tokio::join!(removal, addition) }).await;
    }
    relay.accept_live().await;
    // A removal that nobody waits for is carried out all the same.
    assert!(relays.remove(&relay.url).now_or_never().is_none());
    relays.add(relay.url.clone(), Addresses::Any).unwrap();
    relay.accept_live().await;
}

#[tokio::test]
async fn addresses_that_look_alike_without_their_end_are_relays_of_their_own() {
    let relay = Relay::start().await;
    let [plain, odd] =
        [r"/path", r"/path\"].map(|end| RelayUrl::parse(&format!("{}{end}", relay.url)).unwrap());
    assert_ne!(plain, odd);
    let (relays, _inbox) = Relays::connect(config([plain])).unwrap();
    let (_one, _) = relay.accept_live().await;
    relays.add(odd, Addresses::Any).unwrap();
    let (_other, _) = relay.accept_live().await;
    assert_eq!(relays.statuses().len(), 2);
}
