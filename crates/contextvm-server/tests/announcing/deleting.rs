//! How announcements are taken back.
use std::time::{Duration, Instant};

use contextvm_local_relay::{Faults, LocalRelay};
use contextvm_relay::QueryOutcome;
use contextvm_server::announce::{AnnounceTargets, DeleteOptions, DeleteReport, delete};
use contextvm_server::{AnnounceOptions, Profile};

use crate::stage::{App, announced, builder, keys, leave, options, relay, stored, stored_kinds, tags};

fn targets(own: &LocalRelay, bootstrap: &[&LocalRelay]) -> AnnounceTargets {
    let bootstrap: Vec<String> = bootstrap.iter().map(|relay| relay.url()).collect();
    AnnounceTargets::new(&[own.url()], Some(&bootstrap)).unwrap()
}

fn deleting() -> DeleteOptions {
    DeleteOptions { deadline: Duration::from_secs(2), ..DeleteOptions::default() }
}

/// Publishes everything, a profile too, on two relays, and stops.
async fn left_behind() -> (LocalRelay, LocalRelay) {
    let (own, further) = (relay().await, relay().await);
    let profile = Some(Profile { name: Some("n".to_owned()), ..Profile::default() });
    let options = AnnounceOptions { bootstrap: Some(vec![further.url()]), profile, ..options() };
    let (handle, announcing, _) = announced(builder(&[&own]), &App::legacy(), options).await;
    drop(announcing);
    handle.shutdown().await;
    assert_eq!(stored_kinds(&further).await, [0, 10002, 11316, 11317, 11320]);
    (own, further)
}

fn kinds(report: &DeleteReport) -> Vec<u16> {
    report.deleted.iter().map(|deleted| deleted.kind).collect()
}

#[tokio::test]
async fn slow_relays_are_waited_for_and_every_kind_is_named_by_id_address_and_kind() {
    let (own, further) = left_behind().await;
    further.set_faults(Faults { latency: Duration::from_millis(400), ..Faults::default() });
    let announced = stored(&own).await;
    let dry = DeleteOptions { dry_run: true, ..deleting() };
    let planned = delete(&keys(), &targets(&own, &[&further]), dry).await.unwrap();
    assert_eq!((kinds(&planned), stored(&own).await), (vec![11316, 11317, 11320], announced.clone()));
    let report = delete(&keys(), &targets(&own, &[&further]), deleting()).await.unwrap();
    assert_eq!(kinds(&report), [11316, 11317, 11320]);
    assert!(report.is_complete());
    for deleted in &report.deleted {
        let id = crate::stage::of_kind(&announced, deleted.kind).id.to_hex();
        let address = format!("{}:{}:", deleted.kind, keys().public_key().to_hex());
        let kind = deleted.kind.to_string();
        assert_eq!(tags(&deleted.request), [["e", &id], ["a", &address], ["k", &kind]]);
        assert_eq!(deleted.request.content, "Service offline");
    }
    for relay in [&own, &further] {
        assert_eq!(stored_kinds(relay).await, [0, 5, 5, 5, 10002]);
    }
}

/// Readers and many relays refuse what is stamped far ahead; the request must not be, or it would delete nothing.
#[tokio::test]
async fn what_is_stamped_far_ahead_is_deleted_by_a_request_of_now() {
    let relay = relay().await;
    let now = contextvm_runtime::clock::unix_now();
    leave(&relay, 11316, now + 3_600).await;
    leave(&relay, 11317, now + 300).await;
    let report = delete(&keys(), &targets(&relay, &[]), deleting()).await.unwrap();
    let stamps: Vec<_> = report.deleted.iter().map(|deleted| deleted.request.created_at.as_secs()).collect();
    assert!((now..now + 60).contains(&stamps[0]), "{stamps:?} at {now}");
    assert_eq!(stamps[1], now + 300);
    assert!(report.is_complete());
    assert_eq!(stored_kinds(&relay).await, [5, 5]);
}

