//! The memory of what is newest: over restarts, over merges, over deletions, and when it is full.
use contextvm_announce::{Freshness, Newest, Stamp};
use contextvm_core::kind;

use crate::stage::{NOW, keys, server, signed};

#[test]
fn newer_wins_ties_go_to_the_lowest_id_and_nothing_goes_back() {
    let me = keys(1);
    let mut same_second = [server(&me, NOW, "a"), server(&me, NOW, "b")];
    same_second.sort_by_key(|event| event.id);
    let [low, high] = same_second;
    let old = server(&me, NOW - 1, "old");
    let mut newest = Newest::default();
    assert_eq!(newest.judge(&old, NOW), Freshness::Newer);
    assert_eq!(newest.learn(&old, NOW), Freshness::Newer);
    assert_eq!(newest.learn(&old, NOW), Freshness::Same);
    assert_eq!(newest.learn(&high, NOW), Freshness::Newer);
    assert_eq!(newest.learn(&low, NOW), Freshness::Newer);
    assert_eq!(newest.learn(&high, NOW), Freshness::Older(low.stamp()));
    assert_eq!(newest.learn(&old, NOW), Freshness::Older(low.stamp()));
    assert_eq!(newest.get(&me.public_key(), kind::SERVER_ANNOUNCEMENT), Some(low.stamp()));
    assert_eq!(newest.len(), 1);
}

#[test]
fn the_future_is_neither_believed_nor_remembered() {
    let me = keys(1);
    let mut newest = Newest::default();
    assert_eq!(newest.learn(&server(&me, NOW + 901, "x"), NOW), Freshness::Future);
    assert_eq!(newest.learn(&server(&me, u64::MAX, "x"), NOW), Freshness::Future);
    assert!(newest.is_empty());
    assert_eq!(newest.learn(&server(&me, NOW + 900, "x"), NOW), Freshness::Newer);
    let later = newest.to_lines();
    let mut early = Newest::default();
    assert_eq!(early.read_lines(&later, NOW - 1), 1, "a clock that was ahead leaves nothing behind");
    assert!(early.is_empty());
}

#[test]
fn lines_are_read_back_and_a_broken_one_is_skipped() {
    let mut newest = Newest::default();
    for n in 0..5 {
        newest.learn(&server(&keys(n), NOW - n, "x"), NOW);
    }
    let lines = newest.to_lines();
    let mut again = Newest::default();
    assert_eq!(again.read_lines(&lines, NOW), 0);
    assert_eq!(again, newest);
    let (key, id) = (keys(9).public_key().to_hex(), "0a".repeat(32));
    let broken = [
        "x".to_owned(),
        format!("{key} 1 2"),
        format!("{key} 1 2 {id} more"),
        format!("{key} 70000 2 {id}"),
        format!("{key} 1 -2 {id}"),
        format!("{key} 1 2 {}", &id[1..]),
        format!("{}é 1 2 {id}", &key[2..]),
        format!("{key}  1 2 {id}"),
        "\u{0}\u{1b}".to_owned(),
    ];
    let text = format!("\n{}\r\n{key} 1 2 {id}\n", broken.join("\n"));
    assert_eq!(again.read_lines(&text, NOW), broken.len());
    assert_eq!(again.len(), newest.len() + 1);
}

#[test]
fn merging_keeps_the_newer_of_each() {
    let (mut a, mut b) = (Newest::default(), Newest::default());
    a.learn(&server(&keys(1), NOW, "x"), NOW);
    a.learn(&server(&keys(2), NOW - 9, "x"), NOW);
    b.learn(&server(&keys(2), NOW, "x"), NOW);
    b.learn(&server(&keys(3), NOW, "x"), NOW);
    let (mut ab, mut ba) = (a.clone(), b.clone());
    ab.merge(&b, NOW);
    ba.merge(&a, NOW);
    assert_eq!(ab.to_lines(), ba.to_lines());
    assert_eq!(
        (ab.len(), ab.get(&keys(2).public_key(), 11316).map(|stamp| stamp.created_at)),
        (3, Some(NOW))
    );
}

