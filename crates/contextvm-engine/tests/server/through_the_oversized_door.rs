//! A message that comes in pieces is judged like one that comes whole (T22).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;
use contextvm_engine::server::Access;
use contextvm_transfer::{FrameBody, Handshake};

use crate::frames::{chunk, cut, frame, long_call, start, tag_names, upload};
use crate::world::{PLAIN, WRAP, World, call, public};

fn config(access: Access) -> ServerConfig {
    ServerConfig { access, inject_client_pubkey: true, ..ServerConfig::default() }
}

fn listed() -> Access {
    Access { allowed: Some([public(1)].into()), ..Access::default() }
}

fn frames() -> Vec<String> {
    cut("t", &long_call(5, 5_000), Handshake::Skip)
}

#[test]
fn who_is_not_on_the_list_has_no_transfer() {
    for announced in [false, true] {
        let mut world = World::new(config(Access { announced, ..listed() }));
        for (nth, content) in frames().iter().enumerate() {
            let lines = world.from(2, WRAP, content);
            let said = usize::from(announced && nth == 0);
            assert_eq!(lines.len(), 1 + said, "{lines:?}");
            assert_eq!(lines[said..], ["drop NotAllowed"], "frame {nth}");
        }
        let load = world.machine.load();
        assert_eq!((load.transfers_in, load.sessions, load.stranger_sessions), (0, 0, 0));
        assert_eq!(load.seen_ids, usize::from(announced), "what it was told of");
        assert_eq!(world.drafts.len(), usize::from(announced), "a private server is silent");
        if let Some(abort) = world.drafts.first() {
            assert_eq!(tag_names(abort), [""; 0]);
            assert!(
                abort
                    .content
                    .contains(r#""progress":2,"cvm":{"type":"oversized-transfer","frameType":"abort""#)
            );
        }
    }
}

#[test]
fn who_is_on_the_list_needs_no_session_first_and_may_not_say_who_it_is() {
    let mut world = World::new(config(listed()));
    let message = long_call(5, 5_000).replace(r#""_meta":{"#, r#""_meta":{"clientPubkey":"admin","#);
    let lines = upload(&mut world, 1, &cut("t", &message, Handshake::Skip));
    assert!(lines[0].starts_with("deliver c1"), "{lines:?}");
    assert!(lines[0].contains(&format!(r#""clientPubkey":"{}""#, public(1).to_hex())));
    assert!(!lines[0].contains("admin"));
}

#[test]
fn an_open_capability_is_no_way_in_for_pieces() {
    let excluded = vec![("tools/call".to_owned(), Some("echo".to_owned()))];
    let mut world = World::new(config(Access { excluded, announced: true, ..listed() }));
    assert!(
        world.from(2, PLAIN, &long_call(4, 300))[0].starts_with("deliver c2"),
        "whole, it is open to all"
    );
    world.done(0);
    for content in frames() {
        assert_eq!(world.from(2, PLAIN, &content).last().unwrap(), "drop NotAllowed");
    }
    assert_eq!(world.machine.load().transfers_in, 0);
}

#[test]
fn the_application_is_asked_about_the_whole_message() {
    let mut world = World::new(config(Access { ask_key: true, announced: true, ..Access::default() }));
    assert_eq!(world.from(1, PLAIN, &start("s", 9, 1)).last().unwrap(), "drop NotAllowed", "a stranger");
    assert_eq!(world.from(1, PLAIN, &call(1, "ping")), ["ask 0 key c1"]);
    world.verdict(0, true);
    world.done(1);
    // Let in by its key, it may transfer; each message is asked about all the same.
    let lines = upload(&mut world, 1, &frames());
    assert_eq!(lines, ["ask 1 key c1"]);
    let load = world.machine.load();
    assert_eq!((load.transfers_in, load.waiting), (0, 1));
    // With the event of its end frame.
    let whole = long_call(5, 5_000).len();
    assert!((whole + 1..whole + 500).contains(&load.waiting_bytes), "{load:?}");
    let end = world.events.len() - 1;
    assert_eq!(world.again(end, PLAIN), ["drop Duplicate"]);
    assert!(world.verdict(1, true)[0].starts_with("deliver c1"));
    let lines = upload(&mut world, 1, &cut("u", &long_call(6, 6_000), Handshake::Skip));
    assert_eq!(lines, ["ask 2 key c1"]);
    assert_eq!(world.verdict(2, false), ["drop NotAllowed"]);
    let lines = world.pass(1);
    let refusal = r#"{"jsonrpc":"2.0","id":6,"error":{"code":-32000,"message":"Unauthorized"}}"#;
    assert!(lines[0].ends_with(refusal), "{lines:?}");
    // From now on it is nobody again.
    assert_eq!(world.from(1, PLAIN, &start("v", 9, 1)).last().unwrap(), "drop NotAllowed");
    assert_eq!(world.machine.load().transfers_in, 0);
}

#[test]
fn a_capability_is_asked_about_by_what_the_whole_message_names() {
    let mut world = World::new(config(Access { ask_key: true, ask_capability: true, ..Access::default() }));
    world.from(1, PLAIN, &call(1, "ping"));
    world.verdict(0, false);
    world.verdict(1, true);
    world.done(0);
    let lines = upload(&mut world, 1, &frames());
    assert_eq!(lines, ["ask 2 capability tools/call echo"]);
    assert_eq!(world.verdict(2, false), ["ask 3 key c1"]);
    assert_eq!(world.verdict(3, false), ["drop NotAllowed"], "and a private server is silent");
}

#[test]
fn pieces_of_a_session_that_was_encrypted_are_not_taken_in_clear() {
    let mut world = World::new(config(listed()));
    world.from(1, WRAP, &call(1, "ping"));
    for content in frames() {
        assert_eq!(world.from(1, PLAIN, &content), ["drop BelowFloor"]);
    }
    assert!(upload(&mut world, 1, &frames()).len() == 1 && world.machine.load().transfers_in == 0);
}

#[test]
fn a_stranger_of_an_open_server_is_told_a_few_times_a_minute() {
    let limits = Limits { refusals_per_minute: 20, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for nth in 0..100 {
        world.from(1, PLAIN, &start(&format!("t{nth}"), 9, 1));
        world.from(1, PLAIN, &chunk("t", nth + 2, "x"));
        world.from(1, PLAIN, &frame("t", nth + 2, FrameBody::End));
    }
    assert_eq!(world.drafts.len(), 2, "one key has a tenth of the refusals");
    assert_eq!(world.machine.load().stranger_sessions, 0);
}
