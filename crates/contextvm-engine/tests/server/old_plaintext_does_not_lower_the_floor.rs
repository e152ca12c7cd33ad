//! Policies of protection: modes, wrap kinds, the floor, and the mirror (T13).
use contextvm_engine::{EncryptionMode, GiftWrapMode, ServerConfig};

use crate::world::{EPHEMERAL, PLAIN, Step, WRAP, World, call, check};

fn modes(encryption: EncryptionMode, gift_wrap: GiftWrapMode) -> ServerConfig {
    ServerConfig { encryption, gift_wrap, ..ServerConfig::default() }
}

#[test]
fn each_mode_admits_what_it_should() {
    use EncryptionMode::{Disabled, Optional, Required};
    use GiftWrapMode::{Ephemeral, Optional as Both, Persistent};
    for (encryption, gift_wrap, admitted) in [
        (Optional, Both, [true, true, true]),
        (Required, Both, [false, true, true]),
        (Disabled, Both, [true, false, false]),
        (Optional, Persistent, [true, true, false]),
        (Optional, Ephemeral, [true, false, true]),
        (Required, Persistent, [false, true, false]),
        (Required, Ephemeral, [false, false, true]),
    ] {
        for (protection, admitted) in [PLAIN, WRAP, EPHEMERAL].into_iter().zip(admitted) {
            let mut world = World::new(modes(encryption, gift_wrap));
            let lines = world.from(1, protection, &call(1, "ping"));
            let case = format!("{encryption:?} {gift_wrap:?} {protection:?}: {lines:?}");
            assert_eq!(lines[0].starts_with("deliver"), admitted, "{case}");
            assert!(admitted || lines == ["drop Policy"], "{case}");
        }
    }
}

#[test]
fn plaintext_from_a_caller_that_was_encrypted_once_is_dropped() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(1, "ping"));
    world.from(1, WRAP, &call(2, "ping"));
    assert_eq!(world.from(1, PLAIN, &call(3, "ping")), ["drop BelowFloor"]);
    assert_eq!(world.again(0, PLAIN), ["drop BelowFloor"]);
    assert!(world.from(2, PLAIN, &call(3, "ping"))[0].starts_with("deliver"), "nobody else is concerned");
    let answer = world.done(0);
    assert!(answer[0].starts_with("publish 25910"), "an answer mirrors its request: {answer:?}");
    assert!(world.done(1)[0].starts_with("publish 1059"));
    let note = world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/message"}"#);
    assert!(note[0].starts_with("publish 1059"), "what answers nothing goes at the floor: {note:?}");
}

#[test]
fn a_refused_event_does_not_raise_the_floor() {
    let mut config = ServerConfig::default();
    config.access.excluded = vec![("ping".to_owned(), None)];
    config.access.allowed = Some([].into());
    let mut world = World::new(config);
    world.from(1, PLAIN, &call(1, "ping"));
    assert_eq!(world.from(1, WRAP, &call(2, "tools/list")), ["drop NotAllowed"]);
    assert!(world.from(1, PLAIN, &call(3, "ping"))[0].starts_with("deliver"));
}

#[test]
fn the_wrap_of_an_answer_is_fixed_by_mode_or_learned_or_mirrored() {
    let flag: &[&[&str]] = &[&["support_encryption_ephemeral"]];
    for (gift_wrap, asked, tags, answered) in [
        (GiftWrapMode::Optional, WRAP, &[][..], "1059"),
        (GiftWrapMode::Optional, EPHEMERAL, &[], "21059"),
        (GiftWrapMode::Optional, WRAP, flag, "21059"),
        (GiftWrapMode::Persistent, WRAP, flag, "1059"),
        (GiftWrapMode::Ephemeral, EPHEMERAL, &[], "21059"),
    ] {
        let mut world = World::new(modes(EncryptionMode::Optional, gift_wrap));
        world.tagged(1, asked, &call(1, "ping"), tags);
        let lines = world.done(0);
        assert!(lines[0].starts_with(&format!("publish {answered} ")), "{gift_wrap:?} {asked:?}: {lines:?}");
        let lines = world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/message"}"#);
        assert!(lines[0].starts_with(&format!("publish {answered} ")), "{gift_wrap:?} {asked:?}: {lines:?}");
    }
}

#[test]
fn a_received_ephemeral_wrap_proves_that_the_caller_understands_them() {
    check(
        modes(EncryptionMode::Required, GiftWrapMode::Optional),
        &[
            (
                Step::From(1, EPHEMERAL, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
                &[r#"deliver c1 {"jsonrpc":"2.0","method":"notifications/initialized"}"#],
            ),
            (
                Step::From(1, WRAP, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
                &[r#"deliver c1 {"jsonrpc":"2.0","id":"$1","method":"ping"}"#],
            ),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$1","result":{}}"#),
                &[
                    r#"publish 21059 to c1 [e=$1,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":1,"result":{}}"#,
                ],
            ),
        ],
    );
}

#[test]
fn a_stranger_who_wraps_what_was_said_in_clear_shuts_nobody_out() {
    let mut world = World::new(ServerConfig::default());
    // The wrap that somebody made is faster than the event itself.
    assert!(world.from(1, WRAP, &call(1, "ping"))[0].starts_with("deliver"));
    assert_eq!(world.from(1, PLAIN, &call(2, "ping")), ["drop BelowFloor"]);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    assert!(world.from(1, PLAIN, &call(3, "ping"))[0].starts_with("deliver"));
    let note = world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/message"}"#);
    assert!(note[0].starts_with("publish 25910"), "{note:?}");
    // A wrap of what was there before is a copy, and raises nothing.
    assert_eq!(world.again(2, WRAP), ["drop Duplicate"]);
    assert!(world.from(1, PLAIN, &call(4, "ping"))[0].starts_with("deliver"));
    // What is never shown in clear counts.
    world.from(1, WRAP, &call(5, "ping"));
    assert_eq!(world.from(1, PLAIN, &call(6, "ping")), ["drop BelowFloor"]);
}

#[test]
fn a_stranger_who_wraps_what_did_not_arrive_shuts_nobody_out_for_longer_than_a_second() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(1, "ping"));
    // Its author sent it in clear while the server was away.
    world.from(1, WRAP, &call(2, "ping"));
    assert_eq!(world.from(1, PLAIN, &call(3, "ping")), ["drop BelowFloor"]);
    let old = world.now.unix;
    world.pass(1);
    assert!(world.from(1, PLAIN, &call(4, "ping"))[0].starts_with("deliver"));
    assert!(world.done(3)[0].starts_with("publish 25910"), "it is answered as it asked");
    // Of who wraps what it says, nothing old in clear is taken.
    world.from(2, WRAP, &call(1, "ping"));
    world.now.unix = old;
    assert_eq!(world.from(2, PLAIN, &call(2, "ping")), ["drop BelowFloor"]);
}
