//! Strangers who publish without end reach a bound, are counted, and push nobody out.
use contextvm_announce::{Added, Bound, Directory, DirectoryLimits, Newest, Refused, Signed};
use contextvm_core::kind;
use contextvm_crypto::Keys;

use crate::stage::{INITIALIZE, NOW, keys, name, server, signed, tools};

fn limits() -> DirectoryLimits {
    DirectoryLimits {
        servers: 40,
        bytes: 256 * 1024,
        server_bytes: 64 * 1024,
        reviews: 5,
        review_bytes: 8 * 1024,
        deletions: 10,
    }
}

#[test]
fn servers_without_end_leave_room_for_a_preferred_one() {
    let mut view = Directory::new(limits());
    let known = keys(0);
    view.add(&server(&known, NOW, "known"), NOW).unwrap();
    for n in 1..200 {
        let added = view.add(&server(&keys(n), NOW, "stranger"), NOW);
        assert_eq!(added, if n < 30 { Ok(Added::New) } else { Err(Refused::Full(Bound::Servers)) }, "{n}");
    }
    assert_eq!((view.servers().count(), view.refused().full), (30, 170));
    assert_eq!(view.add(&server(&known, NOW + 1, "still"), NOW), Ok(Added::New), "what is there goes on");
    assert_eq!(name(&view, &known), "still");
    let wanted = keys(999);
    assert_eq!(view.add(&server(&wanted, NOW, "w"), NOW), Err(Refused::Full(Bound::Servers)));
    view.prefer(wanted.public_key());
    assert_eq!(view.add(&server(&wanted, NOW, "w"), NOW), Ok(Added::New), "a refusal leaves no trace");
}

#[test]
fn bytes_without_end_are_bounded_per_server_and_over_all() {
    let mut view = Directory::new(limits());
    let about = "x".repeat(4_000);
    let fat: Vec<String> = (0..30).map(|n| format!("{n}{}", "y".repeat(2_000))).collect();
    let fat: Vec<&str> = fat.iter().map(String::as_str).collect();
    let me = keys(0);
    assert_eq!(
        view.add(&tools(&me, NOW, &[], &fat), NOW),
        Err(Refused::Full(Bound::ServerBytes)),
        "one server alone"
    );
    let mut refused = 0;
    for n in 0..30 {
        let tags: &[&[&str]] = &[&["name", "n"], &["about", &about], &["x", &about]];
        for (kind, content) in [(kind::SERVER_ANNOUNCEMENT, INITIALIZE), (kind::PROFILE, "{\"a\":\"b\"}")] {
            match view.add(&signed(&keys(n), kind, NOW, tags, content), NOW) {
                Ok(added) => assert_eq!(added, Added::New),
                Err(error) => {
                    assert_eq!(error, Refused::Full(Bound::Bytes));
                    refused += 1;
                }
            }
        }
        assert!(view.bytes() <= limits().bytes / 4 * 3, "{}", view.bytes());
    }
    assert!(refused > 0 && view.refused().full == refused + 1);
    assert!(view.bytes() > limits().bytes / 2, "the bound is reached, not guessed: {}", view.bytes());
}

#[test]
fn replacing_a_document_gives_its_bytes_back() {
    let mut view = Directory::new(limits());
    let me = keys(0);
    view.add(&server(&me, NOW, "x"), NOW).unwrap();
    let small = view.bytes();
    let about = "x".repeat(3_000);
    for n in 1..100 {
        let fat = signed(&me, kind::SERVER_ANNOUNCEMENT, NOW + 2 * n - 1, &[&["about", &about]], INITIALIZE);
        assert_eq!(view.add(&fat, NOW), Ok(Added::New));
        assert!(view.bytes() > small + 3_000);
        assert_eq!(view.add(&server(&me, NOW + 2 * n, "x"), NOW), Ok(Added::New));
        assert_eq!(view.bytes(), small);
    }
}

#[test]
fn reviews_without_end_are_bounded_and_leave_the_server_alone() {
    let mut view = Directory::new(limits());
    let me = keys(0);
    let hex = me.public_key().to_hex();
    let address = format!("11316:{hex}:");
    let tags: &[&[&str]] =
        &[&["A", &address], &["K", "11316"], &["P", &hex], &["a", &address], &["k", "11316"], &["p", &hex]];
    let mut taken = 0;
    for n in 1..40 {
        match view.add(&signed(&keys(n), kind::COMMENT, NOW, tags, "spam"), NOW) {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error, Refused::Full(Bound::Reviews)),
        }
    }
    assert_eq!(taken, 5);
    let long = "z".repeat(9_000);
    let mut other = Directory::new(limits());
    assert_eq!(
        other.add(&signed(&keys(1), kind::COMMENT, NOW, tags, &long), NOW),
        Err(Refused::Full(Bound::Reviews))
    );
    assert_eq!(
        view.add(&server(&me, NOW, "x"), NOW),
        Ok(Added::New),
        "strangers' reviews take no room of its own"
    );
}

