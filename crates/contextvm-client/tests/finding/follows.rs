//! Whom somebody follows: the newest list that can be believed, bounded, and reviews of such people before those of others.
use std::time::Duration;

use contextvm_announce::Signed;
use contextvm_client::follows::MOST_FOLLOWS;
use contextvm_client::{DiscoverError, Memory, Role, Scope};
use contextvm_core::event;
use contextvm_crypto::Keys;
use nostr::event::Event;
use nostr::key::PublicKey;

use crate::support::*;

/// A follow list as programs write it, one in two entries with a relay and a name.
fn list(keys: &Keys, created_at: u64, follows: &[String]) -> Event {
    let tags: Vec<Vec<&str>> = follows
        .iter()
        .enumerate()
        .map(|(nth, key)| match nth % 2 {
            0 => vec!["p", key],
            _ => vec!["p", key, "wss://relay.example", "somebody"],
        })
        .collect();
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    signed(keys, 3, created_at, &tags, "")
}

fn key(byte: u8) -> PublicKey {
    keys(byte).public_key()
}

fn hex(bytes: &[u8]) -> Vec<String> {
    bytes.iter().map(|byte| key(*byte).to_hex()).collect()
}

#[tokio::test]
async fn the_newest_list_counts_wherever_it_is() {
    let (first, second, own) = (relay().await, relay().await, relay().await);
    let person = keys(1);
    publish(&first, [list(&person, NOW - 20, &hex(&[2])), relay_list(&person, NOW, &[&own.url()])]).await;
    publish(&second, [list(&person, NOW - 10, &hex(&[3])), list(&keys(9), NOW, &hex(&[8]))]).await;
    let search = discovery(&[&first.url(), &second.url()]).with_local_relays(true);
    let follows = search.follows(&key(1).into()).await.unwrap();
    assert_eq!(
        (follows.keys.into_iter().collect::<Vec<_>>(), follows.created_at),
        (vec![key(3)], Some(NOW - 10))
    );
    // The relay that the person names for itself has a newer one; what is no key, or the person, is left out.
    let mut entries = hex(&[4, 1, 5]);
    entries.extend(["", "npub1", "zz", &"f".repeat(63)].map(ToOwned::to_owned));
    publish(&own, [list(&person, NOW, &entries)]).await;
    let follows = search.follows(&key(1).into()).await.unwrap();
    assert!(follows.keys == [key(4), key(5)].into() && follows.created_at == Some(NOW), "{follows:?}");
    assert_eq!(answer(&follows.per_relay, &own.url()).role, Role::Listed);
    // Its author deleted it, and says so elsewhere.
    let place = format!("3:{}:", key(1).to_hex());
    publish(&first, [signed(&person, 5, NOW, &[&["a", &place], &["k", "3"]], "")]).await;
    let follows = search.follows(&key(1).into()).await.unwrap();
    assert!(follows.keys.is_empty() && follows.created_at.is_none(), "{follows:?}");
}

#[tokio::test]
async fn that_there_is_no_list_is_told_apart_from_silence() {
    let relay = relay().await;
    publish(&relay, [list(&keys(2), NOW, &hex(&[3]))]).await;
    let follows = discovery(&[&relay.url()]).follows(&key(1).into()).await.unwrap();
    assert!(follows.keys.is_empty() && follows.created_at.is_none(), "{follows:?}");
    assert!(follows.per_relay[0].is_complete());
    let silent = discovery(&[&dead().await]).follows(&key(1).into()).await;
    assert!(matches!(silent, Err(DiscoverError::NoneAnswered(_))), "{silent:?}");
}

