//! The application decides about keys and capabilities; no answer means no (T24).
use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::server::Access;
use contextvm_engine::{DropReason, ServerConfig, ServerInput, ServerOutput};
use nostr::event::EventId;

use crate::world::{PLAIN, START, Step, World, call, check, event, machine, opened, told};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;

fn asking_key(announced: bool) -> ServerConfig {
    ServerConfig {
        access: Access { ask_key: true, announced, ..Access::default() },
        ..ServerConfig::default()
    }
}

#[test]
fn silence_is_denial() {
    check(
        asking_key(true),
        &[
            (Step::From(1, PLAIN, PING), &["ask 0 key c1"]),
            (Step::Again(0, PLAIN), &["drop Duplicate"]),
            (Step::Pass(4), &[]),
            (
                Step::Pass(1),
                &[
                    r#"publish 25910 to c1 [e=$0] {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Unauthorized"}}"#,
                    "drop NotAllowed",
                ],
            ),
            (Step::Verdict(0, true), &[]),
        ],
    );
}

#[test]
fn what_a_caller_sends_meanwhile_waits_behind_and_keeps_its_order() {
    check(
        asking_key(false),
        &[
            (Step::From(1, PLAIN, PING), &["ask 0 key c1"]),
            (Step::From(1, PLAIN, LIST), &[]),
            (Step::From(2, PLAIN, PING), &["ask 1 key c2"]),
            (Step::From(1, PLAIN, NOTE), &[]),
            (Step::Verdict(1, false), &["drop NotAllowed"]),
            (Step::Verdict(7, true), &[]),
            (
                Step::Verdict(0, true),
                &[
                    r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"ping"}"#,
                    r#"deliver c1 {"jsonrpc":"2.0","id":"$1","method":"tools/list"}"#,
                    r#"deliver c1 {"jsonrpc":"2.0","method":"notifications/x"}"#,
                ],
            ),
            (Step::From(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/y"}"#), &["ask 2 key c1"]),
        ],
    );
}

#[test]
fn a_capability_is_asked_about_first_and_the_key_afterwards() {
    let access = Access { ask_key: true, ask_capability: true, ..Access::default() };
    check(
        ServerConfig { access, ..ServerConfig::default() },
        &[
            (
                Step::From(1, PLAIN, r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#),
                &["restarted c1", r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"initialize"}"#],
            ),
            (
                Step::From(
                    1,
                    PLAIN,
                    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#,
                ),
                &["ask 0 capability tools/call add"],
            ),
            (
                Step::Verdict(0, true),
                &[r#"deliver c1 {"jsonrpc":"2.0","id":"$1","method":"tools/call","params":{"name":"add"}}"#],
            ),
            (Step::From(1, PLAIN, LIST), &["ask 1 capability tools/list -"]),
            (Step::Verdict(1, false), &["ask 2 key c1"]),
            (Step::Verdict(2, false), &["drop NotAllowed"]),
        ],
    );
}

#[test]
fn the_line_is_bounded_and_half_of_it_is_kept_for_known_callers() {
    let limits = Limits { in_flight: 8, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..asking_key(false) });
    world.from(1, PLAIN, PING);
    world.verdict(0, true);
    for n in 2..6 {
        assert_eq!(world.from(n, PLAIN, PING).len(), 1);
    }
    assert_eq!(world.from(6, PLAIN, PING), ["drop Undecided"]);
    assert!(world.from(1, PLAIN, LIST)[0].starts_with("ask"));
    assert_eq!(world.machine.load().waiting, 5);
    assert_eq!(world.pass(5).len(), 5);
    assert_eq!((world.machine.load().waiting, world.machine.load().waiting_bytes), (0, 0));
}

#[test]
fn waiting_events_take_no_room_in_the_window_of_accepted_ids() {
    let mut world = World::new(asking_key(false));
    for n in 1..20 {
        world.from(n, PLAIN, &call(1, "ping"));
    }
    assert_eq!(world.machine.load().seen_ids, 0);
    world.pass(5);
    assert_eq!(world.machine.load(), contextvm_engine::ServerLoad::default());
}

#[test]
fn a_refusal_names_its_event_however_late_it_is_and_whatever_else_is_handled_then() {
    let mut machine = machine(asking_key(false));
    let moment = |mono| Now { mono: Mono(mono), unix: START };
    let first = event(1, START, &call(1, "ping"), &[]);
    let second = event(2, START, &call(1, "ping"), &[]);
    let ids = [first.id, second.id];
    let refused = |outputs: Vec<ServerOutput>| -> Vec<EventId> {
        let named = outputs.into_iter().filter_map(|output| {
            let ServerOutput::Refused { event, reason: DropReason::NotAllowed } = output else { return None };
            Some(event)
        });
        named.collect()
    };
    let mut gives = |input, mono| refused(told(&mut machine, input, moment(mono)));
    let comes = |event| ServerInput::Opened(Box::new(opened(event, PLAIN, START)));
    assert_eq!(gives(comes(first), 0), []);
    // The first one's time is over when the second one comes.
    assert_eq!(gives(comes(second), 60_000), [ids[0]]);
    assert_eq!(gives(ServerInput::Verdict { question: 1, allow: false }, 60_001), [ids[1]]);
}
