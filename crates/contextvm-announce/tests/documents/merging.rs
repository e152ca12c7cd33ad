//! One view out of announcements, a live session, reviews and deletions.
use contextvm_announce::{
    Added, Directory, DirectoryLimits, DocumentKind, Heard, Newest, Origin, Refused, Signed, Stamp,
};
use contextvm_core::kind;
use contextvm_crypto::Keys;
use nostr::event::EventId;

use crate::stage::{INITIALIZE, NOW, keys, name, server, signed, tags, tools, tools_result};

fn view() -> Directory {
    Directory::new(DirectoryLimits::default())
}

fn stamp(created_at: u64, id: u8) -> Stamp {
    Stamp { created_at, id: EventId::from_byte_array([id; 32]) }
}

fn review(author: &Keys, of: &Keys, created_at: u64, text: &str) -> Signed {
    let hex = of.public_key().to_hex();
    let address = format!("11316:{hex}:");
    let list: &[&[&str]] =
        &[&["A", &address], &["K", "11316"], &["P", &hex], &["a", &address], &["k", "11316"], &["p", &hex]];
    signed(author, kind::COMMENT, created_at, list, text)
}

#[test]
fn yesterdays_list_from_another_relay_changes_nothing() {
    let me = keys(1);
    let mut view = view();
    assert_eq!(view.add(&server(&me, NOW, "today"), NOW), Ok(Added::New));
    assert!(matches!(view.add(&server(&me, NOW - 86_400, "yesterday"), NOW), Err(Refused::Older(_))));
    assert_eq!(view.add(&server(&me, NOW + 901, "tomorrow"), NOW), Err(Refused::Future));
    assert_eq!(view.add(&server(&me, NOW + 1, "now"), NOW), Ok(Added::New), "the future blocks nothing");
    assert_eq!(name(&view, &me), "now");
    assert_eq!((view.refused().older, view.refused().future), (1, 1));
    // A later run starts with what this one learned.
    let mut newest = Newest::default();
    newest.read_lines(&view.newest().to_lines(), NOW);
    let mut later = Directory::new(DirectoryLimits::default()).with_newest(newest);
    assert!(matches!(later.add(&server(&me, NOW, "today"), NOW), Err(Refused::Older(_))));
    assert_eq!(later.add(&server(&me, NOW + 1, "now"), NOW), Ok(Added::New));
}

#[test]
fn a_broken_announcement_hides_no_good_one() {
    let me = keys(1);
    let mut view = view();
    view.add(&server(&me, NOW, "good"), NOW).unwrap();
    let broken = signed(&me, kind::SERVER_ANNOUNCEMENT, NOW + 1, &[], "{}");
    assert!(matches!(view.add(&broken, NOW), Err(Refused::Document(_))));
    assert_eq!(view.add(&signed(&me, 1, NOW, &[], ""), NOW), Err(Refused::Kind(1)));
    assert_eq!((name(&view, &me).as_str(), view.refused().broken), ("good", 2));
}

#[test]
fn what_a_session_heard_beats_what_was_announced_when_it_is_newer() {
    let me = keys(1);
    let mut view = view();
    view.add(&tools(&me, NOW, &[], &["announced"]), NOW).unwrap();
    let shown = |view: &Directory| {
        let entry = view.server(&me.public_key()).unwrap();
        let part = entry.list(DocumentKind::Tools).unwrap();
        (part.document.items[0].name.clone(), part.origin)
    };
    let hear = |view: &mut Directory, at: u64, id: u8, name: &str| {
        let result = tools_result(&[name]);
        let tags = tags(&[&["p", "x"], &["cap", "tool:a", "5", "sats"], &["support_encryption"]]);
        let heard = Heard { server: me.public_key(), stamp: stamp(at, id), tags: &tags, result: None };
        view.hear(&heard.with_result(&result), NOW)
    };
    assert_eq!(hear(&mut view, NOW - 1, 1, "older"), Ok(Added::New));
    assert_eq!(shown(&view), ("announced".into(), Origin::Announced));
    assert_eq!(hear(&mut view, NOW, 2, "same second"), Ok(Added::New));
    assert_eq!(shown(&view), ("same second".into(), Origin::Direct));
    assert_eq!(hear(&mut view, NOW + 2, 3, "newer"), Ok(Added::New));
    assert_eq!(shown(&view), ("newer".into(), Origin::Direct));
    assert_eq!(hear(&mut view, NOW + 2, 3, "newer"), Ok(Added::Known));
    assert!(matches!(hear(&mut view, NOW + 1, 4, "late"), Err(Refused::Older(_))));
    view.add(&tools(&me, NOW + 3, &[], &["again"]), NOW).unwrap();
    assert_eq!(shown(&view), ("again".into(), Origin::Announced));
    let entry = view.server(&me.public_key()).unwrap();
    let sources = entry.list_sources(DocumentKind::Tools).unwrap();
    assert!(sources.announced.is_some() && sources.direct.is_some());
    assert!(entry.heard_tags().encryption && entry.tags().encryption);
    assert_eq!((entry.last_heard(), entry.last_seen()), (Some(NOW + 2), Some(NOW + 3)));
}

