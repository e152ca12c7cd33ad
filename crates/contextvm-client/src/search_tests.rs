//! Tests of the search for a relay list: which list counts, when it is in time, and what a late one may add.
use contextvm_core::event;
use contextvm_core::identity::ServerIdentity;
use contextvm_crypto::Keys;
use contextvm_relay::{QueryAnswer, QueryOutcome, RelaysConfig};
use nostr::event::{Tag, Tags};

use super::*;
use crate::ClientOptions;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

fn list(author: &Keys, created_at: u64, entries: &[&[&str]]) -> Signed {
    let tags = entries.iter().map(|entry| Tag::custom("r", entry.iter().copied()));
    let tags = Tags::from_list(tags.collect());
    let event = author.sign_event(kind::RELAY_LIST, created_at, tags, String::new(), [0; 32]);
    Signed::verify(event).unwrap()
}

/// A search in which one relay after another answers: after so many milliseconds, with this list or without one.
fn search(answers: impl IntoIterator<Item = (u64, Option<Signed>)>) -> Search {
    remembering(Memory::volatile(), answers)
}

fn remembering(memory: Memory, answers: impl IntoIterator<Item = (u64, Option<Signed>)>) -> Search {
    let options = ClientOptions::new(keys(1), ServerIdentity::from(keys(2).public_key()));
    let mut search = Search::silent(options.server.key, Admission::of(&options), memory);
    for (millis, list) in answers {
        search.asked.spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Answer { complete: true, list }
        });
    }
    search
}

fn texts(relays: &[RelayUrl]) -> Vec<&str> {
    relays.iter().map(|url| url.as_str().trim_end_matches('/')).collect()
}

#[test]
fn the_newest_list_wins_and_only_the_server_signs_it() {
    let server = keys(2);
    let text = |list: &Signed| event::print(list);
    let new = list(&server, 200, &[&["wss://new.example"]]);
    let old = text(&list(&server, 100, &[&["wss://old.example"]]));
    let foreign = text(&list(&keys(3), 300, &[&["wss://foreign.example"]]));
    let forged =
        text(&list(&server, 400, &[&["wss://forged.example"]])).replace("forged.example", "stolen.example");
    let report = |outcome: QueryOutcome, events: &[&str]| {
        let events = events.iter().map(ToString::to_string).collect();
        let url = RelayUrl::parse("wss://discovery.example").unwrap();
        QueryReport { per_relay: vec![QueryAnswer { url, outcome, took: Duration::ZERO, events }] }
    };
    let said = |outcome, events: &[&str]| answer(&report(outcome, events), server.public_key());
    let all = said(QueryOutcome::Complete, &[&old, &text(&new), &foreign, &forged, "not json"]);
    assert_eq!((all.list, all.complete), (Some(new), true));
    // One event is all that is taken: who fills the room with another one has not said that there is no list.
    let filled = said(QueryOutcome::Cut, &[&foreign]);
    assert!(filled.list.is_none() && !filled.complete);
    assert!(said(QueryOutcome::Cut, &[&old]).complete && said(QueryOutcome::Complete, &[&forged]).complete);
}

#[tokio::test(start_paused = true)]
async fn a_list_older_than_the_newest_ever_seen_is_refused_and_the_newest_is_used() {
    let server = keys(2);
    let yesterday = list(&server, 1, &[&["wss://yesterday.example"]]);
    let today = list(&server, 2, &[&["wss://today.example"]]);
    let memory = Memory::volatile();
    let first = remembering(memory.clone(), [(100, Some(today))]).soon(Duration::from_secs(3)).await;
    let second = remembering(memory.clone(), [(100, Some(yesterday))]).soon(Duration::from_secs(3)).await;
    let nobody = remembering(memory, [(100, None)]).soon(Duration::from_secs(3)).await;
    for relays in [first, second, nobody] {
        assert_eq!(texts(&relays), ["wss://today.example"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_from_the_future_is_ignored_and_blocks_nothing() {
    let server = keys(2);
    let now = unix_now();
    let future = list(&server, now + 16 * 60, &[&["wss://future.example"]]);
    let soon = list(&server, now + 14 * 60, &[&["wss://soon.example"]]);
    let mut search = search([(100, Some(future)), (200, Some(soon))]);
    assert_eq!(texts(&search.soon(Duration::from_secs(3)).await), ["wss://soon.example"]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_has_no_list_leaves_the_others_a_second() {
    let server = keys(2);
    let new = list(&server, 2, &[&["wss://new.example"]]);
    let old = list(&server, 1, &[&["wss://old.example"]]);
    let started = Instant::now();
    let mut search = search([(100, None), (600, Some(new)), (1_000, Some(old)), (60_000, None)]);
    let relays = search.soon(Duration::from_secs(3)).await;
    assert_eq!(texts(&relays), ["wss://new.example"]);
    assert_eq!(started.elapsed(), Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn relays_that_do_not_answer_cost_the_patience_and_no_more() {
    let started = Instant::now();
    let mut search = search([(60_000, None)]);
    assert!(search.soon(Duration::from_secs(3)).await.is_empty());
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert_eq!(search.late().await, None);
    assert_eq!(started.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_comes_late_is_found_and_so_is_a_newer_one_after_it() {
    let server = keys(2);
    let old = list(&server, 1, &[&["wss://old.example"]]);
    let new = list(&server, 2, &[&["wss://new.example"]]);
    let started = Instant::now();
    let answers =
        [(100, None), (5_000, Some(old.clone())), (5_500, Some(new)), (5_600, Some(old)), (60_000, None)];
    let mut search = search(answers);
    assert!(search.soon(Duration::from_secs(3)).await.is_empty());
    assert_eq!(texts(&search.late().await.unwrap()), ["wss://old.example"]);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(texts(&search.late().await.unwrap()), ["wss://new.example"]);
    assert_eq!(started.elapsed(), Duration::from_millis(5_500));
    assert_eq!(search.late().await, None);
    assert_eq!(started.elapsed(), PATIENCE);
}

/// A relay that is first with an old list decides where the client begins, and not where it stays.
#[tokio::test(start_paused = true)]
async fn a_newer_list_that_needs_longer_than_the_first_one_is_added() {
    let server = keys(2);
    let old = list(&server, 1, &[&["wss://old.example"], &["wss://both.example"]]);
    let new = list(&server, 2, &[&["wss://new.example"], &["wss://both.example"]]);
    let mut search = search([(100, Some(old.clone())), (1_500, Some(new)), (2_000, Some(old))]);
    let first = search.soon(Duration::from_secs(3)).await;
    assert_eq!(texts(&first), ["wss://old.example", "wss://both.example"]);
    assert!(!search.is_over());
    assert_eq!(texts(&search.late().await.unwrap()), ["wss://new.example"]);
    assert_eq!(search.late().await, None);
    assert!(search.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_late_list_does_not_lead_into_our_own_network() {
    let entries: [&[&str]; 6] = [
        &["ws://127.0.0.1:1"],
        &["wss://10.0.0.8"],
        &["wss://[::ffff:127.0.0.1]:1"],
        &["wss://100.64.0.1:1"],
        &["wss://192.168.1.1"],
        &["wss://relay.invalid"],
    ];
    let search = search([(5_000, Some(list(&keys(2), 1, &entries)))]);
    let (relays, _inbox) = Relays::connect(RelaysConfig::new([])).unwrap();
    search.add_to(relays.clone()).await;
    let added: Vec<_> = relays.statuses().into_iter().map(|status| status.url).collect();
    assert_eq!(texts(&added), ["wss://relay.invalid"]);
    relays.shutdown().await;
}
