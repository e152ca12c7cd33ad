//! Discovery tags ride on every message to a caller until one has reached a relay, and again after `initialize`.
use contextvm_engine::{EncryptionMode, GiftWrapMode, Identity, Outcome, ServerConfig};
use nostr::event::Tag;

use crate::world::{PLAIN, World, call};

fn named() -> ServerConfig {
    let identity = Identity {
        name: Some("n".to_owned()),
        about: Some("a".to_owned()),
        website: Some("w".to_owned()),
        picture: Some("p".to_owned()),
        extra: vec![Tag::custom("pmi", ["x"])],
    };
    ServerConfig { identity, ..ServerConfig::default() }
}

const ALL: &str = "name=n,about=a,website=w,picture=p,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,pmi=x,support_repeats";

#[test]
fn the_tags_come_in_wire_order_once() {
    let mut world = World::new(named());
    world.from(1, PLAIN, &call(1, "ping"));
    world.from(1, PLAIN, &call(2, "ping"));
    assert!(world.done(0)[0].starts_with(&format!("publish 25910 to c1 [e=$0,{ALL}] ")));
    assert!(world.done(1)[0].starts_with("publish 25910 to c1 [e=$1] "));
    world.from(2, PLAIN, &call(1, "ping"));
    assert!(world.done(2)[0].contains("name=n"), "told to each caller");
    world.from(1, PLAIN, &call(3, "initialize"));
    assert!(world.done(3)[0].starts_with(&format!("publish 25910 to c1 [e=$3,{ALL}] ")));
}

#[test]
fn the_flags_say_what_the_modes_allow() {
    for (encryption, gift_wrap, flags) in [
        (
            EncryptionMode::Disabled,
            GiftWrapMode::Optional,
            "[e=$0,support_oversized_transfer,support_open_stream,support_repeats]",
        ),
        (
            EncryptionMode::Optional,
            GiftWrapMode::Persistent,
            "[e=$0,support_encryption,support_oversized_transfer,support_open_stream,support_repeats]",
        ),
    ] {
        let mut world = World::new(ServerConfig { encryption, gift_wrap, ..ServerConfig::default() });
        world.from(1, PLAIN, &call(1, "ping"));
        let answer = world.done(0);
        assert!(answer[0].contains(flags), "{answer:?}");
    }
}

#[test]
fn tags_that_reached_no_relay_are_said_again() {
    let mut world = World::new(named());
    world.outcome = None;
    for n in 0..3 {
        world.from(1, PLAIN, &call(n, "ping"));
    }
    assert!(world.done(0)[0].contains(ALL));
    let first = world.tickets[0];
    world.outcome_of(first, Outcome::Refused("no".to_owned()));
    assert!(world.done(1)[0].contains(ALL));
    let second = world.tickets[1];
    world.outcome_of(second, Outcome::Accepted);
    assert!(!world.done(2)[0].contains(ALL));
}

#[test]
fn an_older_publication_does_not_silence_the_tags_after_initialize() {
    let mut world = World::new(named());
    world.outcome = None;
    world.from(1, PLAIN, &call(1, "ping"));
    world.done(0);
    world.from(1, PLAIN, &call(2, "initialize"));
    let old = world.tickets[0];
    world.outcome_of(old, Outcome::Accepted);
    assert!(world.done(1)[0].contains(ALL));
}

#[test]
fn whoever_introduces_itself_again_is_told_again_and_only_there() {
    let mut world = World::new(named());
    world.from(1, PLAIN, &call(1, "ping"));
    assert!(world.done(0)[0].contains(ALL));
    // A process that began anew with the same key and has no `initialize` to send.
    world.tagged(1, PLAIN, &call(2, "ping"), &[&["support_oversized_transfer"]]);
    world.from(1, PLAIN, &call(3, "ping"));
    assert!(world.done(2)[0].starts_with("publish 25910 to c1 [e=$2] "), "who did not ask is not told");
    assert!(world.done(1)[0].starts_with(&format!("publish 25910 to c1 [e=$1,{ALL}] ")));
    world.tagged(1, PLAIN, &call(4, "ping"), &[&["name", "me"]]);
    assert!(!world.done(3)[0].contains(ALL), "a name alone says nothing of what is understood");
}

#[test]
fn the_configuration_tells_the_same_tags() {
    let tags = named().discovery_tags();
    let tags: Vec<String> = tags.iter().map(|tag| tag.as_slice().join("=")).collect();
    assert_eq!(tags.join(","), ALL);
}
