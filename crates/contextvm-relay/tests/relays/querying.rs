//! One-shot fetches: what came in time is returned, and nobody is waited for in vain.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, Relay, soon};
use contextvm_crypto::Keys;
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
    let events: Vec<_> = report.events().collect();
    assert_eq!(events, [(&a.url, r#"{"n":1}"#), (&b.url, r#"{"n":2}"#)]);
    assert_eq!(report.per_relay.len(), 2);
    assert!(report.is_complete());
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
    let events: Vec<_> = report.events().collect();
    assert_eq!(events, [(&silent.url, r#"{"n":1}"#)], "what the silent relay had said counts");
    let [dead, late, full] = &report.per_relay[..] else { panic!("{report:?}") };
    assert!(matches!(dead.outcome, QueryOutcome::Failed(_)));
    assert_eq!((&late.outcome, &full.outcome), (&QueryOutcome::Late, &QueryOutcome::Complete));
    assert!(late.took >= full.took + Duration::from_secs(1), "{report:?}");
    assert!(!report.is_complete());
}

#[tokio::test]
async fn one_relay_cannot_fill_the_report_and_is_not_said_to_have_answered_in_full() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let asked = tokio::spawn(async move { Query::new(FILTER).with_events(3).ask(&urls).await });
    let mut peer = relay.accept().await;
    let (subscription, _) = peer.req().await;
    for number in 0..3 {
        peer.say(&json!(["EVENT", subscription, {"n": number}])).await;
    }
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!(report.events().count(), 3);
    assert_eq!(report.per_relay[0].outcome, QueryOutcome::Cut);
    assert!(!report.is_complete(), "what is not here may be there");
}

#[tokio::test]
async fn refusals_bad_filters_and_private_addresses_are_told_apart() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    assert_eq!(Query::new("[]").ask(&urls).await, Err(RelayError::Filter));
    assert_eq!(Query::new(FILTER).with_filter("7").ask(&urls).await, Err(RelayError::Filter));
    let public = Query::new(FILTER).with_addresses(Addresses::Public).ask(&urls).await.unwrap();
    assert_eq!(public.per_relay[0].outcome, QueryOutcome::Failed("address is not wss or https".to_owned()));
    let asked =
        tokio::spawn(async move { contextvm_relay::query(&urls, FILTER, Duration::from_secs(20)).await });
    let mut peer = relay.accept().await;
    let (subscription, _) = peer.req().await;
    peer.say(&json!(["CLOSED", subscription, "restricted: no"])).await;
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!(report.per_relay[0].outcome, QueryOutcome::Failed("restricted: no".to_owned()));
}

#[tokio::test]
async fn several_filters_are_one_request_and_a_relay_that_demands_it_learns_who_asks() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let keys = Keys::from_secret_bytes([7; 32]).unwrap();
    let me = keys.public_key().to_hex();
    let query = Query::new(FILTER).with_filter(r#"{"kinds":[0]}"#).with_signer(Arc::new(keys));
    let asked = tokio::spawn(async move { query.with_deadline(PATIENCE).ask(&urls).await });
    let mut peer = relay.accept().await;
    peer.say(&json!(["AUTH", "prove it"])).await;
    let (subscription, filters) = peer.req().await;
    assert_eq!(filters, [json!({"kinds":[10002]}), json!({"kinds":[0]})]);
    peer.say(&json!(["CLOSED", subscription, "auth-required: who are you"])).await;
    let auth = peer.word("AUTH").await;
    assert_eq!((&auth[1]["kind"], auth[1]["pubkey"].as_str()), (&json!(22242), Some(me.as_str())));
    peer.ok(auth[1]["id"].as_str().unwrap(), true, "").await;
    let (subscription, filters) = peer.req().await;
    assert_eq!(filters.len(), 2);
    peer.say(&json!(["EVENT", subscription, {"n": 1}])).await;
    peer.say(&json!(["EOSE", subscription])).await;
    let report = soon(asked).await.unwrap().unwrap();
    assert_eq!((report.events().count(), report.is_complete()), (1, true));
}

#[tokio::test]
async fn without_a_signer_a_demand_for_authentication_is_the_reason_of_the_failure() {
    let relay = Relay::start().await;
    let urls = [relay.url.clone()];
    let asked = tokio::spawn(async move { Query::new(FILTER).with_deadline(PATIENCE).ask(&urls).await });
    let mut peer = relay.accept().await;
    peer.say(&json!(["AUTH", "prove it"])).await;
    let (subscription, _) = peer.req().await;
    peer.say(&json!(["CLOSED", subscription, "auth-required: who are you"])).await;
    let report = soon(asked).await.unwrap().unwrap();
    let reason = "auth-required: who are you".to_owned();
    assert_eq!(report.per_relay[0].outcome, QueryOutcome::Failed(reason));
}