#[tokio::test]
async fn a_relay_list_and_a_profile_are_deleted_when_that_is_asked_for() {
    let (own, further) = left_behind().await;
    let all = DeleteOptions { relay_list: true, profile: true, reason: "moved".to_owned(), ..deleting() };
    let report = delete(&keys(), &targets(&own, &[&further]), all).await.unwrap();
    assert_eq!(kinds(&report), [0, 10002, 11316, 11317, 11320]);
    assert_eq!(stored_kinds(&further).await, [5; 5]);
    let again = delete(&keys(), &targets(&own, &[&further]), deleting()).await.unwrap();
    assert!(again.deleted.is_empty() && again.is_complete(), "there is nothing left");
}

#[tokio::test]
async fn versions_that_differ_between_relays_are_all_named_and_dead_relays_are_said() {
    let (own, further) = left_behind().await;
    // The first relay has missed a later version.
    let later = announced(builder(&[&further]), &App::legacy(), options()).await;
    drop(later);
    let ids: Vec<_> = [&own, &further].map(stored).into_iter().collect();
    let mut tools = Vec::new();
    for stored in ids {
        tools.push(crate::stage::of_kind(&stored.await, 11317).id);
    }
    assert_ne!(tools[0], tools[1]);
    let dead = relay().await;
    let targets = targets(&own, &[&further, &dead]);
    dead.shutdown().await;
    let report = delete(&keys(), &targets, deleting()).await.unwrap();
    let deleted = report.deleted.iter().find(|deleted| deleted.kind == 11317).unwrap();
    assert_eq!(deleted.ids, tools);
    assert!(deleted.is_taken() && !report.is_complete());
    assert!(matches!(&report.asked[2].1, QueryOutcome::Failed(_)), "{:?}", report.asked);
    assert_eq!(stored_kinds(&own).await, [0, 5, 5, 5, 10002]);
}

#[tokio::test]
async fn what_a_silent_relay_does_not_show_is_deleted_by_what_is_known() {
    let own = relay().await;
    let (handle, announcing, _) = announced(builder(&[&own]), &App::legacy(), options()).await;
    let known = announcing.ids();
    drop((handle, announcing));
    own.set_faults(Faults { refuse_subscriptions: Some("restricted: no".to_owned()), ..Faults::default() });
    let report = delete(&keys(), &targets(&own, &[]), DeleteOptions { known, ..deleting() }).await.unwrap();
    assert_eq!(kinds(&report), [11316, 11317, 11320]);
    own.set_faults(Faults::default());
    assert_eq!(stored_kinds(&own).await, [5, 5, 5, 10002]);
}

#[tokio::test]
async fn withdrawing_deletes_what_the_run_published_and_a_later_run_may_announce_again() {
    let own = relay().await;
    let (handle, announcing, _) = announced(builder(&[&own]), &App::legacy(), options()).await;
    let report = announcing.withdraw("closing").await.unwrap();
    assert_eq!(kinds(&report), [10002, 11316, 11317, 11320]);
    assert_eq!(stored_kinds(&own).await, [5; 4]);
    handle.shutdown().await;
    let (_handle, _announcing, _) = announced(builder(&[&own]), &App::legacy(), options()).await;
    let kinds = stored_kinds(&own).await;
    assert_eq!(kinds[kinds.len() - 4..], [10002, 11316, 11317, 11320], "even within the same second");
}

#[tokio::test]
async fn withdrawing_does_not_wait_long_for_a_relay_that_hangs() {
    let own = relay().await;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bootstrap = Some(vec![format!("ws://{}", hanging.local_addr().unwrap())]);
    let options = AnnounceOptions { bootstrap, deadline: Duration::from_millis(200), ..options() };
    let (_handle, announcing, _) = announced(builder(&[&own]), &App::legacy(), options).await;
    let begin = Instant::now();
    let report = announcing.withdraw("closing").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(9), "an operator waits for it");
    assert!(
        !report.is_complete() && report.deleted.iter().all(contextvm_server::announce::Deleted::is_taken)
    );
    assert_eq!(stored_kinds(&own).await, [5; 4]);
}
