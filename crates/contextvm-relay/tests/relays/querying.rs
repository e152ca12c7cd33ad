//! One-shot fetches: what came in time is returned, and nobody is waited for in vain.

use std::time::Duration;

use crate::support::{PATIENCE, Relay, soon};
use contextvm_relay::{Addresses, Query, QueryOutcome, RelayError};
use nostr::types::RelayUrl;
use serde_json::json;

const FILTER: &str = r#"{"kinds":[10002]}"#;

#[tokio::test]
async fn events_of_all_relays_are_collected_until_each_has_said_everything() {
    let (a, b) = (Relay::start().await, Relay::start().await);
    let urls = [a.url.clone(), b.url.clone(), a.url.clone()];
    let asked = tokio::spawn(async move { Query::new(FILTER).with_deadline(PATIENCE).ask(&urls).await });
    for (relay, number) in [(&a, 1), (&b, 2)] {
        let mut peer = relay.accept().await;
        let (subscription, filters) = peer.req().await;
        assert_eq!(filters[0]["kinds"], json!([10002]));
        peer.say(&json!(["EVENT", "other", {"n": 0}])).await;
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
        peer.say(&json!(["EOSE", subscription])).await;
        while peer.hear().await.is_some() {}
    }
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!(report.events, [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(report.per_relay.len(), 2);
    assert!(report.per_relay.iter().all(|(_, outcome)| *outcome == QueryOutcome::Complete));
}

#[tokio::test]
async fn one_silent_and_one_dead_relay_cost_the_short_wait_only() {
    let (good, silent) = (Relay::start().await, Relay::start().await);
    let urls = [RelayUrl::parse("ws://127.0.0.1:1").unwrap(), silent.url.clone(), good.url.clone()];
    let asked = tokio::spawn(async move { Query::new(FILTER).with_deadline(PATIENCE * 10).ask(&urls).await });
    let mut quiet = silent.accept().await;
    let (subscription, _) = quiet.req().await;
    quiet.say(&json!(["EVENT", subscription, {"n": 1}])).await;
    let mut peer = good.accept().await;
    let (subscription, _) = peer.req().await;
    peer.say(&json!(["EOSE", subscription])).await;
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!(report.events, [r#"{"n":1}"#], "what the silent relay had said counts");
    assert!(matches!(report.per_relay[0].1, QueryOutcome::Failed(_)));
    assert_eq!(report.per_relay[1].1, QueryOutcome::Late);
    assert_eq!(report.per_relay[2].1, QueryOutcome::Complete);
}

#[tokio::test]
async fn one_relay_cannot_fill_the_report() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let asked = tokio::spawn(async move { Query::new(FILTER).with_events(3).ask(&urls).await });
    let mut peer = relay.accept().await;
    let (subscription, _) = peer.req().await;
    for number in 0..3 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
    }
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!((report.events.len(), &report.per_relay[0].1), (3, &QueryOutcome::Complete));
}

#[tokio::test]
async fn refusals_bad_filters_and_private_addresses_are_told_apart() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    assert_eq!(Query::new("[]").ask(&urls).await, Err(RelayError::Filter));
    let public = Query::new(FILTER).with_addresses(Addresses::Public).ask(&urls).await.unwrap();
    assert_eq!(public.per_relay[0].1, QueryOutcome::Failed("address is not wss".to_owned()));
    let asked =
        tokio::spawn(async move { contextvm_relay::query(&urls, FILTER, Duration::from_secs(20)).await });
    let mut peer = relay.accept().await;
    let (subscription, _) = peer.req().await;
    peer.say(&json!(["CLOSED", subscription, "restricted: no"])).await;
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!(report.per_relay[0].1, QueryOutcome::Failed("restricted: no".to_owned()));
}