#[test]
fn deletions_without_end_are_bounded() {
    let mut view = Directory::new(limits());
    for n in 0..30u8 {
        let ids: Vec<String> = (0..3u8).map(|k| format!("{n:02x}{k:02x}").repeat(16)).collect();
        let tags: Vec<[&str; 2]> = ids.iter().map(|id| ["e", id.as_str()]).collect();
        let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
        let deletion = signed(&keys(u64::from(n)), kind::DELETION, NOW, &tags, "");
        assert_eq!(view.add(&deletion, NOW), Ok(Added::Deletion(0)));
    }
    assert!((25..30).contains(&view.refused().full), "{}", view.refused().full);
    assert_eq!((view.servers().count(), view.bytes()), (0, 0));
}

#[test]
fn strangers_who_delete_without_end_keep_nobody_from_deleting() {
    let mut view = Directory::new(limits());
    let (me, fan) = (keys(200), keys(201));
    let own = server(&me, NOW, "mine");
    let (hex, praise) = (me.public_key().to_hex(), review(&fan, &me, "Fast"));
    view.add(&own, NOW).unwrap();
    view.add(&praise, NOW).unwrap();
    let junk: Vec<String> = (0..200u8).map(|n| format!("{n:02x}").repeat(32)).collect();
    let junk: Vec<[&str; 2]> = junk.iter().map(|id| ["e", id.as_str()]).collect();
    let junk: Vec<&[&str]> = junk.iter().map(<[&str; 2]>::as_slice).collect();
    for n in 0..20 {
        view.add(&signed(&keys(n), kind::DELETION, NOW, &junk, ""), NOW).unwrap();
    }
    let id = praise.id.to_hex();
    assert_eq!(view.add(&signed(&fan, kind::DELETION, NOW, &[&["e", &id]], ""), NOW), Ok(Added::Deletion(1)));
    let place = format!("11316:{hex}:");
    let ended = signed(&me, kind::DELETION, NOW, &[&["a", &place]], "");
    assert_eq!(view.add(&ended, NOW), Ok(Added::Deletion(1)));
    assert!(view.add(&own, NOW).is_err(), "it does not come back");
}

#[test]
fn a_full_memory_does_not_bring_back_what_was_deleted() {
    let mut view = Directory::new(limits()).with_newest(Newest::new(1));
    view.add(&server(&keys(1), NOW, "x"), NOW).unwrap();
    let me = keys(2);
    let own = server(&me, NOW, "mine");
    view.add(&own, NOW).unwrap();
    let place = format!("11316:{}:", me.public_key().to_hex());
    view.add(&signed(&me, kind::DELETION, NOW, &[&["a", &place]], ""), NOW).unwrap();
    assert_eq!(view.add(&own, NOW), Err(Refused::Deleted));
}

#[test]
fn what_is_deleted_before_it_comes_takes_no_room() {
    let mut view = Directory::new(limits());
    for n in 0..60 {
        let event = server(&keys(n), NOW, "x");
        let id = event.id.to_hex();
        view.add(&signed(&keys(n), kind::DELETION, NOW, &[&["e", &id]], ""), NOW).unwrap();
        let _refused_or_taken = view.add(&event, NOW);
    }
    assert!(view.server(&keys(0).public_key()).is_none());
    assert!(view.servers().count() <= 30);
    assert_eq!(
        view.servers().count(),
        (0..60).filter(|n| view.server(&keys(*n).public_key()).is_some()).count()
    );
}

fn review(author: &Keys, of: &Keys, text: &str) -> Signed {
    let hex = of.public_key().to_hex();
    let address = format!("11316:{hex}:");
    signed(author, kind::COMMENT, NOW, &[&["A", &address], &["K", "11316"], &["k", "11316"]], text)
}

#[test]
fn a_public_network_of_two_thousand_servers_fits() {
    let mut view = Directory::new(DirectoryLimits::default());
    for n in 0..100 {
        view.add(&server(&keys(n), NOW, "name"), NOW).unwrap();
        view.add(&tools(&keys(n), NOW, &[&["cap", "tool:a", "1", "sats"]], &["a", "b", "c", "d"]), NOW)
            .unwrap();
    }
    let one = view.bytes() / 100;
    assert!(one * 2_000 < DirectoryLimits::default().bytes / 4 * 3, "{one} bytes each");
}
