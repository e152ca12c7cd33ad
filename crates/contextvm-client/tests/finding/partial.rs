//! Several relays at once: merged answers, dead and slow relays, and answers in pages.
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm_client::{DiscoverError, Discovery, Role, Scope};
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_relay::QueryOutcome;

use crate::support::*;

#[tokio::test]
async fn the_newest_of_each_server_is_found_over_all_relays() {
    let (one, other) = (relay().await, relay().await);
    publish(&one, [announcement(&keys(1), NOW - 50, "old"), announcement(&keys(2), NOW, "b")]).await;
    publish(&other, [announcement(&keys(1), NOW - 10, "new"), announcement(&keys(3), NOW, "c")]).await;
    let found = discovery(&[&one.url(), &other.url()]).servers(&Scope::default()).await.unwrap();
    assert_eq!(names(&found), ["b", "c", "new"]);
    assert_eq!((found.answered(), found.is_partial()), (2, false));
    let behind = answer(&found.per_relay, &one.url());
    assert_eq!((behind.events, behind.stale, behind.invalid, behind.unwanted), (2, 1, 0, 0));
    assert_eq!(answer(&found.per_relay, &other.url()).stale, 0);
    let entry = found.directory.server(&keys(1).public_key()).unwrap();
    assert_eq!(entry.server().unwrap().age(NOW), 10);
}

#[tokio::test]
async fn one_dead_relay_of_three_is_named_and_the_others_answer() {
    let (one, other, dead) = (relay().await, relay().await, dead().await);
    publish(&one, [announcement(&keys(1), NOW, "a")]).await;
    publish(&other, [announcement(&keys(2), NOW, "b")]).await;
    let found = discovery(&[&one.url(), &dead, &other.url()]).servers(&Scope::default()).await.unwrap();
    assert_eq!(names(&found), ["a", "b"]);
    assert_eq!((found.answered(), found.per_relay.len(), found.is_partial()), (2, 3, true));
    let missing = answer(&found.per_relay, &dead);
    assert!(
        matches!(&missing.outcome, QueryOutcome::Failed(why) if why.contains("cannot connect")),
        "{missing:?}"
    );
    assert!(!missing.has_answered());
}

#[tokio::test]
async fn when_no_relay_answers_nothing_is_known_which_is_not_nothing_found() {
    let (first, second) = (dead().await, dead().await);
    let search = discovery(&[&first, &second]);
    for scope in [Scope::default(), Scope { profiles: true, reviews: true, ..Scope::default() }] {
        let Err(DiscoverError::NoneAnswered(answers)) = search.servers(&scope).await else {
            panic!("answered")
        };
        assert_eq!(answers.len(), 2);
    }
    let server = search.server(&keys(1).public_key().into()).await;
    assert!(matches!(server, Err(DiscoverError::NoneAnswered(_))));
    // One empty relay that answers makes the difference.
    let empty = relay().await;
    let found = discovery(&[&first, &empty.url()]).servers(&Scope::default()).await.unwrap();
    assert_eq!((names(&found).len(), found.answered(), found.is_partial()), (0, 1, true));
}

#[tokio::test]
async fn no_relay_and_a_wrong_address_are_told_before_anything_is_asked() {
    let nowhere = Discovery::new::<&str>(&[]).unwrap().servers(&Scope::default()).await;
    assert_eq!(nowhere.err(), Some(DiscoverError::NoRelays));
    let wrong = Discovery::new(&["wss://a.example", "https://b.example"]);
    assert_eq!(wrong.err(), Some(DiscoverError::RelayUrl(1)));
}

#[tokio::test]
async fn a_relay_that_never_ends_costs_its_own_deadline_and_what_it_said_counts() {
    let (honest, endless, mute) = (relay().await, relay().await, relay().await);
    publish(&honest, [announcement(&keys(1), NOW, "a")]).await;
    publish(&endless, [announcement(&keys(2), NOW, "b")]).await;
    endless.set_faults(Faults { no_eose: true, ..Faults::default() });
    mute.set_faults(Faults { mute: true, ..Faults::default() });
    let started = Instant::now();
    let relays = [honest.url(), endless.url(), mute.url()];
    let search = Discovery::new(&relays).unwrap().with_deadline(Duration::from_millis(500)).at(NOW);
    let found = search.servers(&Scope { profiles: true, ..Scope::default() }).await.unwrap();
    // The second round leaves out those that did not answer in full.
    assert!(started.elapsed() < Duration::from_millis(1_400), "{:?}", started.elapsed());
    assert_eq!(names(&found), ["a", "b"]);
    assert_eq!(answer(&found.per_relay, &endless.url()).outcome, QueryOutcome::Late);
    assert!(answer(&found.per_relay, &endless.url()).has_answered());
    assert!(!answer(&found.per_relay, &mute.url()).has_answered());
    assert!(answer(&found.per_relay, &honest.url()).took < Duration::from_millis(500));
}

