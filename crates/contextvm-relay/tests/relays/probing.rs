//! What a probe finds out about relays that are known to be so.
use std::time::Duration;

use crate::support::soon;
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_relay::{Probe, ProbeReport, RelayOutcome};
use nostr::types::RelayUrl;

async fn relay(options: RelayOptions) -> (LocalRelay, RelayUrl) {
    let relay = LocalRelay::start(options).await.unwrap();
    let url = RelayUrl::parse(&relay.url()).unwrap();
    (relay, url)
}

async fn probe(url: RelayUrl) -> ProbeReport {
    soon(Probe::new(url).run()).await.unwrap()
}

#[tokio::test]
async fn an_honest_relay_is_good_for_everything_and_is_left_clean() {
    let (relay, url) = relay(RelayOptions::default()).await;
    let report = probe(url.clone()).await;
    assert_eq!(report.url, url);
    assert!(report.reached.as_ref().is_ok_and(|reached| reached.tls.is_none() && reached.version.is_none()));
    assert_eq!(report.info.as_ref().unwrap().name.as_deref(), Some("contextvm-local-relay"));
    assert!(report.request.is_ok());
    assert!(!report.authenticated);
    assert_eq!(report.kinds.iter().map(|finding| finding.kind).collect::<Vec<_>>(), Probe::KINDS);
    for finding in &report.kinds {
        let kept = !matches!(finding.kind, 25910 | 21059);
        assert_eq!(finding.outcome, RelayOutcome::Accepted, "{finding:?}");
        assert!(finding.echo.is_some(), "{finding:?}");
        assert_eq!(finding.stored, Some(kept), "{finding:?}");
        assert_eq!(finding.replaced, (finding.kind == 11316).then_some(true), "{finding:?}");
    }
    let sizes: Vec<(usize, bool)> =
        report.sizes.iter().map(|finding| (finding.bytes, finding.outcome.is_success())).collect();
    assert_eq!(sizes, [(65_536, true), (131_072, true), (262_144, false)]);
    assert_eq!(report.largest(), Some(131_072));
    assert_eq!(report.clock_window(), (-172_800, 3_600));
    assert!(report.good_for_messages() && report.good_for_announcements() && report.good_for_reviews());
    assert_eq!(report.cleanup, Some(RelayOutcome::Accepted));
    assert_eq!(relay.stats().stored, 1, "only the deletion is left");
}

#[tokio::test]
async fn what_a_relay_refuses_is_found_in_its_own_words() {
    let words = "unhandled event kind".to_owned();
    let options = RelayOptions {
        refused_kinds: [(1111, words.clone()), (25_910, words.clone())].into(),
        max_age: Some(Duration::from_secs(900 + 60)),
        max_ahead: Some(Duration::from_secs(100)),
        max_event: 70_000,
        auth: true,
        ..RelayOptions::default()
    };
    let (_relay, url) = relay(options).await;
    let report = probe(url).await;
    assert!(report.authenticated);
    assert_eq!(report.kind(1111).unwrap().outcome, RelayOutcome::Refused(words));
    assert_eq!(report.kind(1111).unwrap().echo, None);
    assert!(!report.good_for_reviews() && !report.good_for_messages() && report.good_for_announcements());
    assert!(report.kind(21059).unwrap().echo.is_some());
    assert_eq!(report.largest(), Some(65_536));
    assert_eq!(report.sizes.len(), 2, "it stops at the first refusal");
    assert_eq!(report.clock_window(), (-900, 60));
    let declared = report.info.unwrap().limitation;
    assert_eq!((declared.created_at_lower_limit, declared.auth_required), (Some(960), Some(true)));
}

#[tokio::test]
async fn a_relay_that_keeps_ephemeral_events_is_seen_through_and_cleaned() {
    let faults = Faults { strict_ephemeral: false, ..Faults::default() };
    let (relay, url) = relay(RelayOptions { faults, ..RelayOptions::default() }).await;
    let report = probe(url).await;
    for finding in &report.kinds {
        assert_eq!(finding.stored, Some(true), "{finding:?}");
    }
    assert_eq!(report.cleanup, Some(RelayOutcome::Accepted));
    assert_eq!(relay.stats().stored, 1, "only the deletion is left, not even the large events");
}

#[tokio::test]
async fn a_relay_that_takes_messages_and_passes_none_on_is_good_for_nothing() {
    let refused = Probe::KINDS[1..].iter().map(|kind| (*kind, "blocked: no".to_owned())).collect();
    let faults = Faults { drop: 1.0, ..Faults::default() };
    let (_relay, url) =
        relay(RelayOptions { faults, refused_kinds: refused, ..RelayOptions::default() }).await;
    let report = soon(Probe::new(url).with_step(Duration::from_secs(1)).run()).await.unwrap();
    let message = report.kind(25910).unwrap();
    assert_eq!((&message.outcome, message.echo), (&RelayOutcome::Accepted, None));
    assert!(!report.good_for_messages() && !report.good_for_announcements() && !report.good_for_reviews());
    assert_eq!(report.cleanup, None, "nothing was left to be deleted");
}

#[tokio::test]
async fn a_passive_probe_leaves_no_trace() {
    let (relay, url) = relay(RelayOptions { auth: true, ..RelayOptions::default() }).await;
    let report = soon(Probe::new(url).passive().run()).await.unwrap();
    assert!(report.reached.is_ok() && report.info.is_ok());
    assert_eq!(report.request, Err("auth-required: authenticate to read".to_owned()));
    assert!(report.kinds.is_empty() && report.sizes.is_empty() && report.clock.is_empty());
    assert_eq!((report.cleanup, relay.stats().received), (None, 0));
}

#[tokio::test]
async fn dead_and_mute_relays_cost_bounded_time() {
    let dead = probe(RelayUrl::parse("ws://127.0.0.1:1").unwrap()).await;
    assert!(dead.reached.is_err() && dead.info.is_err() && dead.request.is_err() && dead.kinds.is_empty());
    let faults = Faults { mute: true, ..Faults::default() };
    let (_relay, url) = relay(RelayOptions { faults, ..RelayOptions::default() }).await;
    let step = Duration::from_millis(300);
    let report = soon(Probe::new(url).with_step(step).run()).await.unwrap();
    assert!(report.reached.is_ok());
    assert!(report.request.is_err());
    assert!(report.kinds.iter().all(|finding| finding.outcome == RelayOutcome::NoAnswer));
    assert!(report.kinds.iter().all(|finding| finding.stored.is_none() && finding.echo.is_none()));
    assert!(!report.good_for_messages() && report.sizes.is_empty());
}