#[test]
fn a_deletion_is_remembered_by_kind_and_by_id() {
    let (me, other) = (keys(1), keys(2));
    let (mine, tools) = (server(&me, NOW, "x"), signed(&me, kind::TOOLS_LIST, NOW, &[], "{}"));
    let id = tools.id.to_hex();
    let place = format!("11316:{}:", me.public_key().to_hex());
    let mut newest = Newest::default();
    newest.learn(&mine, NOW);
    newest.learn(&tools, NOW);
    let by_other = signed(&other, kind::DELETION, NOW, &[&["a", &place], &["e", &id]], "");
    newest.learn(&by_other, NOW);
    assert_eq!(newest.judge(&mine, NOW), Freshness::Same);
    assert_eq!(newest.judge(&tools, NOW), Freshness::Same);
    newest.learn(&signed(&me, kind::DELETION, NOW + 1, &[&["a", &place], &["e", &id]], ""), NOW);
    let mut restarted = Newest::default();
    assert_eq!(restarted.read_lines(&newest.to_lines(), NOW), 0);
    for event in [&mine, &tools, &server(&me, NOW + 1, "y")] {
        assert!(matches!(restarted.judge(event, NOW), Freshness::Older(_)));
    }
    assert_eq!(restarted.judge(&server(&me, NOW + 2, "y"), NOW), Freshness::Newer);
    assert_eq!(restarted.judge(&signed(&me, kind::TOOLS_LIST, NOW + 1, &[], "{}"), NOW), Freshness::Newer);
}

#[test]
fn keys_that_nobody_vouches_for_fill_a_quarter_of_the_room_at_most() {
    let mut newest = Newest::new(40);
    let of = |numbers: core::ops::Range<u64>| {
        let mut other = Newest::new(100);
        numbers.for_each(|n| _ = other.learn(&server(&keys(n), NOW, "x"), NOW));
        other
    };
    newest.merge_vouched(&of(0..30), NOW, |_key| false);
    assert_eq!((newest.len(), newest.unremembered()), (10, 20));
    newest.prefer(keys(90).public_key());
    newest.merge_vouched(&of(90..92), NOW, |_key| false);
    assert!(newest.get(&keys(90).public_key(), 11316).is_some(), "preferred");
    newest.merge_vouched(&of(30..90), NOW, |key| *key == keys(30).public_key());
    assert!(newest.get(&keys(30).public_key(), 11316).is_some(), "vouched for");
    assert_eq!(newest.len(), 12);
    // What is known goes on.
    let mut later = Newest::new(1);
    later.learn(&server(&keys(30), NOW + 1, "x"), NOW);
    newest.merge_vouched(&later, NOW, |_key| false);
    assert_eq!(newest.get(&keys(30).public_key(), 11316).map(|stamp| stamp.created_at), Some(NOW + 1));
}

#[test]
fn a_full_memory_forgets_nothing_for_a_stranger_and_finds_room_for_a_preferred_key() {
    let mut newest = Newest::new(3);
    for n in 0..10 {
        assert_eq!(newest.learn(&server(&keys(n), NOW + n, "x"), NOW), Freshness::Newer);
    }
    assert_eq!((newest.len(), newest.unremembered()), (3, 7));
    assert_eq!(
        newest.learn(&server(&keys(0), NOW + 20, "x"), NOW),
        Freshness::Newer,
        "what is known goes on"
    );
    newest.prefer(keys(50).public_key());
    newest.learn(&server(&keys(50), NOW, "x"), NOW);
    assert_eq!(newest.get(&keys(50).public_key(), 11316).map(|stamp| stamp.created_at), Some(NOW));
    assert_eq!(
        newest.get(&keys(1).public_key(), 11316),
        None,
        "the stranger with the oldest stamp made room"
    );
    assert_eq!(newest.len(), 3);
    for n in 51..60 {
        newest.prefer(keys(n).public_key());
        newest.learn(&server(&keys(n), NOW, "x"), NOW);
    }
    assert_eq!(newest.len(), 3);
    assert!(newest.get(&keys(50).public_key(), 11316).is_some(), "preferred keys do not push each other out");
}

#[test]
fn the_stamp_of_a_deleted_event_lies_just_behind_it() {
    let stamp = server(&keys(1), NOW, "x").stamp();
    assert!(stamp < stamp.deleted() && stamp.deleted() < Stamp::end_of(NOW));
    assert!(stamp.deleted() < Stamp { created_at: NOW + 1, ..stamp });
    assert_eq!(Stamp::end_of(NOW).deleted(), Stamp::end_of(NOW));
}