#[tokio::test]
async fn a_relay_that_caps_its_answers_is_asked_for_older_ones() {
    let capped = LocalRelay::start(RelayOptions { max_limit: 25, ..RelayOptions::default() }).await.unwrap();
    let servers =
        (1..=110_u8).map(|byte| announcement(&keys(byte), NOW - u64::from(byte / 4), &format!("s{byte}")));
    publish(&capped, servers).await;
    let found =
        discovery(&[&capped.url()]).with_deadline(Duration::from_secs(5)).servers(&Scope::default()).await;
    let found = found.unwrap();
    assert_eq!(found.directory.servers().count(), 110);
    assert!(!found.is_partial(), "{:?}", found.per_relay);
}

#[tokio::test]
async fn the_second_round_brings_profiles_and_the_first_reviews_of_those_that_were_found() {
    let relay = relay().await;
    let (server, person) = (keys(1), keys(2));
    let profile = |keys| signed(keys, 0, NOW, &[], r#"{"name":"n","nip05":"n@example.com"}"#);
    let root = format!("11316:{}:", server.public_key().to_hex());
    let review = signed(&person, 1111, NOW, &[&["A", &root], &["K", "11316"], &["k", "11316"]], "Good.");
    let other = signed(&person, 1111, NOW, &[&["A", "1:x:"], &["K", "1"]], "About a note.");
    publish(&relay, [announcement(&server, NOW, "a"), profile(&server), profile(&person), review, other])
        .await;
    let bare = discovery(&[&relay.url()]).servers(&Scope::default()).await.unwrap();
    let entry = bare.directory.server(&server.public_key()).unwrap();
    assert!(entry.profile().is_none() && entry.reviews().is_empty());
    let scope = Scope { profiles: true, reviews: true, ..Scope::default() };
    let full = discovery(&[&relay.url()]).servers(&scope).await.unwrap();
    let entry = full.directory.server(&server.public_key()).unwrap();
    assert_eq!(entry.profile().unwrap().document.nip05.as_deref(), Some("n@example.com"));
    assert_eq!(entry.reviews().len(), 1);
    assert_eq!(full.directory.servers().count(), 1);
    assert_eq!(full.per_relay.len(), 1);
    assert_eq!(full.per_relay[0].role, Role::Discovery);
}

#[tokio::test]
async fn a_scope_of_authors_and_times_is_kept() {
    let relay = relay().await;
    publish(
        &relay,
        [1, 2, 3].map(|byte| announcement(&keys(byte), NOW - u64::from(byte), &format!("s{byte}"))),
    )
    .await;
    let of = |scope: Scope| {
        let url = relay.url();
        async move { names(&discovery(&[&url]).servers(&scope).await.unwrap()) }
    };
    let authors = vec![keys(1).public_key(), keys(3).public_key()];
    assert_eq!(of(Scope { authors: authors.clone(), ..Scope::default() }).await, ["s1", "s3"]);
    assert_eq!(of(Scope { since: Some(NOW - 2), ..Scope::default() }).await, ["s1", "s2"]);
    assert_eq!(of(Scope { since: Some(NOW - 2), authors, ..Scope::default() }).await, ["s1"]);
}

#[tokio::test]
async fn a_relay_that_asks_who_we_are_is_answered_only_when_there_is_a_signer() {
    let private = LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap();
    let anonymous = discovery(&[&private.url()]).servers(&Scope::default()).await;
    let Err(DiscoverError::NoneAnswered(answers)) = anonymous else { panic!("answered") };
    assert!(matches!(&answers[0].outcome, QueryOutcome::Failed(why) if why.contains("auth")), "{answers:?}");
    let known = discovery(&[&private.url()]).with_signer(Arc::new(keys(9))).servers(&Scope::default()).await;
    assert_eq!(known.unwrap().answered(), 1);
}
