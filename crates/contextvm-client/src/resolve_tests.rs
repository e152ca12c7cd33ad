//! Tests of relay resolution that need no network; the ones with relays are in `tests/`.
use contextvm_core::identity::ServerIdentity;
use contextvm_crypto::Keys;
use nostr::event::{Tag, Tags};

use super::*;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

fn options() -> ClientOptions {
    ClientOptions::new(keys(1), ServerIdentity::from(keys(2).public_key()))
}

fn list(author: &Keys, created_at: u64, entries: &[&[&str]]) -> String {
    let tags = entries.iter().map(|entry| Tag::custom("r", entry.iter().copied()));
    let event = author.sign_event(
        kind::RELAY_LIST,
        created_at,
        Tags::from_list(tags.collect()),
        String::new(),
        [0; 32],
    );
    serde_json::to_string(&event).unwrap()
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
    let mut options = options();
    options.relays = vec!["wss://good.example".into(), "https://bad.example".into()];
    assert_eq!(resolve(&options).await, Err(Error::RelayUrl(1)));
}

#[test]
fn the_newest_list_wins_and_only_the_server_signs_it() {
    let server = keys(2);
    let old = list(&server, 100, &[&["wss://old.example"]]);
    let new = list(&server, 200, &[&["wss://new.example"]]);
    let foreign = list(&keys(3), 300, &[&["wss://foreign.example"]]);
    let forged = list(&server, 400, &[&["wss://forged.example"]]).replace("forged.example", "stolen.example");
    let events = [old.as_str(), &new, &foreign, &forged, "not json"];
    let event = newest(events.into_iter(), server.public_key()).unwrap();
    assert_eq!(listed(&event).collect::<Vec<_>>(), ["wss://new.example"]);
    assert!(newest([foreign.as_str(), &forged].into_iter(), server.public_key()).is_none());
}

#[test]
fn unmarked_entries_win_over_marked_ones() {
    let server = keys(2);
    let parse = |json: &str| serde_json::from_str::<Event>(json).unwrap();
    let mixed = parse(&list(
        &server,
        1,
        &[&["wss://r.example", "read"], &["wss://u.example"], &["wss://e.example", ""]],
    ));
    assert_eq!(listed(&mixed).collect::<Vec<_>>(), ["wss://u.example", "wss://e.example"]);
    let marked = parse(&list(
        &server,
        1,
        &[&["wss://w.example", "write"], &["wss://r.example", "read"], &["wss://x.example", "other"]],
    ));
    assert_eq!(listed(&marked).collect::<Vec<_>>(), ["wss://r.example", "wss://w.example"]);
}

#[test]
fn a_list_of_a_thousand_relays_is_cut_to_the_limits() {
    let many: Vec<String> = (0..1_000).map(|n| format!("wss://r{n}.example")).collect();
    let taken = usable(many.iter().map(String::as_str), Trust::Public, &options());
    assert_eq!(taken.len(), options().config.limits.relays_dialled);
    let late = ["ws://a.example"; 8].into_iter().chain(["wss://ninth.example"]);
    assert!(usable(late, Trust::Public, &options()).is_empty());
}

#[test]
fn private_addresses_are_known_by_their_text() {
    let local = [
        "ws://localhost:1",
        "wss://127.0.0.1",
        "wss://[::1]:8",
        "wss://192.168.1.1/x",
        "wss://printer.local",
    ];
    for url in local {
        assert!(is_local(&RelayUrl::parse(url).unwrap()), "{url}");
    }
    for url in ["wss://relay.example", "wss://1.1.1.1", "wss://local.example"] {
        assert!(!is_local(&RelayUrl::parse(url).unwrap()), "{url}");
    }
}