#[tokio::test]
async fn nobody_leads_back_behind_the_newest_list_or_ahead_of_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("newest");
    let person = keys(1);
    let future = event::print(&list(&person, NOW + 16 * 60, &hex(&[7])));
    let forged = event::print(&list(&person, NOW, &hex(&[2]))).replace(&key(2).to_hex(), &key(7).to_hex());
    let old = event::print(&list(&person, NOW - 86_400, &hex(&[6])));
    let (behind, honest) = (liar(vec![future, forged, old]).await, relay().await);
    publish(&honest, [list(&person, NOW, &hex(&[2]))]).await;
    let search = |relays: &[&str]| discovery(relays).with_memory(Memory::open(&path));
    let both = search(&[&behind, &honest.url()]).follows(&key(1).into()).await.unwrap();
    assert_eq!((both.keys, both.created_at), ([key(2)].into(), Some(NOW)));
    let alone = search(&[&behind]).follows(&key(1).into()).await.unwrap();
    assert!(alone.keys.is_empty() && alone.created_at.is_none(), "{alone:?}");
    // The deletions that were asked for in another question are not there, and the same texts are none of them.
    let answer = answer(&alone.per_relay, &behind);
    assert!(answer.stale == 1 && answer.future == 1 && answer.invalid >= 1, "{answer:?}");
    let forgetful = discovery(&[&behind]).follows(&key(1).into()).await.unwrap();
    assert_eq!((forgetful.keys, forgetful.created_at), ([key(6)].into(), Some(NOW - 86_400)));
}

#[tokio::test]
async fn a_long_list_is_read_and_a_longer_one_is_not() {
    let person = keys(1);
    let many: Vec<String> = (0..7_000).map(|n: u32| format!("{n:064x}")).collect();
    let bare = |count: usize, content: &str| {
        let tags: Vec<[&str; 2]> = many[..count].iter().map(|key| ["p", key.as_str()]).collect();
        let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
        event::print(&signed(&person, 3, NOW, &tags, content))
    };
    let named = |count: usize| event::print(&list(&person, NOW, &many[..count]));
    for (text, count) in [
        (named(5_000), Some(MOST_FOLLOWS)),
        (bare(7_000, ""), Some(MOST_FOLLOWS)),
        (named(7_000), None),
        (bare(5_000, &"x".repeat(Signed::FOLLOWS_BYTES / 4 * 3)), None),
    ] {
        let relay = inventor(move |filter| {
            let asked = filter["kinds"][0] == 3;
            asked.then(|| text.clone()).into_iter().collect::<Vec<_>>()
        });
        let relay = relay.await;
        let search = discovery(&[&relay]).with_deadline(Duration::from_secs(20));
        let follows = search.follows(&key(1).into()).await.unwrap();
        assert_eq!(follows.created_at.map(|_| follows.keys.len()), count);
        assert_eq!(follows.per_relay[0].invalid > 0, count.is_none(), "{:?}", follows.per_relay);
    }
    // Whatever is no follow list stays short.
    let long = signed(&person, 11316, NOW, &[], &"x".repeat(Signed::BYTES + 1));
    assert!(Signed::verify(long).is_err());
}

#[tokio::test]
async fn reviews_by_people_who_count_have_room_before_those_of_others() {
    let server = keys(1);
    let review = |keys: &Keys, at: u64| {
        let address = format!("11316:{}:", key(1).to_hex());
        let tags: [&[&str]; 4] = [&["A", &address], &["K", "11316"], &["a", &address], &["k", "11316"]];
        event::print(&signed(keys, 1111, at, &tags, "fine"))
    };
    let crowd: Vec<String> = (0..600).map(|at| review(&keys(3), NOW - at)).collect();
    let announced = event::print(&announcement(&server, NOW, "busy"));
    // An old word of somebody who is asked for by name only.
    let word = review(&keys(2), NOW - 86_400);
    let relay = inventor(move |filter| match (&filter["kinds"][0], &filter["authors"]) {
        (kind, authors) if kind == 1111 && authors.is_array() => vec![word.clone()],
        (kind, _) if kind == 1111 => crowd.clone(),
        _ => vec![announced.clone()],
    });
    let search = discovery(&[&relay.await]).with_deadline(Duration::from_secs(20));
    for reviewers in [vec![], vec![key(2)]] {
        let scope = Scope { reviews: true, reviewers: reviewers.clone(), ..Scope::default() };
        let found = search.servers(&scope).await.unwrap();
        let reviews = found.directory.server(&key(1)).unwrap().reviews();
        let theirs = reviews.iter().filter(|review| review.author == key(2)).count();
        assert_eq!(theirs, reviewers.len(), "{:?}", found.per_relay);
    }
}