#[test]
fn flags_count_wherever_they_were_and_the_direct_name_wins() {
    let me = keys(1);
    let mut view = view();
    let announced: &[&[&str]] = &[&["name", "Announced"], &["about", "a"], &["support_encryption"]];
    view.add(&signed(&me, kind::SERVER_ANNOUNCEMENT, NOW, announced, INITIALIZE), NOW).unwrap();
    let event = signed(
        &me,
        kind::MESSAGE,
        NOW - 5,
        &[&["p", "x"], &["e", "y"], &["name", "Direct"], &["support_open_stream"]],
        "",
    );
    view.hear(&Heard::of(&event), NOW).unwrap();
    let entry = view.server(&me.public_key()).unwrap();
    let merged = entry.tags();
    assert!(merged.encryption && merged.open_stream && !merged.ephemeral);
    assert_eq!((entry.name().as_str(), entry.about().as_deref()), ("Direct", Some("a")));
    assert!(entry.server().is_some_and(|part| !part.document.tags.open_stream));
    assert!(!entry.heard_tags().encryption);
    assert_eq!(entry.server().map(|part| part.age(NOW + 60)), Some(60));
}

#[test]
fn a_profile_lends_its_name_to_a_server_without_one() {
    let me = keys(1);
    let mut view = view();
    view.add(&signed(&me, kind::PROFILE, NOW, &[], r#"{"name":"P\u202e\nrofile","about":"b"}"#), NOW)
        .unwrap();
    assert_eq!(view.servers().count(), 0);
    let result = INITIALIZE;
    view.add(&signed(&me, kind::SERVER_ANNOUNCEMENT, NOW, &[], result), NOW).unwrap();
    assert_eq!(name(&view, &me), "P rofile");
    assert_eq!(view.server(&me.public_key()).and_then(|entry| entry.about()).as_deref(), Some("b"));
    assert_eq!(view.servers().count(), 1);
}

#[test]
fn reviews_gather_at_their_server_and_only_their_author_deletes_them() {
    let (me, fan, other) = (keys(1), keys(2), keys(3));
    let mut view = view();
    view.add(&server(&me, NOW, "x"), NOW).unwrap();
    let praise = review(&fan, &me, NOW, "Fast");
    assert_eq!(view.add(&praise, NOW), Ok(Added::New));
    assert_eq!(view.add(&praise, NOW), Ok(Added::Known));
    let count = |view: &Directory| view.server(&me.public_key()).map_or(0, |entry| entry.reviews().len());
    assert_eq!(count(&view), 1);
    let id = praise.id.to_hex();
    for stranger in [&me, &other] {
        let deletion = signed(stranger, kind::DELETION, NOW, &[&["e", &id]], "");
        assert_eq!(view.add(&deletion, NOW), Ok(Added::Deletion(0)));
    }
    assert_eq!(count(&view), 1);
    let deletion = signed(&fan, kind::DELETION, NOW, &[&["e", &id], &["k", "1111"]], "");
    assert_eq!(view.add(&deletion, NOW), Ok(Added::Deletion(1)));
    assert_eq!(view.add(&praise, NOW), Err(Refused::Deleted));
    assert_eq!(count(&view), 0);
    assert_eq!(view.add(&signed(&fan, kind::COMMENT, NOW, &[], "no address"), NOW), Err(Refused::Review));
}

#[test]
fn a_deletion_does_not_reach_what_a_session_heard_nor_other_keys() {
    let (me, other) = (keys(1), keys(2));
    let mut view = view();
    view.add(&server(&me, NOW, "mine"), NOW).unwrap();
    let result = tools_result(&["t"]);
    let none = tags(&[]);
    let heard = Heard { server: me.public_key(), stamp: stamp(NOW, 1), tags: &none, result: None };
    view.hear(&heard.with_result(&result), NOW).unwrap();
    let hex = me.public_key().to_hex();
    let (place, list) = (format!("11316:{hex}:"), format!("11317:{hex}:"));
    let by_other = signed(&other, kind::DELETION, NOW + 9, &[&["a", &place]], "");
    assert_eq!(view.add(&by_other, NOW), Ok(Added::Deletion(0)));
    let early = signed(&me, kind::DELETION, NOW - 1, &[&["a", &place]], "");
    assert_eq!(view.add(&early, NOW), Ok(Added::Deletion(0)), "published again after it");
    let future = signed(&me, kind::DELETION, NOW + 5_000, &[&["a", &place]], "");
    assert_eq!(view.add(&future, NOW), Err(Refused::Future));
    let before = view.bytes();
    let now = signed(&me, kind::DELETION, NOW, &[&["a", &place], &["a", &list]], "");
    assert_eq!(view.add(&now, NOW), Ok(Added::Deletion(1)));
    assert!(view.bytes() < before);
    let entry = view.server(&me.public_key()).unwrap();
    assert!(entry.server().is_none() && entry.tools().is_some());
}
