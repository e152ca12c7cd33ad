//! With a store the application hears of nothing before its id is on disk, in the order in which it came.
use contextvm_core::Limits;
use contextvm_engine::server::Access;
use contextvm_engine::{Record, ServerConfig, ServerInput};

use crate::frames::STREAMS;
use crate::world::{PLAIN, WRAP, World, call, public};

const CANCEL: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;

fn durable() -> ServerConfig {
    ServerConfig { durable: true, ..ServerConfig::default() }
}

fn delivered(nth: usize, method: &str) -> String {
    format!(r#"deliver c1 {{"jsonrpc":"2.0","id":"${nth}","method":"{method}"}}"#)
}

fn error(message: &str) -> String {
    format!(
        r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"{message}"}}}}"#
    )
}

#[test]
fn a_request_waits_for_its_own_record_and_its_answer_waits_for_nothing() {
    let mut world = World::new(durable());
    assert_eq!(world.from(1, WRAP, &call(1, "ping")), ["remember 1 $0"]);
    assert_eq!(world.again(0, WRAP), ["drop Duplicate"]);
    assert_eq!((world.machine.load().held, world.machine.load().unremembered), (1, 1));
    assert!(world.remembered(0).is_empty());
    assert_eq!(world.remembered(1), [delivered(0, "ping")]);
    assert!(world.remembered(1).is_empty(), "once");
    let lines = world.done(0);
    assert_eq!((lines.len(), lines[0].as_str()), (2, "remember 2 answer to $0"));
    assert!(lines[1].starts_with("publish 1059 to c1"), "{lines:?}");
    assert_eq!((world.machine.load().held, world.machine.load().unremembered), (0, 1));
}

#[test]
fn without_a_store_nothing_waits_and_nothing_is_remembered() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.from(1, PLAIN, &call(1, "ping")), [delivered(0, "ping")]);
    assert!(world.done(0)[0].starts_with("publish"));
    assert!(world.records.is_empty());
}

#[test]
fn everything_towards_the_application_keeps_its_order() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, NOTE);
    assert_eq!(world.from(1, PLAIN, &call(2, "initialize")), ["remember 3 $2"]);
    assert_eq!(world.from(1, PLAIN, &call(3, "b")), ["remember 4 $3"]);
    assert_eq!(world.machine.load().held, 5);
    let note = format!("deliver c1 {NOTE}");
    assert_eq!(world.remembered(2), [delivered(0, "a"), note, "restarted c1".to_owned()]);
    assert_eq!(world.from(1, PLAIN, &call(4, "c")), ["remember 5 $4"]);
    let rest = world.remembered(5);
    assert_eq!(rest, [delivered(2, "initialize"), delivered(3, "b"), delivered(4, "c")]);
    assert_eq!(world.from(1, PLAIN, &call(5, "d")), ["remember 6 $5"], "the next one waits again");
}

#[test]
fn what_concerns_no_application_does_not_wait() {
    let access = Access { ask_key: true, ..Access::default() };
    let mut world = World::new(ServerConfig { access, ..durable() });
    assert_eq!(world.from(1, PLAIN, &call(1, "a")), ["ask 0 key c1"]);
    assert_eq!(world.verdict(0, true), ["remember 1 $0"]);
    assert_eq!(world.from(2, PLAIN, &call(1, "a")), ["ask 1 key c2"]);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
    assert_eq!(world.app(1, note).len(), 1, "the application may write to a caller");
    assert_eq!(world.remembered(1), [delivered(0, "a")]);
}

#[test]
fn what_was_cancelled_meanwhile_is_not_executed() {
    let mut world = World::new(durable());
    let with_token = r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":1}}}"#;
    assert_eq!(world.tagged(1, PLAIN, with_token, STREAMS), ["remember 1 $0"]);
    assert_eq!(world.from(1, PLAIN, CANCEL), ["remember 2 $1"]);
    assert!(world.remembered(1).is_empty());
    assert_eq!(world.machine.load().in_flight, 0);
    let lines = world.remembered(2);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("notifications/cancelled"), "and no end of a stream that was never offered");
    assert!(world.done(0)[0].starts_with("undeliverable"));
}

