//! Tests of relay resolution that ask no relay.
use contextvm_core::identity::ServerIdentity;
use contextvm_crypto::Keys;

use super::*;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

fn options() -> ClientOptions {
    ClientOptions::new(keys(1), ServerIdentity::from(keys(2).public_key()))
}

fn urls(resolved: &Resolved) -> Vec<&str> {
    resolved.relays.iter().map(|url| url.as_str().trim_end_matches('/')).collect()
}

#[tokio::test]
async fn configured_relays_win_over_everything() {
    let mut options = options();
    options.relays = vec!["ws://127.0.0.1:7777".into()];
    options.server.relays = vec!["wss://hint.example".into()];
    options.fallback_relays = vec!["wss://fallback.example".into()];
    let resolved = resolve(&options).await.unwrap();
    assert_eq!((urls(&resolved), resolved.source), (vec!["ws://127.0.0.1:7777"], Source::Configured));
    assert_eq!(resolved.addresses, Addresses::Any);
}

#[tokio::test]
async fn hints_win_over_discovery_and_stay_outside_our_network() {
    let mut options = options();
    options.server.relays =
        ["ws://plain.example", "wss://10.0.0.8", "wss://hint.example"].map(Into::into).to_vec();
    let resolved = resolve(&options).await.unwrap();
    assert_eq!((urls(&resolved), resolved.source), (vec!["wss://hint.example"], Source::Hints));
    assert_eq!(resolved.addresses, Addresses::Public);
}

#[tokio::test]
async fn local_hints_are_taken_only_when_asked_for_by_name() {
    let mut options = options();
    options.server.relays = vec!["ws://127.0.0.1:7777".into()];
    options.discovery_relays = Some(Vec::new());
    assert_eq!(resolve(&options).await, Err(Error::NoRelays));
    options.dangerous_local_relays = true;
    assert_eq!(resolve(&options).await.unwrap().source, Source::Hints);
}

#[tokio::test]
async fn without_discovery_relays_the_fallback_is_used() {
    let mut options = options();
    options.discovery_relays = Some(Vec::new());
    options.fallback_relays = vec!["wss://fallback.example".into()];
    let resolved = resolve(&options).await.unwrap();
    assert_eq!((urls(&resolved), resolved.source), (vec!["wss://fallback.example"], Source::Fallback));
}

#[tokio::test]
async fn a_configured_address_that_does_not_parse_is_named_by_its_place() {
    let bad = || vec!["wss://good.example".into(), "https://bad.example".into()];
    let relays = ClientOptions { relays: bad(), ..options() };
    assert_eq!(resolve(&relays).await, Err(Error::RelayUrl(1)));
    // A fallback is read before it is needed, not after the time that the search for a list takes.
    let fallback = ClientOptions { fallback_relays: bad(), ..options() };
    assert_eq!(resolve(&fallback).await, Err(Error::RelayUrl(1)));
}