#[test]
fn what_was_answered_by_a_timeout_meanwhile_is_not_executed() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, &call(2, "initialize"));
    let lines = world.pass(61);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "remember 3 answer to $0");
    assert!(lines[1].contains("Session restarted"), "{lines:?}");
    assert_eq!(world.remembered(3), ["restarted c1".to_owned(), delivered(1, "initialize")]);
}

#[test]
fn the_end_of_a_session_waits_behind_what_the_session_is_to_hear() {
    let limits = Limits { session_idle: core::time::Duration::from_secs(10), ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..durable() });
    assert_eq!(world.from(1, PLAIN, NOTE), ["remember 1 $0"]);
    assert!(world.pass(20).is_empty());
    assert_eq!(world.machine.load().stranger_sessions, 0);
    assert_eq!(world.remembered(1), [format!("deliver c1 {NOTE}"), "ended c1".to_owned()]);
}

#[test]
fn what_cannot_be_stored_is_answered_with_an_error_and_never_executed() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, NOTE);
    world.from(1, PLAIN, &call(2, "b"));
    let lines = world.handle(ServerInput::Unstored { through: 2 });
    let expected = [
        "remember 4 answer to $0".to_owned(),
        error("Not executed: storage failed"),
        "drop Unstored".to_owned(),
        "drop Unstored".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(world.machine.load().in_flight, 1, "the other one still waits");
    assert_eq!(world.remembered(4), [delivered(2, "b")]);
    let again = world.again(0, PLAIN);
    assert!(again.len() == 1 && again[0].contains("Not executed: storage failed"), "{again:?}");
    assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
}

#[test]
fn a_store_that_fails_does_not_swallow_the_news_of_a_session() {
    let mut world = World::new(durable());
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:b"}}"#;
    world.tagged(1, PLAIN, subscribe, STREAMS);
    world.from(1, PLAIN, &call(2, "initialize"));
    let lines = world.handle(ServerInput::Unstored { through: 2 });
    assert_eq!(lines.iter().filter(|line| *line == "restarted c1").count(), 1, "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("deliver")), "{lines:?}");
    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
    assert!(world.broadcast(update).is_empty(), "nobody is subscribed");
    assert_eq!(world.from(1, PLAIN, &call(3, "c")).len(), 1);
    let last = world.records.len() as u64;
    assert_eq!(world.remembered(last), [delivered(2, "c")], "the store may come back");
}

#[test]
fn a_closed_session_has_nothing_delivered_any_more() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    let lines = world.handle(ServerInput::SessionClosed(public(1)));
    assert!(lines[1].contains("Session closed"), "{lines:?}");
    assert!(world.remembered(2).is_empty());
}

#[test]
fn a_store_that_is_far_behind_makes_nothing_grow() {
    let mut world = World::new(durable());
    let text = "x".repeat(60_000);
    let note = |n: u32| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/n","params":{{"n":{n},"text":"{text}"}}}}"#)
    };
    let mut taken = 0;
    let refused = loop {
        let lines = world.from(1, PLAIN, &note(taken));
        if lines == ["drop Busy"] {
            break taken;
        }
        taken += 1;
    };
    assert!((100..200).contains(&refused), "{refused}");
    assert_eq!(world.again(refused as usize, PLAIN), ["drop Busy"], "it was not accepted");
    assert_eq!(world.from(1, PLAIN, &call(1, "a")), ["drop Busy"]);
    assert_eq!(world.remembered(u64::from(refused)).len(), refused as usize);
    assert_eq!(world.again(refused as usize, PLAIN).len(), 1);
    assert_eq!(world.machine.load().held, 1);
}

#[test]
fn answers_are_given_though_nobody_keeps_them() {
    let mut world = World::new(durable());
    for n in 0..100 {
        world.from(1 + n % 8, PLAIN, &call(n, "a"));
    }
    world.remembered(100);
    let long = "x".repeat(120_000);
    for nth in 0..100 {
        let id = world.events[nth].id.to_hex();
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"text":"{long}"}}}}"#);
        let to = world.events[nth].pubkey;
        world.handle(ServerInput::Send { to, message });
    }
    let kept = world.records.iter().filter(|record| matches!(record, Record::Answered { .. })).count();
    assert_eq!(world.drafts.len(), 100);
    assert!(world.drafts.iter().all(|draft| draft.content.contains("result")));
    assert!((50..90).contains(&kept), "{kept}");
    assert_eq!(world.machine.load().unremembered, kept);
}
